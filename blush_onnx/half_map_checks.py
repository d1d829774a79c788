"""Whether two maps are half-maps as they came out of refinement.

Two files that cannot be the halves of one map are refused. The rest are heuristics,
for the network was made for unmasked, unfiltered, unsharpened maps, and the FSC of
others means little: they warn in plain words and change nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blush_onnx import fourier
from blush_onnx.boxes import EvenCube
from blush_onnx.errors import InputError
from blush_onnx.fsc import FscCurves, resolution
from blush_onnx.resolution import agree_to, in_angstrom
from blush_onnx.volume_io import VOXEL_SIZE_TOLERANCE, MapFile

Array = npt.NDArray[np.float32]

CONSTANT_FRACTION = 0.05
FILTERED_POWER_RATIO = 1e-4
NYQUIST_THRESHOLD = 0.143
GUINIER_FROM_ANGSTROM = 10.0
GUINIER_MINIMUM_SHELLS = 5
SHARPENED_B = -5.0
TIGHT_MASK_FSC = 0.1
TIGHT_MASK_MINIMUM_SHELLS = 4


def check_halves(first: MapFile, second: MapFile) -> None:
    """Refuse two files that cannot be the halves of one map.

    Raises
    ------
    InputError
        The same file or the same values twice, different boxes or voxel sizes.
    """
    if first.path.samefile(second.path) or np.array_equal(first.data, second.data):
        raise InputError(
            f"{first.path} and {second.path} are the same map: give the two independent halves"
        )
    if first.data.shape != second.data.shape:
        raise InputError(
            f"{first.path} has the box {first.data.shape}, {second.path} {second.data.shape}: "
            "the halves of one map have the same"
        )
    if abs(first.voxel_size - second.voxel_size) > VOXEL_SIZE_TOLERANCE * first.voxel_size:
        raise InputError(
            f"{first.path} has the voxel size {first.voxel_size:g} Å, {second.path} "
            f"{second.voxel_size:g} Å: the halves of one map have the same; give the right one "
            "with --voxel-size"
        )


def denoised_already(source: MapFile) -> str | None:
    """A warning for a map that blush-onnx itself wrote, by its label; None for others."""
    if not any("blush-onnx" in label and "no half-map" in label for label in source.labels):
        return None
    return (
        f"{source.path} was denoised by blush-onnx already: it is no half-map, and an FSC of such "
        "maps says nothing about resolution"
    )


def half_map_warnings(
    first: Array, second: Array, curves: FscCurves, *, cut_off: float | None = None
) -> list[str]:
    """What looks wrong with two half-maps, their mask, or what is asked of them.

    Parameters
    ----------
    first, second : array, (z, y, x), float32
    curves : FscCurves
        Of the two.
    cut_off : float, optional
        Å, where the user asked for one.

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
    checks = (_tight_mask(curves), _harmful_mask(curves), _cut_off_too_good(curves, cut_off))
    return found + [message for message in checks if message]


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


def _tight_mask(curves: FscCurves) -> str | None:
    """The mask correlates by itself where the map's own correlation is to be read off."""
    if curves.randomised is None or curves.masked is None or curves.randomised_from is None:
        return None
    start = curves.randomised_from + 2
    last = max(_last_shell(curves.masked), start + TIGHT_MASK_MINIMUM_SHELLS - 1)
    noise = curves.randomised[start : last + 1]
    if len(noise) < TIGHT_MASK_MINIMUM_SHELLS:
        return None
    # Neighbouring shells tell the scatter from the fall of the curve.
    scatter = np.sqrt(np.mean(np.diff(noise) ** 2) / 2 / len(noise))
    if noise.mean() - 2 * scatter <= TIGHT_MASK_FSC:
        return None
    length = curves.box_size * curves.voxel_size
    return (
        f"the mask is too tight or its edge too sharp: with random phases, where only the mask is "
        f"common to both halves, their FSC is still {noise.mean():.2f} from {length / start:.1f} "
        f"to {length / last:.1f} Å on average; use a wider mask with a softer edge"
    )


def _harmful_mask(curves: FscCurves) -> str | None:
    """With the mask the halves agree less far than without."""
    if curves.corrected is None or curves.unmasked is None:
        return None
    if _last_shell(curves.unmasked) - _last_shell(curves.corrected) < 2:
        return None
    without = resolution(curves.unmasked, curves.box_size, curves.voxel_size, NYQUIST_THRESHOLD)
    return (
        f"under the mask the halves {agree_to(curves.resolution())}, without it to "
        f"{in_angstrom(without)}: the mask cuts the particle off, or does not lie on it"
    )


def _cut_off_too_good(curves: FscCurves, cut_off: float | None) -> str | None:
    if cut_off is None:
        return None
    length = curves.box_size * curves.voxel_size
    if length / cut_off < _last_shell(curves.decisive) + 1:
        return None
    supported = curves.resolution(NYQUIST_THRESHOLD)
    return (
        f"the cut-off of {cut_off:g} Å is better than the half-maps support ({supported:.2f} Å at "
        f"FSC {NYQUIST_THRESHOLD}): beyond that the denoised maps show what the network expects "
        "and noise; leave the cut-off to the FSC"
    )


def _last_shell(curve: npt.NDArray[np.float64]) -> int:
    """The last shell before a curve first falls below 0.143."""
    below = np.flatnonzero(curve[1:] < NYQUIST_THRESHOLD) + 1
    return int(below[0]) - 1 if below.size else len(curve) - 1


def _spectrum_warnings(half: Array, curves: FscCurves, name: str) -> list[str]:
    power = radial_power(half)
    if len(power) != len(curves.decisive):
        return []
    found = []
    edge = min(_last_shell(curves.decisive) + 1, len(power) - 1)
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
