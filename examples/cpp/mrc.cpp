#include "mrc.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <stdexcept>

namespace blush {

namespace {

const std::size_t HEADER = 1024;
const int LARGEST_SIDE = 4096;
enum At { NX = 0, MODE = 12, MX = 28, CELL = 40, MAPC = 64, DMIN = 76, NSYMBT = 92, EXTTYP = 104,
          MAP = 208, MACHST = 212, RMS = 216, NLABL = 220, LABELS = 224 };

template <class T>
T get(const std::array<char, HEADER> &header, int at) {
    T value;
    std::memcpy(&value, &header[at], sizeof value);
    return value;
}

template <class T>
void put(std::array<char, HEADER> &header, int at, T value) {
    std::memcpy(&header[at], &value, sizeof value);
}

template <class T>
std::vector<float> values_of(const std::vector<char> &bytes) {
    std::vector<T> stored(bytes.size() / sizeof(T));
    std::memcpy(stored.data(), bytes.data(), stored.size() * sizeof(T));
    return {stored.begin(), stored.end()};
}

void require(bool holds, const std::string &path, const std::string &otherwise) {
    if (!holds) throw std::runtime_error(path + ": " + otherwise);
}

std::size_t bytes_a_voxel(int mode, const std::string &path) {
    require(mode == 0 || mode == 1 || mode == 2 || mode == 6, path,
            "mode " + std::to_string(mode) + ": expected 0, 1, 2 or 6 (integers or float32)");
    return mode == 0 ? 1 : mode == 2 ? 4 : 2;
}

Shape shape_of(const std::array<char, HEADER> &header, const std::string &path) {
    Shape shape;
    for (int axis = 0; axis < 3; ++axis) {
        require(get<std::int32_t>(header, MAPC + 4 * axis) == axis + 1, path,
                "axes in another order than x, y, z: write it anew with another program");
        const int side = get<std::int32_t>(header, NX + 4 * axis);
        require(1 <= side && side <= LARGEST_SIDE, path, "the header's sides make no sense");
        shape[2 - axis] = side;
    }
    return shape;
}

double voxel_size_of(const std::array<char, HEADER> &header, const std::string &path) {
    std::array<double, 3> sizes;
    for (int axis = 0; axis < 3; ++axis)
        sizes[axis] = get<float>(header, CELL + 4 * axis) /
                      double(std::max(get<std::int32_t>(header, MX + 4 * axis), 1));
    const auto [low, high] = std::minmax_element(sizes.begin(), sizes.end());
    require(0.3 <= *low && *high <= 8 && *high - *low <= 1e-3 * *low, path,
            "the voxel size is unset, absurd, or differs along the axes");
    return sizes[0];
}

}  // namespace

MrcFile read_mrc(const std::string &path) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    require(bool(file), path, "cannot be read");
    const auto size = std::size_t(file.tellg());
    require(size >= HEADER, path, "not an MRC file");
    MrcFile found;
    file.seekg(0).read(found.header.data(), HEADER);
    require(found.header[MACHST] != 0x11, path, "big-endian, which this example does not read");
    const int mode = get<std::int32_t>(found.header, MODE);
    const Shape shape = shape_of(found.header, path);
    const int extended = get<std::int32_t>(found.header, NSYMBT);
    const std::size_t count = std::size_t(shape[0]) * shape[1] * shape[2];
    std::vector<char> bytes;
    const std::size_t expected = count * bytes_a_voxel(mode, path);
    require(extended >= 0 && size == HEADER + std::size_t(extended) + expected, path,
            "its length does not fit its header");
    bytes.resize(expected);
    file.seekg(std::streamoff(HEADER) + extended);
    require(bool(file.read(bytes.data(), std::streamsize(expected))), path, "cannot be read");
    found.volume.shape = shape;
    found.volume.values = mode == 0   ? values_of<std::int8_t>(bytes)
                          : mode == 1 ? values_of<std::int16_t>(bytes)
                          : mode == 6 ? values_of<std::uint16_t>(bytes)
                                      : values_of<float>(bytes);
    found.voxel_size = voxel_size_of(found.header, path);
    return found;
}

void write_mrc(const std::string &path, const Volume &volume, const MrcFile &like) {
    std::array<char, HEADER> header = like.header;
    const auto [low, high] = std::minmax_element(volume.values.begin(), volume.values.end());
    double mean = 0, squares = 0;
    for (const float value : volume.values) mean += value / double(volume.values.size());
    for (const float value : volume.values) squares += (value - mean) * (value - mean);
    put<std::int32_t>(header, MODE, 2);
    put<std::int32_t>(header, NSYMBT, 0);  // the extended header is not copied
    put<std::int32_t>(header, EXTTYP, 0);
    put<float>(header, DMIN, *low);
    put<float>(header, DMIN + 4, *high);
    put<float>(header, DMIN + 8, float(mean));
    put<float>(header, RMS, float(std::sqrt(squares / double(volume.values.size()))));
    std::memcpy(&header[MAP], "MAP \x44\x44\0", 8);
    const int labels = std::clamp(get<std::int32_t>(header, NLABL), 0, 9);
    const std::string label = "denoised by examples/cpp of blush-onnx";
    std::fill_n(&header[LABELS + 80 * labels], 80, ' ');
    std::copy(label.begin(), label.end(), &header[LABELS + 80 * labels]);
    put<std::int32_t>(header, NLABL, labels + 1);

    std::ofstream file(path, std::ios::binary);
    file.write(header.data(), HEADER);
    file.write(reinterpret_cast<const char *>(volume.values.data()),
               std::streamsize(volume.values.size() * sizeof(float)));
    file.close();
    require(bool(file), path, "cannot be written");
}

}  // namespace blush
