"""Our FSC beside that of relion_postprocess, on the same half-maps and mask."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from blush_onnx.fsc import FscCurves, solvent_corrected
from blush_onnx.masks import radial_mask
from blush_onnx.volume_io import read_map, read_mask
from tests.conftest import Volume, blob_and_noise, need, write_mrc

pytestmark = pytest.mark.relion

BUNDLED = Path(__file__).parents[1] / "examples" / "half_maps"
SEEDS = 20
CURVES = {
    "unmasked": "FourierShellCorrelationUnmaskedMaps",
    "masked": "FourierShellCorrelationMaskedMaps",
    "randomised": "CorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps",
    "corrected": "FourierShellCorrelationCorrected",
}

Curve = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """A pair of half-maps, and RELION's curves of it with its default seed."""

    folder: Path
    first: Volume
    second: Volume
    mask: Volume
    voxel_size: float
    theirs: dict[str, Curve]
    resolution: float
    randomised_from: float
    cache: dict[tuple[int, bool], FscCurves] = field(default_factory=dict)

    @property
    def length(self) -> float:
        return len(self.first) * self.voxel_size

    def ours(self, seed: int = 1, *, like_relion: bool = True) -> FscCurves:
        key = seed, like_relion
        if key not in self.cache:
            self.cache[key] = solvent_corrected(
                self.first, self.second, self.mask, self.voxel_size, seed=seed,
                like_relion=like_relion,
            )
        return self.cache[key]

    def randomised(self, *, like_relion: bool = True) -> Curve:
        """One curve a seed, (seeds, shells)."""
        curves = [self.ours(seed, like_relion=like_relion).randomised for seed in range(SEEDS)]
        return np.array(curves)

    def relions_randomised(self) -> Curve:
        """Likewise, RELION's."""
        return np.array([self._relion(seed)["randomised"] for seed in range(SEEDS)])

    def _relion(self, seed: int) -> dict[str, Curve]:
        name = f"seed{seed}"
        if not (self.folder / f"{name}.star").exists():
            postprocess(self.folder, self.voxel_size, name, "--random_seed", str(seed))
        return read_curves(self.folder / f"{name}.star")


def bundled() -> tuple[Volume, Volume, Volume, float]:
    first, second = (read_map(BUNDLED / f"half_map_{i}.mrc.gz") for i in (1, 2))
    return first.data, second.data, read_mask(BUNDLED / "mask.mrc.gz", first)[0], first.voxel_size


def simulated() -> tuple[Volume, Volume, Volume, float]:
    halves = [blob_and_noise((64,) * 3, seed, 0.2) for seed in (1, 2)]
    return halves[0], halves[1], radial_mask(64, 22, 10), 2.0


@pytest.fixture(scope="module", params=[bundled, simulated])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """RELION's curves of a pair of half-maps and a mask."""
    need(
        "relion", shutil.which("relion_postprocess") is not None,
        "relion_postprocess is not on PATH",
    )
    make: Callable[[], tuple[Volume, Volume, Volume, float]] = request.param
    first, second, mask, voxel_size = make()
    folder = tmp_path_factory.mktemp("postprocess")
    for name, values in (("half1", first), ("half2", second), ("mask", mask)):
        write_mrc(folder / f"{name}.mrc", values, voxel_size)
    postprocess(folder, voxel_size, "out")
    general = read_block(folder / "out.star", "general")
    return Case(
        folder, first, second, mask, voxel_size, read_curves(folder / "out.star"),
        float(general.find_value("_rlnFinalResolution")),
        float(general.find_value("_rlnRandomiseFrom")),
    )


def postprocess(folder: Path, voxel_size: float, out: str, *arguments: str) -> None:
    (folder / out).mkdir()  # else version 3.1 cannot write its logfile.pdf
    subprocess.run(
        ["relion_postprocess", "--i", "half1.mrc", "--i2", "half2.mrc", "--mask", "mask.mrc",
         "--force_mask", "--skip_fsc_weighting", "--angpix", str(voxel_size), "--o", out,
         *arguments],
        cwd=folder, check=True, capture_output=True,
    )


def read_curves(path: Path) -> dict[str, Curve]:
    block = read_block(path, "fsc")
    return {
        name: np.array([float(v) for v in block.find_values(f"_rln{label}")])
        for name, label in CURVES.items()
    }


def read_block(path: Path, name: str) -> Any:
    from gemmi import cif

    return cif.read(str(path)).find_block(name)


@pytest.mark.parametrize("name", ["unmasked", "masked"])
def test_counted_as_relion_counts_the_curves_are_relions(case: Case, name: str) -> None:
    # The STAR file has six digits after the point.
    ours = getattr(case.ours(), name)
    np.testing.assert_allclose(ours[1:], case.theirs[name][1:], atol=5e-6)


def test_the_phases_are_randomised_from_the_same_shell(case: Case) -> None:
    for like_relion in (True, False):
        start = case.ours(like_relion=like_relion).randomised_from
        assert start == round(case.length / case.randomised_from)


@pytest.mark.parametrize("like_relion", [True, False])
def test_relions_randomised_curve_is_ours_within_three_standard_deviations(
    case: Case, like_relion: bool
) -> None:
    """The means of 20 seeds each, in standard deviations of one draw; and their spreads.

    What is not counted like RELION's differs in the first two randomised shells, which
    nothing is corrected by.
    """
    ours, theirs = case.randomised(like_relion=like_relion), case.relions_randomised()
    start = case.ours().randomised_from
    assert start is not None
    beyond = slice(start if like_relion else start + 2, None)
    distance = (theirs.mean(axis=0) - ours.mean(axis=0))[beyond]
    variances = [curves.var(axis=0, ddof=1)[beyond] for curves in (ours, theirs)]
    assert (np.abs(distance) < 3 * np.sqrt(variances[0])).all()
    # In standard errors of the difference: about 1 in the mean, by Student's t below 5.
    errors = distance / np.sqrt(sum(variances) / SEEDS)
    assert np.abs(errors).max() < 5
    assert 0.6 < np.sqrt(np.mean(errors**2)) < 1.5
    assert 0.6 < np.median(variances[1] / variances[0]) < 1.6


def test_the_correction_takes_the_same_out(case: Case) -> None:
    """From the same two curves the same third, where it is not below 0; ours stops there."""
    ours, theirs = case.ours(), case.theirs
    start = ours.randomised_from
    assert start is not None
    masked, randomised, corrected = (
        theirs[name][start + 2 :] for name in ("masked", "randomised", "corrected")
    )
    # The STAR file has five digits after the point of values below 0.
    np.testing.assert_allclose(corrected, (masked - randomised) / (1 - randomised), atol=2e-5)
    assert ours.corrected is not None
    assert ours.corrected.min() >= 0
    spread = case.randomised().std(axis=0, ddof=1)
    close = np.abs(ours.corrected - np.clip(theirs["corrected"], 0, None)) < 5 * spread + 1e-5
    assert close[1:].all()


@pytest.mark.parametrize("like_relion", [True, False])
def test_the_resolution_is_relions_within_a_shell(case: Case, like_relion: bool) -> None:
    shell = case.length / case.ours(like_relion=like_relion).resolution()
    assert abs(shell - case.length / case.resolution) < 1.01


def test_counting_each_pair_once_changes_little_and_less_with_every_shell(case: Case) -> None:
    """RELION counts the plane kx = 0 double, which is about 1/(2k) of shell k.

    With n = 2πk² independent elements in a shell, the two ways differ by about its sampling
    error 1/√(2n) times √(1/k), 0.28/k^1.5; three times that are allowed.
    """
    shells = np.arange(1, len(case.first) // 2 + 1)
    for name in ("unmasked", "masked"):
        difference = getattr(case.ours(like_relion=False), name) - case.theirs[name]
        assert (np.abs(difference[1:]) < 3 * 0.28 / shells**1.5).all()
