// A volume: float32, axes (z, y, x), x fastest, as in MRC files and in the network's tensors.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

namespace blush {

using Shape = std::array<int, 3>;  // z, y, x; also a voxel's place

struct Volume {
    Shape shape{0, 0, 0};
    std::vector<float> values;

    Volume() = default;
    explicit Volume(Shape sides, float fill = 0)
        : shape(sides), values(std::size_t(sides[0]) * sides[1] * sides[2], fill) {}

    std::size_t index(int z, int y, int x) const {
        return (std::size_t(z) * shape[1] + y) * shape[2] + x;
    }
    float &operator()(int z, int y, int x) { return values[index(z, y, x)]; }
    float operator()(int z, int y, int x) const { return values[index(z, y, x)]; }
};

}  // namespace blush
