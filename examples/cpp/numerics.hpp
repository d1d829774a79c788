// Everything around the network. Sections and steps are those of docs/numerics.md.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "model.hpp"
#include "volume.hpp"

namespace blush {

struct Plan {
    std::vector<Shape> origins;  // of the patches taken, z outermost
    int skipped = 0;
    double threshold = 0;  // smallest mean of the mask that was let in
    Volume window;         // a patch's weights in the blend
    Volume weight;         // their sum over the patches taken
};

struct Denoised {
    Volume density;
    Volume mask;  // solvent mask, 0 to 1
    int patches = 0;
    int skipped = 0;
    double threshold = 0;
};

// The whole: any box of at least 8 voxels a side, any voxel size (sections 3, 4 and 6).
Denoised denoise(const Model &model, const Volume &volume, double voxel_size,
                 const std::optional<Volume> &mask, int stride);

// Section 4: a volume that has the model's voxel size already, any three sides.
Denoised denoise_at_model_voxel_size(const Model &model, const Volume &volume,
                                     const std::optional<Volume> &mask, int stride);

// The parts, in the order in which section 4 needs them.
Volume radial_mask(int side, double radius, double edge);
Volume default_mask(Shape shape);
Shape padded_shape(Shape shape, int patch_size, int stride);
Volume padded(const Volume &volume, Shape shape, float fill);
Volume cropped(const Volume &volume, Shape shape);
Volume local_std(const Volume &volume);
std::pair<double, double> mean_and_std(const Volume &volume);
Volume blending_window(int patch_size);
std::vector<int> axis_origins(int side, int patch_size, int stride);
Plan plan_patches(const Volume &mask, int patch_size, int stride);

// Section 3, by direct sums along each axis in place of Fourier transforms.
int rescaled_side(int side, double voxel_size, double target_voxel_size);
Volume rescaled(const Volume &cube, int side);

}  // namespace blush
