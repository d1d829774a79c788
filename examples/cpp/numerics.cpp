// The numerics: docs/numerics.md, sections 3, 4 and 6, in the order of that page.
#include "numerics.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

namespace blush {

namespace {

const double PI = 3.14159265358979323846;

// The method's constants: docs/embedding.md, "The constants".
const int SMALLEST_SIDE = 8;
const float SMALLEST_MASK_MAXIMUM = 0.01f;
const int SOFT_EDGE = 6;
const int LOCAL_STD_TAPS = 21;
const double LOCAL_STD_EXTENT = 1.5;
const double STANDARD_DEVIATION_FLOOR = 1e-8;
const int WINDOW_MARGIN = 9;
const double WINDOW_FLOOR = 1e-6;
const double MINIMUM_MASK_MEAN = 0.3;
const float MINIMUM_WEIGHT = 0.1f;
const double TIE = 1e-6;

// A linear map along one axis: convolution and resampling are both of this kind.
struct Matrix {
    int rows, columns;
    std::vector<double> values;

    Matrix(int rows_, int columns_)
        : rows(rows_), columns(columns_), values(std::size_t(rows_) * columns_) {}
    double &operator()(int row, int column) { return values[std::size_t(row) * columns + column]; }
    double operator()(int row, int column) const {
        return values[std::size_t(row) * columns + column];
    }
};

// Where a short axis starts in a long one so that voxel side / 2 falls on voxel side / 2.
int centred(int outer, int inner) { return outer / 2 - inner / 2; }

Shape centred(Shape outer, Shape inner) {
    return {centred(outer[0], inner[0]), centred(outer[1], inner[1]), centred(outer[2], inner[2])};
}

void copy_box(const Volume &from, Shape from_start, Volume &to, Shape to_start, Shape box) {
    for (int z = 0; z < box[0]; ++z)
        for (int y = 0; y < box[1]; ++y) {
            const float *row =
                &from.values[from.index(from_start[0] + z, from_start[1] + y, from_start[2])];
            std::copy(row, row + box[2],
                      &to.values[to.index(to_start[0] + z, to_start[1] + y, to_start[2])]);
        }
}

Volume multiplied_along(const Volume &volume, int axis, const Matrix &matrix) {
    Shape shape = volume.shape;
    shape[axis] = matrix.rows;
    Volume result(shape);
    std::size_t outer = 1, inner = 1;
    for (int i = 0; i < axis; ++i) outer *= shape[i];
    for (int i = axis + 1; i < 3; ++i) inner *= shape[i];
    std::vector<double> row(inner);
    for (int j = 0; j < matrix.rows; ++j) {
        int first = 0, last = matrix.columns;  // a window's matrix is mostly zeros
        while (first < last && matrix(j, first) == 0) ++first;
        while (last > first && matrix(j, last - 1) == 0) --last;
        for (std::size_t o = 0; o < outer; ++o) {
            std::fill(row.begin(), row.end(), 0.0);
            for (int i = first; i < last; ++i) {
                const double weight = matrix(j, i);
                const float *source = &volume.values[(o * matrix.columns + i) * inner];
                for (std::size_t k = 0; k < inner; ++k) row[k] += weight * source[k];
            }
            std::copy(row.begin(), row.end(), &result.values[(o * matrix.rows + j) * inner]);
        }
    }
    return result;
}

double mean_of(const Volume &volume) {
    double sum = 0;
    for (const float value : volume.values) sum += value;
    return sum / double(volume.values.size());
}

void multiply(Volume &volume, const Volume &factor) {
    for (std::size_t i = 0; i < volume.values.size(); ++i) volume.values[i] *= factor.values[i];
}

void require(bool holds, const std::string &otherwise) {
    if (!holds) throw std::runtime_error(otherwise);
}

bool all_finite(const Volume &volume) {
    return std::all_of(volume.values.begin(), volume.values.end(),
                       [](float value) { return std::isfinite(value); });
}

void clip(Volume &mask) {
    for (float &value : mask.values) value = std::clamp(value, 0.0f, 1.0f);
}

}  // namespace

// ---- Section 4, the radial mask and step 1 -------------------------------------------------

Volume radial_mask(int side, double radius, double edge) {
    const double low = radius - std::floor(edge / 2), high = radius + std::floor(edge / 2);
    std::vector<double> squared(side);
    for (int i = 0; i < side; ++i) {
        const double coordinate = -side / 2.0 + i * (side / (side - 1.0));  // both ends included
        squared[i] = coordinate * coordinate;
    }
    Volume mask({side, side, side});
    for (int z = 0; z < side; ++z)
        for (int y = 0; y < side; ++y)
            for (int x = 0; x < side; ++x) {
                const double r = std::sqrt(squared[z] + (squared[y] + squared[x]));
                if (r < low)
                    mask(z, y, x) = 1;
                else if (r <= high)
                    mask(z, y, x) = float(0.5 + 0.5 * std::cos(PI * (r - low) / edge));
            }
    return mask;
}

Volume default_mask(Shape shape) {
    const int longest = std::max({shape[0], shape[1], shape[2]});
    return cropped(radial_mask(longest, (longest - SOFT_EDGE) / 2.0, SOFT_EDGE), shape);
}

// ---- Step 2, small boxes -------------------------------------------------------------------

Shape padded_shape(Shape shape, int patch_size, int stride) {
    if (std::min({shape[0], shape[1], shape[2]}) <= patch_size)
        for (int &side : shape) side = std::max(side, patch_size + stride);
    return shape;
}

Volume padded(const Volume &volume, Shape shape, float fill) {
    Volume result(shape, fill);
    copy_box(volume, {0, 0, 0}, result, centred(shape, volume.shape), volume.shape);
    return result;
}

Volume cropped(const Volume &volume, Shape shape) {
    Volume result(shape);
    copy_box(volume, centred(volume.shape, shape), result, {0, 0, 0}, shape);
    return result;
}

// ---- Step 3, the local standard deviation --------------------------------------------------

static Matrix local_std_window(int side) {
    const int half = LOCAL_STD_TAPS / 2;
    std::vector<double> kernel(LOCAL_STD_TAPS);
    double sum = 0;
    for (int i = 0; i < LOCAL_STD_TAPS; ++i) {
        const double u = LOCAL_STD_EXTENT * (i - half) / half;
        sum += kernel[i] = std::exp(-u * u);
    }
    Matrix window(side, side);  // zeros outside the box: what would reach there is left out
    for (int row = 0; row < side; ++row)
        for (int i = 0; i < LOCAL_STD_TAPS; ++i) {
            const int column = row + i - half;
            if (0 <= column && column < side) window(row, column) = kernel[i] / sum;
        }
    return window;
}

Volume local_std(const Volume &volume) {
    std::vector<Matrix> windows;
    std::array<std::vector<double>, 3> coverage;  // share of the window inside the box
    for (int axis = 0; axis < 3; ++axis) {
        windows.push_back(local_std_window(volume.shape[axis]));
        const Matrix &window = windows.back();
        for (int row = 0; row < window.rows; ++row) {
            double sum = 0;
            for (int column = 0; column < window.columns; ++column) sum += window(row, column);
            coverage[axis].push_back(sum);
        }
    }
    const double offset = mean_of(volume);
    Volume average = volume;
    for (float &value : average.values) value -= float(offset);
    Volume variance = average;
    multiply(variance, average);
    for (int axis = 0; axis < 3; ++axis) {
        average = multiplied_along(average, axis, windows[axis]);
        variance = multiplied_along(variance, axis, windows[axis]);
    }
    for (int z = 0; z < volume.shape[0]; ++z)
        for (int y = 0; y < volume.shape[1]; ++y)
            for (int x = 0; x < volume.shape[2]; ++x) {
                const double c = coverage[0][z] * coverage[1][y] * coverage[2][x];
                const double a = average(z, y, x);
                const double share = (1 - c) * (2 * offset * a + offset * offset * c);
                const double found = variance(z, y, x) - a * a + share;
                variance(z, y, x) = float(std::sqrt(std::max(found, 0.0)));
            }
    return variance;
}

// ---- Step 4, standardising -----------------------------------------------------------------

std::pair<double, double> mean_and_std(const Volume &volume) {
    const double mean = mean_of(volume);
    double squares = 0;
    for (const float value : volume.values) squares += (value - mean) * (value - mean);
    return {mean, std::sqrt(squares / (double(volume.values.size()) - 1))};
}

// ---- Steps 5 and 6, patches and blending ---------------------------------------------------

std::vector<int> axis_origins(int side, int patch_size, int stride) {
    std::vector<int> origins;
    for (int origin = 0; origin < side - patch_size; origin += stride) origins.push_back(origin);
    origins.push_back(side - patch_size);
    return origins;
}

Volume blending_window(int patch_size) {
    const int inner = patch_size - 2 * WINDOW_MARGIN, half = inner / 2;
    std::vector<double> profile(patch_size, 0.0);
    for (int i = 0; i < inner; ++i) {
        const double distance = std::abs(-half + i * (2.0 * half / (inner - 1)));
        profile[WINDOW_MARGIN + i] = std::cos(PI / 2 * distance / half);
    }
    Volume window({patch_size, patch_size, patch_size});
    for (int z = 0; z < patch_size; ++z)
        for (int y = 0; y < patch_size; ++y)
            for (int x = 0; x < patch_size; ++x)  // the largest distance has the smallest cosine
                window(z, y, x) = float(
                    std::max(std::min({profile[z], profile[y], profile[x]}), WINDOW_FLOOR));
    return window;
}

static Volume patch_of(const Volume &volume, Shape origin, Shape shape) {
    Volume patch(shape);
    copy_box(volume, origin, patch, {0, 0, 0}, shape);
    return patch;
}

// total += patch * window, at the patch's place; with no patch, total += window.
static void add_patch(Volume &total, Shape origin, const Volume *patch, const Volume &window) {
    const Shape shape = window.shape;
    for (int z = 0; z < shape[0]; ++z)
        for (int y = 0; y < shape[1]; ++y)
            for (int x = 0; x < shape[2]; ++x)
                total(origin[0] + z, origin[1] + y, origin[2] + x) +=
                    window(z, y, x) * (patch ? (*patch)(z, y, x) : 1.0f);
}

Plan plan_patches(const Volume &mask, int patch_size, int stride) {
    std::vector<Shape> origins;
    for (const int z : axis_origins(mask.shape[0], patch_size, stride))
        for (const int y : axis_origins(mask.shape[1], patch_size, stride))
            for (const int x : axis_origins(mask.shape[2], patch_size, stride))
                origins.push_back({z, y, x});
    Plan plan;
    plan.window = blending_window(patch_size);
    plan.weight = Volume(mask.shape);
    plan.threshold = MINIMUM_MASK_MEAN;
    std::vector<double> means;
    Volume reach(mask.shape);
    for (const Shape &origin : origins) {
        means.push_back(mean_of(patch_of(mask, origin, plan.window.shape)));
        add_patch(reach, origin, nullptr, plan.window);
    }

    std::vector<bool> taken(origins.size(), false);
    const auto take_from = [&](double least) {
        for (std::size_t i = 0; i < origins.size(); ++i)
            if (!taken[i] && means[i] >= least) {
                taken[i] = true;
                add_patch(plan.weight, origins[i], nullptr, plan.window);
            }
    };
    const auto misses_a_voxel = [&] {
        for (std::size_t i = 0; i < mask.values.size(); ++i)
            if (mask.values[i] >= 0.5f && reach.values[i] >= MINIMUM_WEIGHT &&
                plan.weight.values[i] < MINIMUM_WEIGHT)
                return true;
        return false;
    };
    const auto highest_left = [&] {
        double highest = 0;
        for (std::size_t i = 0; i < means.size(); ++i)
            if (!taken[i]) highest = std::max(highest, means[i]);
        return highest;
    };

    take_from(MINIMUM_MASK_MEAN);
    while (misses_a_voxel() && highest_left() > 0) {
        plan.threshold = highest_left();
        take_from(plan.threshold - TIE);
    }
    if (std::find(taken.begin(), taken.end(), true) == taken.end()) {
        plan.threshold = highest_left();  // a mask that is below one half everywhere
        take_from(plan.threshold - TIE);
    }
    for (std::size_t i = 0; i < origins.size(); ++i)
        if (taken[i]) plan.origins.push_back(origins[i]);
    plan.skipped = int(origins.size() - plan.origins.size());
    return plan;
}

static std::pair<Volume, Volume> blended(const Model &model, const Volume &volume,
                                         const Volume &local_std, const Plan &plan) {
    const Shape patch = plan.window.shape;
    Volume density_sum(volume.shape), mask_sum(volume.shape), density(patch), logit(patch);
    for (const Shape &origin : plan.origins) {
        model.network(patch_of(volume, origin, patch), patch_of(local_std, origin, patch), density,
                      logit);
        require(all_finite(density), "the network returned values that are not finite");
        for (float &value : logit.values) value = 1 / (1 + std::exp(-value));
        add_patch(density_sum, origin, &density, plan.window);
        add_patch(mask_sum, origin, &logit, plan.window);
    }
    for (std::size_t i = 0; i < volume.values.size(); ++i) {
        const float weight = plan.weight.values[i];
        density_sum.values[i] = weight >= MINIMUM_WEIGHT ? density_sum.values[i] / weight : 0;
        mask_sum.values[i] = weight >= MINIMUM_WEIGHT ? mask_sum.values[i] / weight : 0;
    }
    return {std::move(density_sum), std::move(mask_sum)};
}

// ---- Section 4, all steps ------------------------------------------------------------------

static void check(const Volume &volume, const std::optional<Volume> &mask, int stride,
                  int patch_size) {
    require(std::min({volume.shape[0], volume.shape[1], volume.shape[2]}) >= SMALLEST_SIDE,
            "the map has a side of fewer than 8 voxels");
    require(all_finite(volume), "the map has values that are not finite");
    const auto [low, high] = std::minmax_element(volume.values.begin(), volume.values.end());
    require(*low < *high, "the map is constant: there is nothing to denoise");
    const int largest_stride = patch_size - 2 * (WINDOW_MARGIN + 1) - 1;
    require(1 <= stride && stride <= largest_stride,
            "the stride is out of range: give 1 to " + std::to_string(largest_stride));
    if (!mask) return;
    require(mask->shape == volume.shape, "the mask has another box than the map");
    require(all_finite(*mask), "the mask has values that are not finite");
    require(*std::max_element(mask->values.begin(), mask->values.end()) >= SMALLEST_MASK_MAXIMUM,
            "the mask is empty");
}

Denoised denoise_at_model_voxel_size(const Model &model, const Volume &given,
                                     const std::optional<Volume> &given_mask, int stride) {
    check(given, given_mask, stride, model.patch_size);
    Volume mask = given_mask ? *given_mask : default_mask(given.shape);            // step 1
    clip(mask);
    const Shape shape = padded_shape(given.shape, model.patch_size, stride);        // step 2
    Volume volume = padded(given, shape, 0);
    mask = padded(mask, shape, 0);

    Volume deviations = local_std(volume);                                          // step 3
    const float mean_deviation = float(mean_of(deviations));
    for (float &value : deviations.values) value /= mean_deviation;

    const auto [mean, deviation] = mean_and_std(volume);                            // step 4
    const float offset = float(mean), scale = float(deviation + STANDARD_DEVIATION_FLOOR);
    for (float &value : volume.values) value = (value - offset) / scale;
    multiply(volume, mask);
    multiply(deviations, mask);

    const Plan plan = plan_patches(mask, model.patch_size, stride);                 // step 5
    auto [density, solvent_mask] = blended(model, volume, deviations, plan);        // step 6
    multiply(density, mask);
    multiply(solvent_mask, mask);
    if (!model.has_mask) std::fill(solvent_mask.values.begin(), solvent_mask.values.end(), 1.0f);

    for (float &value : density.values) value = value * scale + offset;             // step 7
    clip(solvent_mask);
    return {cropped(density, given.shape), cropped(solvent_mask, given.shape),
            int(plan.origins.size()), plan.skipped, plan.threshold};
}

// ---- Section 3, rescaling ------------------------------------------------------------------

int rescaled_side(int side, double voxel_size, double target_voxel_size) {
    const double length = side * voxel_size;
    const int nearest = int(std::nearbyint(length / target_voxel_size));  // halves to even
    if (nearest % 2 == 0) return std::max(nearest, 2);
    const int below = nearest - 1, above = nearest + 1;
    if (below == 0) return above;
    const bool above_wins = std::abs(length / above - target_voxel_size) <
                            std::abs(length / below - target_voxel_size);
    return above_wins ? above : below;
}

// Transform, crop or pad, and transform back along one axis are one complex matrix: the sum over
// the kept k of weight(k) * exp(2 pi i k (j / to - i / from)) / from.
static std::pair<Matrix, Matrix> resampling(int from, int to, int first_k, int last_k,
                                            const std::function<double(int)> &weight) {
    Matrix real(to, from), imaginary(to, from);
    for (int j = 0; j < to; ++j)
        for (int i = 0; i < from; ++i)
            for (int k = first_k; k <= last_k; ++k) {
                const std::int64_t period = std::int64_t(from) * to;
                const std::int64_t turns = k * (std::int64_t(j) * from - std::int64_t(i) * to);
                const double angle = 2 * PI * double(turns % period) / double(period);
                real(j, i) += weight(k) * std::cos(angle) / from;
                imaginary(j, i) += weight(k) * std::sin(angle) / from;
            }
    return {real, imaginary};
}

static Volume combined(Volume first, const Volume &second, float sign) {
    for (std::size_t i = 0; i < first.values.size(); ++i)
        first.values[i] += sign * second.values[i];
    return first;
}

Volume rescaled(const Volume &cube, int side) {
    const int old = cube.shape[0], kept = std::min(old, side);
    if (side == old) return cube;
    // z and y: from -kept / 2, which stands alone, to kept / 2 - 1.
    const auto [c, s] = resampling(old, side, -kept / 2, kept / 2 - 1, [](int) { return 1.0; });
    // x: half a spectrum, in which all but 0 and the new Nyquist frequency stand for their mates.
    const auto [cx, sx] = resampling(old, side, 0, kept / 2, [side](int k) {
        return k == 0 || 2 * k == side ? 1.0 : 2.0;
    });
    const Volume real_z = multiplied_along(cube, 0, c), imaginary_z = multiplied_along(cube, 0, s);
    const Volume real = combined(multiplied_along(real_z, 1, c),
                                 multiplied_along(imaginary_z, 1, s), -1);
    const Volume imaginary = combined(multiplied_along(real_z, 1, s),
                                      multiplied_along(imaginary_z, 1, c), 1);
    return combined(multiplied_along(real, 2, cx), multiplied_along(imaginary, 2, sx), -1);
}

// ---- Section 6, boxes that are not even cubes, and the whole ---------------------------------

static float border_median(const Volume &volume) {
    const auto [depth, height, width] = volume.shape;
    std::vector<float> border;
    for (int z = 0; z < depth; ++z)
        for (int y = 0; y < height; ++y)
            for (int x = 0; x < width; ++x)
                if (z == 0 || z == depth - 1 || y == 0 || y == height - 1 || x == 0 ||
                    x == width - 1)
                    border.push_back(volume(z, y, x));
    std::sort(border.begin(), border.end());
    const std::size_t half = border.size() / 2;
    return border.size() % 2 ? border[half] : (border[half - 1] + border[half]) / 2;
}

Denoised denoise(const Model &model, const Volume &volume, double voxel_size,
                 const std::optional<Volume> &given_mask, int stride) {
    check(volume, given_mask, stride, model.patch_size);
    const int longest = std::max({volume.shape[0], volume.shape[1], volume.shape[2]});
    const int side = longest + longest % 2;
    const int model_side = rescaled_side(side, voxel_size, model.voxel_size);
    require(model_side >= SMALLEST_SIDE, "the box is too short for the network");
    const Shape cube{side, side, side};

    std::optional<Volume> mask = given_mask;
    if (mask) {
        clip(*mask);
        mask = rescaled(padded(*mask, cube, 0), model_side);
        clip(*mask);
    }
    const Volume model_volume =
        rescaled(padded(volume, cube, border_median(volume)), model_side);
    Denoised result = denoise_at_model_voxel_size(model, model_volume, mask, stride);
    result.density = cropped(rescaled(result.density, side), volume.shape);
    result.mask = rescaled(result.mask, side);
    clip(result.mask);
    result.mask = cropped(result.mask, volume.shape);
    return result;
}

}  // namespace blush
