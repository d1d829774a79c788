"""How good a refinement became: half-map FSC, FSC with the truth, errors of the poses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
import numpy.typing as npt

from benchmarks.refinement import poses
from benchmarks.refinement.particles import TRUE
from benchmarks.refinement.relion import OUTPUT
from benchmarks.refinement.stars import read_poses
from benchmarks.refinement.truth import Truth, turned
from blush_onnx import fsc
from blush_onnx.errors import BlushError
from blush_onnx.fourier import Volume

Curve = npt.NDArray[np.float64]

MAPS = ("run_half1_class001_unfil.mrc", "run_half2_class001_unfil.mrc", "run_class001.mrc")
THRESHOLD = 0.143
CURVES = ("half_unmasked", "half_masked", "half_corrected", "truth", "truth_final")


@dataclass(frozen=True)
class Evaluation:
    """What a refinement came to.

    Attributes
    ----------
    curves : dict of str to array, (shells,)
        FSC by the names in CURVES: of the final half-maps with each other, whole
        boxes, under the mask, and solvent-corrected; of their average and of the
        final map with the true map, under the mask.
    pose_errors : poses.PoseErrors
    """

    curves: dict[str, Curve]
    pose_errors: poses.PoseErrors


def evaluate(folder: Path, truth: Truth) -> Evaluation:
    """Judge a finished refinement.

    The half-maps are those that RELION writes unfiltered when it has converged,
    from the poses of the last iteration, by its own reconstruction without
    regularisation in every arm. Blush has a part in them through the poses alone.
    The truth is turned to where the poses have drifted, some degrees as a rule.
    The final map is what the user gets: the joined last iteration's, which Blush
    reconstructs in its arms.

    Parameters
    ----------
    folder : Path
        Where RELION ran.
    truth : Truth

    Returns
    -------
    Evaluation

    Raises
    ------
    BlushError
        A map is missing.
    """
    first, second, final = (_read(folder / OUTPUT / name) for name in MAPS)
    angles, shifts = read_poses(folder / OUTPUT / "run_data.star")
    true_angles, true_shifts = read_poses(folder / TRUE)
    refined, true = poses.matrices(angles), poses.matrices(true_angles)
    drift = poses.drift_of(refined, true)
    density, mask = turned(truth.density, drift), turned(truth.mask, drift)

    halves = fsc.solvent_corrected(first, second, mask, truth.voxel_size)
    average = np.asarray((first + second) / 2, dtype=np.float32)
    found = (halves.unmasked, halves.masked, halves.corrected)
    curves = [curve for curve in found if curve is not None]
    curves += [fsc.fsc(volume, density, mask) for volume in (average, final)]
    errors = poses.pose_errors(refined, true, shifts, true_shifts)
    return Evaluation(dict(zip(CURVES, curves, strict=True)), errors)


def crossing(curve: Curve, threshold: float, length: float) -> float:
    """Resolution where a curve first falls through a threshold, linear between shells.

    Parameters
    ----------
    curve : array, (shells,)
    threshold : float
    length : float
        Of the box, Å.

    Returns
    -------
    float
        Å; that of the last shell where the curve never falls.
    """
    below = np.flatnonzero(curve < threshold)
    if not below.size or below[0] == 0:
        return length / (len(curve) - 1)
    shell = int(below[0])
    high, low = curve[shell - 1], curve[shell]
    return float(length / (shell - 1 + (high - threshold) / (high - low)))


def mean_beyond(curve: Curve, resolution: float, length: float) -> float:
    """Mean of a curve over the shells beyond a resolution (Å) in a box of a length (Å).

    The first shell beyond is left out: it holds voxels of both sides.
    """
    first = int(np.floor(length / resolution)) + 2
    return float(np.mean(curve[first:]))


def overclaim(half: Curve, truth: Curve) -> float:
    """How much more the half-maps promise than the truth bears out.

    An FSC of two halves F means a correlation of their average with the truth of
    √(2F / (1 + F)), as long as their errors are independent. Overfitting makes
    errors that they share, and so do poses that are off: these blur both alike.
    Arms compare, therefore; no arm need come to 0.

    Parameters
    ----------
    half, truth : array, (shells,)
        FSC of the halves, and of their average with the true map.

    Returns
    -------
    float
        Mean of the promised less the real correlation up to where `half` falls to 0.143.
    """
    below = np.flatnonzero(half < THRESHOLD)
    claimed = slice(1, int(below[0]) if below.size else len(half))
    promised = np.sqrt(2 * half[claimed] / (1 + half[claimed]))
    return float(np.mean(promised - truth[claimed])) if promised.size else 0.0


def _read(path: Path) -> Volume:
    if not path.exists():
        raise BlushError(f"RELION ended without {path}: did it converge?")
    return np.asarray(mrcfile.read(path), dtype=np.float32)
