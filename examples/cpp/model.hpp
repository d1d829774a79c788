// A model on an inference runtime. Each front (openvino.cpp, onnxruntime.cpp) defines load_model.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>

#include "volume.hpp"

namespace blush {

// Evaluates one patch: grid and local_std in, density and mask_logit out, all (P, P, P).
// A model without a mask leaves mask_logit alone.
using Network = std::function<void(const Volume &grid, const Volume &local_std, Volume &density,
                                   Volume &mask_logit)>;

struct Model {
    double voxel_size = 0;  // that the network works at, in angstrom
    int patch_size = 0;     // P, voxels
    bool has_mask = false;
    Network network;
};

Model load_model(const std::string &path, int threads);

// What the graph says of itself. `lookup` gives a key's value, or nothing where there is none.
inline Model describe(const std::function<std::string(const std::string &)> &lookup) {
    const auto value = [&lookup](const std::string &key) {
        const std::string found = lookup("blush_onnx." + key);
        if (found.empty())
            throw std::runtime_error("not a model of blush-onnx: no metadata for " + key);
        return found;
    };
    // The version stands for the constants in numerics.cpp, too.
    if (value("schema_version") != "1")
        throw std::runtime_error("the model has schema version " + value("schema_version") +
                                 ", this program reads 1");
    Model model;
    model.voxel_size = std::stod(value("voxel_size"));
    model.patch_size = std::stoi(value("patch_size"));
    model.has_mask = value("has_mask") == "true";
    return model;
}

}  // namespace blush
