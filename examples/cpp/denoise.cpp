// Denoise an MRC volume: one program for each inference runtime. See README.md.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "model.hpp"
#include "mrc.hpp"
#include "numerics.hpp"

namespace {

const char USAGE[] =
    "usage: %s MODEL.onnx MAP.mrc DENOISED.mrc SOLVENT_MASK.mrc [option ...]\n"
    "  --mask FILE            where the network looks, 0 to 1; else the largest soft sphere\n"
    "  --stride N             distance of the patches in voxels, 1 to 43; else 20\n"
    "  --threads N            of the inference runtime; else as many as it likes\n"
    "  --at-model-voxel-size  the map has the model's voxel size: do not resample it\n";

struct Arguments {
    std::vector<std::string> files;
    std::optional<std::string> mask;
    int stride = 20;
    int threads = 0;
    bool at_model_voxel_size = false;
};

int whole_number(const std::string &text) {
    std::size_t end = 0;
    int number = 0;
    try {
        number = std::stoi(text, &end);
    } catch (const std::exception &) {
        end = 0;
    }
    if (end == 0 || end != text.size())
        throw std::runtime_error(text + " is not a whole number");
    return number;
}

Arguments parse(int count, char **given) {
    Arguments arguments;
    for (int i = 1; i < count; ++i) {
        const std::string word = given[i];
        const auto value = [&]() -> std::string {
            if (i + 1 == count) throw std::runtime_error(word + " needs a value");
            return given[++i];
        };
        if (word == "--mask")
            arguments.mask = value();
        else if (word == "--stride")
            arguments.stride = whole_number(value());
        else if (word == "--threads")
            arguments.threads = whole_number(value());
        else if (word == "--at-model-voxel-size")
            arguments.at_model_voxel_size = true;
        else if (word.rfind("--", 0) == 0)
            throw std::runtime_error("there is no option " + word);
        else
            arguments.files.push_back(word);
    }
    return arguments;
}

blush::Model load(const std::string &path, int threads) {
    try {
        return blush::load_model(path, threads);
    } catch (const std::exception &error) {  // runtimes do not always name the file
        throw std::runtime_error(path + ": " + error.what());
    }
}

void run(const Arguments &arguments) {
    const blush::MrcFile map = blush::read_mrc(arguments.files[1]);
    std::optional<blush::Volume> mask;
    if (arguments.mask) mask = blush::read_mrc(*arguments.mask).volume;
    const blush::Model model = load(arguments.files[0], arguments.threads);
    const blush::Denoised result =
        arguments.at_model_voxel_size
            ? blush::denoise_at_model_voxel_size(model, map.volume, mask, arguments.stride)
            : blush::denoise(model, map.volume, map.voxel_size, mask, arguments.stride);
    blush::write_mrc(arguments.files[2], result.density, map);
    blush::write_mrc(arguments.files[3], result.mask, map);
    std::printf("%d patches, %d skipped, threshold %.3f\n", result.patches, result.skipped,
                result.threshold);
}

// Runtimes' messages run over several lines.
std::string in_one_line(std::string message) {
    while (!message.empty() && message.back() == '\n') message.pop_back();
    std::replace(message.begin(), message.end(), '\n', ' ');
    return message;
}

}  // namespace

int main(int count, char **given) {
    try {
        const Arguments arguments = parse(count, given);
        if (arguments.files.size() != 4) {
            std::fprintf(stderr, USAGE, given[0]);
            return 2;
        }
        run(arguments);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "Error: %s\n", in_one_line(error.what()).c_str());
        return 1;
    }
    return 0;
}
