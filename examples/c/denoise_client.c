/* Denoise a half-map from C: a client of `blush-onnx serve --socket PATH`.
 *
 *     cc -O2 -o denoise_client denoise_client.c
 *     ./denoise_client SOCKET HALF.raw SIDE VOXEL_SIZE FSC.txt OUT.raw
 *
 * HALF.raw has SIDE^3 float32 values, z slowest; FSC.txt SIDE/2 + 1 numbers. The half-map
 * goes to the server inline, the result comes back in shared memory: both ways of the protocol
 * (docs/serving.md). Little-endian machines only.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char MAGIC[8] = {'B', 'L', 'U', 'S', 'H', 0, 0, 1};

static char memory_name[64];

static void remove_memory(void)
{
    if (*memory_name)
        shm_unlink(memory_name);
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void send_all(int server, const void *data, size_t count)
{
    const char *at = data;
    while (count) {
        ssize_t sent = write(server, at, count);
        if (sent <= 0)
            fail("the server is gone");
        at += sent;
        count -= (size_t)sent;
    }
}

static void receive_all(int server, void *data, size_t count)
{
    char *at = data;
    while (count) {
        ssize_t got = read(server, at, count);
        if (got <= 0)
            fail("the server is gone");
        at += got;
        count -= (size_t)got;
    }
}

static void send_message(int server, const char *header, const void *payload, uint64_t bytes)
{
    uint32_t length = (uint32_t)strlen(header);
    send_all(server, MAGIC, sizeof MAGIC);
    send_all(server, &length, sizeof length);
    send_all(server, &bytes, sizeof bytes);
    send_all(server, header, length);
    send_all(server, payload, bytes);
}

/* The header as a string that the caller frees; what volumes come inline is thrown away. */
static char *receive_message(int server)
{
    char magic[8], rest[4096];
    uint32_t length;
    uint64_t bytes;
    receive_all(server, magic, sizeof magic);
    receive_all(server, &length, sizeof length);
    receive_all(server, &bytes, sizeof bytes);
    if (memcmp(magic, MAGIC, sizeof magic) || length > 1 << 20) {
        fputs("that is no server of protocol 1\n", stderr);
        exit(1);
    }
    char *header = calloc(length + 1, 1);
    if (!header)
        fail("no memory");
    receive_all(server, header, length);
    while (bytes) {
        size_t part = bytes < sizeof rest ? (size_t)bytes : sizeof rest;
        receive_all(server, rest, part);
        bytes -= part;
    }
    return header;
}

static char *read_file(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail(path);
    fseek(file, 0, SEEK_END);
    *bytes = (size_t)ftell(file);
    rewind(file);
    char *content = calloc(*bytes + 1, 1);
    if (!content || fread(content, 1, *bytes, file) != *bytes)
        fail(path);
    fclose(file);
    return content;
}

int main(int count, char **words)
{
    if (count != 7) {
        fputs("denoise_client SOCKET HALF.raw SIDE VOXEL_SIZE FSC.txt OUT.raw\n", stderr);
        return 2;
    }
    long side = atol(words[3]);
    size_t bytes, text_bytes, volume = (size_t)(side * side * side) * sizeof(float);
    char *half_map = read_file(words[2], &bytes), *curve = read_file(words[5], &text_bytes);
    if (bytes != volume) {
        fprintf(stderr, "%s has %zu bytes, not %zu\n", words[2], bytes, volume);
        return 1;
    }
    /* The numbers with the commas of JSON between them. */
    char *numbers = calloc(text_bytes + 1, 1);
    if (!numbers)
        fail("no memory");
    for (char *word = strtok(curve, " \n\t\r"); word; word = strtok(NULL, " \n\t\r"))
        sprintf(numbers + strlen(numbers), "%s%s", *numbers ? "," : "", word);

    int server = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(words[1]) >= sizeof address.sun_path) {
        fprintf(stderr, "%s is too long for a socket\n", words[1]);
        return 1;
    }
    strcpy(address.sun_path, words[1]);
    signal(SIGPIPE, SIG_IGN);
    if (server < 0 || connect(server, (struct sockaddr *)&address, sizeof address))
        fail(words[1]);
    char *header = receive_message(server);
    fprintf(stderr, "%s\n", header);
    free(header);

    /* Room for the result: a named piece of shared memory, which Linux shows under /dev/shm. */
    char path[80];
    snprintf(memory_name, sizeof memory_name, "/denoise_client_%ld", (long)getpid());
    snprintf(path, sizeof path, "/dev/shm%s", memory_name);
    int memory = shm_open(memory_name, O_RDWR | O_CREAT | O_EXCL, 0600);
    atexit(remove_memory);
    if (memory < 0 || ftruncate(memory, (off_t)volume))
        fail("shared memory");
    float *result = mmap(NULL, volume, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (result == MAP_FAILED)
        fail("shared memory");

    size_t room = text_bytes + 1024;
    char *request = malloc(room);
    if (!request)
        fail("no memory");
    snprintf(request, room,
             "{\"id\": 1, \"do\": \"regularise_half\","
             " \"arguments\": {\"voxel_size\": %s, \"fsc\": [%s]},"
             " \"volumes\": [{\"name\": \"half_map\", \"shape\": [%ld, %ld, %ld]}],"
             " \"results\": [{\"name\": \"map\", \"shape\": [%ld, %ld, %ld], \"file\": \"%s\"}]}",
             words[4], numbers, side, side, side, side, side, side, path);
    send_message(server, request, half_map, volume);

    int status = 1;
    for (;;) { /* a real host would parse the JSON; here a look for the state does */
        header = receive_message(server);
        if (!strstr(header, "\"state\": \"progress\""))
            break;
        fprintf(stderr, "%s\n", header);
        free(header);
    }
    fprintf(stderr, "%s\n", header);
    if (strstr(header, "\"state\": \"done\"")) {
        FILE *out = fopen(words[6], "wb");
        if (!out || fwrite(result, 1, volume, out) != volume || fclose(out))
            fail(words[6]);
        status = 0;
    }
    return status;
}
