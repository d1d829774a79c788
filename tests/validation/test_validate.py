"""Everything together: a sound pair passes, an overfitted one made on purpose does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from blush_onnx import Denoiser, InputError
from blush_onnx.fsc import half_map_fsc
from blush_onnx.validation.findings import Validation
from blush_onnx.validation.request import Checks, Denoising
from blush_onnx.validation.validate import validate
from blush_onnx.volume_io import read_map
from tests.conftest import blob_and_noise
from tests.test_examples import load
from tests.validation import pairs
from tests.validation.test_overfitting import BEYOND, stand_in

Array = npt.NDArray[np.float32]

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "half_maps"
VOXEL_SIZE = 1.4
overfitted = load(EXAMPLES / "overfitted.py")
FSC_ALONE = Checks(local_resolution=False)


@pytest.fixture(scope="module")
def sound() -> tuple[Array, Array, Array]:
    """The bundled pair and its mask."""
    names = ("half_map_1", "half_map_2", "mask")
    first, second, mask = (read_map(EXAMPLES / f"{name}.mrc.gz").data for name in names)
    return first, second, mask


def outcomes(found: Validation) -> dict[str, str]:
    return {verdict.test: verdict.outcome for verdict in found.verdicts}


def test_a_sound_pair_is_not_flagged(sound: tuple[Array, Array, Array]) -> None:
    first, second, mask = sound
    found = validate(first, second, VOXEL_SIZE, mask=mask, checks=FSC_ALONE)
    assert not found.flagged, found.verdicts
    assert found.mask_source == "given"
    assert outcomes(found) == {
        "FSC beyond its fall": "passed", "Agreement of the solvent": "passed",
        "Phase randomisation": "not run", "Repeats": "not run",
    }
    assert found.warnings == ()


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_halves_that_share_noise_are_flagged(
    sound: tuple[Array, Array, Array], share: float
) -> None:
    """Half as strong as each half's own noise, and as strong."""
    first, second = overfitted.sharing_noise(sound[0], sound[1], VOXEL_SIZE, share)
    found = validate(first, second, VOXEL_SIZE, mask=sound[2], checks=FSC_ALONE)
    assert found.flagged
    assert outcomes(found)["Agreement of the solvent"] == "flagged"
    alone = validate(*sound[:2], VOXEL_SIZE, mask=sound[2], checks=FSC_ALONE)
    assert found.fsc.resolution() < alone.fsc.resolution()  # which is what deceives


def test_the_fsc_is_relion_s_where_that_is_asked_for(sound: tuple[Array, Array, Array]) -> None:
    first, second, mask = sound
    found = validate(
        first, second, VOXEL_SIZE, mask=mask,
        checks=Checks(local_resolution=False, like_relion=True),
    )
    expected = half_map_fsc(first, second, VOXEL_SIZE, mask, like_relion=True)
    np.testing.assert_array_equal(found.fsc.masked, expected.masked)
    plain = half_map_fsc(first, second, VOXEL_SIZE, mask)
    assert np.abs(found.fsc.masked - plain.masked).max() > 1e-4


def test_without_a_mask_there_is_one_curve_and_less_to_test() -> None:
    first, second = (blob_and_noise((40,) * 3, seed) for seed in (1, 2))
    found = validate(first, second, 2.0, checks=FSC_ALONE)
    assert found.mask_source is None
    assert found.fsc.masked is None
    assert outcomes(found)["Agreement of the solvent"] == "not run"


def test_tests_of_the_denoiser_need_one() -> None:
    first, second = (blob_and_noise((40,) * 3, seed) for seed in (1, 2))
    for checks in (Checks(randomise_beyond=10.0), Checks(repeats=True)):
        with pytest.raises(InputError, match="need one"):
            validate(first, second, 2.0, checks=checks)


def test_every_part_runs_with_a_network_in_a_box_of_any_shape(tiny_denoiser: Denoiser) -> None:
    first, second = (blob_and_noise((40, 44, 42), seed) for seed in (1, 2))
    heard: list[tuple[str, int, int]] = []
    found = validate(
        first, second, 2.0, denoising=Denoising(tiny_denoiser, rotations=2),
        checks=Checks(randomise_beyond=12.0, repeats=True),
        told=lambda part, done, total: heard.append((part, done, total)),
    )
    assert found.regularised is not None
    assert found.regularised.spread is not None
    assert len(found.accounts) == 2
    assert found.accounts[0].rho == found.regularised.rho
    assert found.randomisation is not None
    assert found.repeats is not None
    assert found.local_resolution is not None
    assert found.local_resolution.map.shape == first.shape
    parts = ["denoise", "local resolution", "phase randomisation", "repeats"]
    assert list(dict.fromkeys(part for part, _, _ in heard)) == parts
    assert all((part, total, total) in heard for part, _, total in heard)
    assert set(found.seconds) == set(parts)


def test_a_network_that_invents_is_flagged_where_nothing_cuts_it_off() -> None:
    """With spectral trailing the same network passes: what it invents there is not kept."""
    first, second = pairs.sound(0)
    outcome = {
        trailing: outcomes(validate(
            first, second, pairs.VOXEL_SIZE,
            denoising=Denoising(stand_in(pairs.Inventing(2.0)), spectral_trailing=trailing),
            checks=Checks(local_resolution=False, randomise_beyond=BEYOND),
        ))
        for trailing in (True, False)
    }
    assert outcome[True]["Phase randomisation"] == "passed"
    assert outcome[False]["Phase randomisation"] == "flagged"
    assert outcome[False]["Nothing beyond the resolution"] == "not run"


def test_what_cannot_be_judged_is_not_passed() -> None:
    """Too few shells beyond the fall; halves that were masked already."""
    rng = np.random.default_rng(1)
    mask = np.zeros((40,) * 3, dtype=np.float32)
    mask[10:30, 10:30, 10:30] = 1
    common = rng.normal(size=(40,) * 3).astype(np.float32)
    halves = [
        ((common + rng.normal(0, 0.3, common.shape)) * mask).astype(np.float32) for _ in range(2)
    ]
    found = outcomes(validate(*halves, 2.0, mask=mask, checks=FSC_ALONE))
    assert found["Agreement of the solvent"] == "not run"
    small = [blob_and_noise((10,) * 3, seed) for seed in (1, 2)]
    tiny = validate(*small, 2.0, checks=FSC_ALONE)
    assert not tiny.symptoms.judged
    assert outcomes(tiny)["FSC beyond its fall"] == "not run"


@pytest.mark.parametrize(
    ("second", "mask", "message"),
    [
        (np.ones((40, 40, 42)), None, "different boxes"),
        (np.full((40,) * 3, np.nan), None, "NaN"),
        (blob_and_noise((40,) * 3, 2), np.ones((40, 40, 42)), "mask"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    second: Array, mask: Array | None, message: str
) -> None:
    if message == "different boxes":
        second = second + np.arange(42)
    with pytest.raises(InputError, match=message):
        validate(blob_and_noise((40,) * 3, 1), second, 2.0, mask=mask, checks=FSC_ALONE)


def test_a_given_mask_wins_over_the_network_s(tiny_denoiser: Denoiser) -> None:
    first, second = (blob_and_noise((40,) * 3, seed) for seed in (1, 2))
    mask = np.zeros((40,) * 3, dtype=np.float32)
    mask[8:32, 8:32, 8:32] = 1
    found = validate(
        first, second, 2.0, mask=mask, denoising=Denoising(tiny_denoiser), checks=FSC_ALONE
    )
    assert found.mask_source == "given"
    np.testing.assert_array_equal(found.mask, mask)


@pytest.mark.slow
def test_the_bundled_model_passes_on_the_bundled_pair(sound: tuple[Array, Array, Array]) -> None:
    """Its own mask for the FSC, phases random beyond 8 Å, nothing beyond the cut-off."""
    first, second, _ = sound
    found = validate(
        first, second, VOXEL_SIZE, denoising=Denoising(Denoiser.load(), stride=32),
        checks=Checks(local_resolution=False, randomise_beyond=8.0),
    )
    assert found.mask_source == "network"
    assert not found.flagged, found.verdicts
    assert outcomes(found)["Phase randomisation"] == "passed"
    assert outcomes(found)["Nothing beyond the resolution"] == "passed"
