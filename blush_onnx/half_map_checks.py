"""Whether half-maps look as they came out of refinement: unmasked, unfiltered, unsharpened.

The network was made for such maps, and the FSC of others means little. These
are heuristics: they warn in plain words and change nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blush_onnx import fourier
from blush_onnx.boxes import EvenCube
from blush_onnx.fsc import FscCurves

Array = npt.NDArray[np.float32]

CONSTANT_FRACTION = 0.05
FILTERED_POWER_RATIO = 1e-4
NYQUIST_THRESHOLD = 0.143
GUINIER_FROM_ANGSTROM = 10.0
GUINIER_MINIMUM_SHELLS = 5
SHARPENED_B = -5.0


def half_map_warnings(first: Array, second: Array, curves: FscCurves) -> list[str]:
    """What looks wrong with two half-maps.

    Parameters
    ----------
    first, second : array, (z, y, x), float32
    curves : FscCurves
        Of the two.

    Returns
    -------
    list of str
        Sentences for the user; empty where nothing was noticed.
    """
    found = [
        message
        for number, half in enumerate((first, second), 1)
        for message in (
            _looks_masked(half, f"half-map {number}"),
            *_spectrum_warnings(half, curves, f"half-map {number}"),
        )
        if message
    ]
    if (curves.decisive[1:] >= NYQUIST_THRESHOLD).all():
        found.append(
            f"the FSC does not fall below {NYQUIST_THRESHOLD} before Nyquist "
            f"({2 * curves.voxel_size:.2f} Å): the halves may share a mask, a filter or "
            "particles, or the voxels are too large for the resolution"
        )
    return found


def radial_power(volume: Array) -> npt.NDArray[np.float64]:
    """Mean power a shell of a volume in its even cube.

    Parameters
    ----------
    volume : array, (z, y, x), float32

    Returns
    -------
    array, (side // 2 + 1,), float64
    """
    box = EvenCube.around(volume.shape)
    spectrum = fourier.forward(box.pad_volume(volume))
    power, count = fourier.sum_by_shell(
        box.side,
        lambda z: np.square(np.abs(spectrum[z]), dtype=np.float64),
        lambda z: np.ones(spectrum[z].shape),
    )
    return np.asarray(power / count)


def _looks_masked(half: Array, name: str) -> str | None:
    fraction = float(np.mean(half == half[0, 0, 0]))
    if fraction <= CONSTANT_FRACTION:
        return None
    return (
        f"{name} looks masked: {fraction:.0%} of its voxels have exactly the same value; "
        "use the half-maps as refinement wrote them (unless this is only a sphere around the "
        "particle)"
    )


def _spectrum_warnings(half: Array, curves: FscCurves, name: str) -> list[str]:
    power = radial_power(half)
    if len(power) != len(curves.decisive):
        return []
    found = []
    below = np.flatnonzero(curves.decisive[1:] < NYQUIST_THRESHOLD) + 1
    edge = int(below[0]) if below.size else len(power) - 1
    tail = np.median(power[-max(len(power) // 10, 1) :])
    if tail < FILTERED_POWER_RATIO * power[max(edge - 1, 1)]:
        found.append(
            f"{name} looks low-pass filtered: there is next to no power near Nyquist; "
            "use the unfiltered half-maps"
        )
    shells = np.arange(len(power))
    length = curves.box_size * curves.voxel_size
    reliable = (curves.decisive > 0.5) & (shells > length / GUINIER_FROM_ANGSTROM)
    if np.count_nonzero(reliable) >= GUINIER_MINIMUM_SHELLS:
        slope = np.polyfit((shells[reliable] / length) ** 2, np.log(power[reliable]) / 2, 1)[0]
        if -4 * slope < SHARPENED_B:
            found.append(
                f"{name} looks sharpened: its amplitudes rise beyond "
                f"{GUINIER_FROM_ANGSTROM:g} Å (B = {-4 * slope:.0f} Å²); use the unsharpened "
                "half-maps"
            )
    return found
