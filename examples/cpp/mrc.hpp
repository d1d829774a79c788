// MRC volumes, no more of the format than this example needs: docs/embedding.md says what.
#pragma once

#include <array>
#include <string>

#include "volume.hpp"

namespace blush {

struct MrcFile {
    std::array<char, 1024> header{};
    Volume volume;
    double voxel_size = 0;  // angstrom, the same along all axes
};

MrcFile read_mrc(const std::string &path);

// On the grid of another map: voxel size, origin and labels are its own.
void write_mrc(const std::string &path, const Volume &volume, const MrcFile &like);

}  // namespace blush
