"""Symptoms of overfitting in two half-maps themselves, before any denoising.

Halves that were aligned to one noisy reference share some of its noise. No randomisation
of the finished maps can tell that noise from signal: both correlate, and both cease to
when the phases go. But it leaves traces: a curve that does not fall to zero or rises
again, and halves that agree where there is no molecule. Formulas: docs/numerics.md,
section 15; what the traces look like: docs/validation.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blush_onnx import fourier
from blush_onnx.boxes import EvenCube
from blush_onnx.cut_off import shell_of
from blush_onnx.errors import InputError
from blush_onnx.fourier import Volume
from blush_onnx.fsc import CUT_OFF_THRESHOLD, correlate
from blush_onnx.grids import Grids
from blush_onnx.validation.chance import Curve, expected_spread, pooled

SIGNIFICANT = 5.0
"""Spreads by which a correlation must exceed chance. By chance alone 1 in 3 million does,
so that a search over all shells and windows of a curve still leaves less than 1 in 10 000."""
LARGEST_TAIL = 0.1
"""FSC of a tail, or rise of it, below which nothing is said, however significant. Signal fades
slowly: the tails of five refinements of simulated particles, whose halves never met, had 0.03 to
0.06 (docs/validation.md)."""
LARGEST_IN_SOLVENT = 0.05
"""The same for the solvent, where there is no signal to fade: the same five had 0.01 at most."""
FEWEST_SHELLS = 6
WINDOW = 3


@dataclass(frozen=True)
class CurveSymptoms:
    """What an FSC curve does beyond where it first fell below 1/7.

    Attributes
    ----------
    rho : int or None
        That shell; None where it never falls.
    plateau, plateau_spread : float
        Mean of the outer half of the shells beyond, or of the last quarter of a curve that
        never falls, and by how much chance moves it.
    rise, rise_spread : float
        By how much a mean of three shells exceeds the lowest such mean before it.
    rise_shell : int or None
        The middle of those three shells.
    findings : tuple of str
        In plain words; empty where nothing was noticed.
    """

    rho: int | None
    plateau: float
    plateau_spread: float
    rise: float
    rise_spread: float
    rise_shell: int | None
    findings: tuple[str, ...]

    @property
    def judged(self) -> bool:
        """Whether there are shells enough beyond the fall to tell anything."""
        return self.flagged or bool(np.isfinite(self.plateau_spread))

    @property
    def flagged(self) -> bool:
        """Whether anything was found."""
        return bool(self.findings)


def curve_symptoms(curve: Curve, spread: Curve, length_angstrom: float) -> CurveSymptoms:
    """Look for a plateau or a rise of an FSC beyond its first fall below 1/7.

    Parameters
    ----------
    curve : array, (shells,)
        FSC of two half-maps. Solvent-corrected ones serve as well, with the spread of
        the masked maps.
    spread : array, (shells,)
        Its standard deviation by chance, from :func:`expected_spread`.
    length_angstrom : float
        Length of the box, for the words.

    Returns
    -------
    CurveSymptoms
    """
    last = len(curve) - 1  # Nyquist, where the half-spectrum counts planes twice
    below = np.flatnonzero(curve[1:] < CUT_OFF_THRESHOLD) + 1
    if not below.size:
        words = "the FSC does not fall below 1/7 before Nyquist: there is no telling where it ends"
        tail = slice(last - last // 4, last)
        return CurveSymptoms(
            None, *pooled(curve[tail], spread[tail]), 0.0, float("inf"), None, (words,)
        )
    rho = int(below[0])
    if last - rho < FEWEST_SHELLS:
        return CurveSymptoms(rho, 0.0, float("inf"), 0.0, float("inf"), None, ())
    middle = (rho + last) // 2
    inner = pooled(curve[rho:middle], spread[rho:middle])
    outer = pooled(curve[middle:last], spread[middle:last])
    rise, rise_spread, shell = _largest_rise(curve, spread, rho, last)
    findings = []
    if _exceeds(LARGEST_TAIL, *outer) and outer[0] > inner[0] / 2:
        findings.append(
            f"the FSC stays at {outer[0]:.2f} beyond {length_angstrom / middle:.1f} Å, where "
            f"chance gives 0 ± {outer[1]:.3f}: the halves may share noise or a mask"
        )
    if _exceeds(LARGEST_TAIL, rise, rise_spread):
        findings.append(
            f"the FSC falls below 1/7 at {length_angstrom / rho:.1f} Å and rises again by "
            f"{rise:.2f} (chance: {rise_spread:.2f}) at {length_angstrom / shell:.1f} Å: the "
            "halves may share noise there"
        )
    return CurveSymptoms(rho, *outer, rise, rise_spread, shell, tuple(findings))


def _exceeds(limit: float, value: float, spread: float) -> bool:
    return value > max(limit, SIGNIFICANT * spread)


def _largest_rise(curve: Curve, spread: Curve, rho: int, last: int) -> tuple[float, float, int]:
    """The most significant rise: its height, its spread by chance and its shell."""
    windows = [
        (*pooled(curve[s : s + WINDOW], spread[s : s + WINDOW]), s + 1)
        for s in range(rho, last - WINDOW + 1)
    ]
    best = (0.0, float("inf"), rho)
    for i, (value, chance, shell) in enumerate(windows[WINDOW:], WINDOW):
        lowest, its_chance, _ = min(windows[: i - WINDOW + 1])
        found = (value - lowest, float(np.hypot(chance, its_chance)), shell)
        if found[0] / found[1] > best[0] / best[1]:
            best = found
    return best


@dataclass(frozen=True)
class SolventCorrelation:
    """How much two half-maps agree where there is no molecule.

    Attributes
    ----------
    curve, spread : array, (shells,)
        FSC of the halves under the solvent, and its standard deviation by chance.
    from_shell : int
        First shell that counts.
    mean, mean_spread : float
        Over the shells that count.
    """

    curve: Curve
    spread: Curve
    from_shell: int
    mean: float
    mean_spread: float

    @property
    def judged(self) -> bool:
        """Whether both halves hold anything there."""
        return bool(np.isfinite(self.mean_spread))

    @property
    def flagged(self) -> bool:
        """Whether the halves share more than chance there."""
        return _exceeds(LARGEST_IN_SOLVENT, self.mean, self.mean_spread)

    @property
    def verdict(self) -> str:
        """In plain words."""
        found = f"FSC of the solvent {self.mean:.3f}, chance ± {self.mean_spread:.3f}"
        if self.flagged:
            return (
                f"flagged: the halves agree where there should be no molecule ({found}): they "
                "share noise, or the mask leaves a part of the molecule out"
            )
        return f"passed: the halves do not agree where there is no molecule ({found})"


def solvent_correlation(
    half_map_1: Volume,
    half_map_2: Volume,
    solvent_mask: Volume,
    voxel_size: float,
    *,
    beyond_angstrom: float,
) -> SolventCorrelation:
    """Correlate two half-maps outside their solvent mask, beyond a resolution.

    Parameters
    ----------
    half_map_1, half_map_2 : array, (z, y, x), float32
        Unfiltered and unmasked.
    solvent_mask : array like them
        1 on the molecule, 0 in the solvent, with a soft edge.
    voxel_size : float
        Å.
    beyond_angstrom : float
        Coarser shells do not count: detergent and disordered parts are seen there.

    Returns
    -------
    SolventCorrelation

    Raises
    ------
    InputError
        The mask leaves no solvent, or the resolution is out of range.
    """
    box = EvenCube.around(half_map_1.shape)
    outside = box.pad_mask(1 - np.clip(solvent_mask, 0, 1).astype(np.float32))
    if outside.max() < 0.5:
        raise InputError("the solvent mask leaves no solvent: there is nothing to correlate")
    start = shell_of(beyond_angstrom, Grids(box, voxel_size, voxel_size, box.side)) + 1
    first, second = (box.pad_volume(half) * outside for half in (half_map_1, half_map_2))
    curve = correlate(fourier.forward(first), fourier.forward(second))
    if start >= box.side // 2:
        raise InputError(
            f"nothing of the maps lies beyond {beyond_angstrom:g} Å: give a coarser resolution"
        )
    spread = expected_spread(first, second, start)
    counted = slice(start, box.side // 2)
    return SolventCorrelation(curve, spread, start, *pooled(curve[counted], spread[counted]))
