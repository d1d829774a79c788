"""A host that leaves the network to a process of its own, which stays warm between iterations.

    python examples/python/served_denoiser.py

Any language can do the same: docs/serving.md has the protocol, examples/c a client without
any library.
"""

from __future__ import annotations

import numpy as np

from blush_onnx.server.client import Client

SIDE, VOXEL_SIZE = 48, 1.5


def main(arguments: tuple[str, ...] = ()) -> list[float]:
    """Denoise three rounds of noise about one blob; errors of the results over the inputs'."""
    axis = np.arange(SIDE) - SIDE // 2
    squared = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    truth = np.exp(-squared / 60).astype(np.float32)
    fsc = np.exp(-np.arange(SIDE // 2 + 1) / 6.0).tolist()
    ratios = []
    with Client.start(arguments) as client:  # or Client.connect(PATH)
        print("{model} on {provider}, {library}".format(**client.server))
        for iteration in range(3):
            rng = np.random.default_rng(iteration)
            half_map = truth + rng.normal(0, 0.3, truth.shape).astype(np.float32)
            answer = client.call(
                "regularise_half", {"half_map": half_map}, voxel_size=VOXEL_SIZE, fsc=fsc,
                particle_diameter=60.0,
            )
            error, before = answer.volumes["map"] - truth, half_map - truth
            ratios.append(float(np.linalg.norm(error) / np.linalg.norm(before)))
            print(f"iteration {iteration + 1}: cut off at "
                  f"{answer.header['result']['cut_off_angstrom']:.1f} Å")
    return ratios


if __name__ == "__main__":
    main()
