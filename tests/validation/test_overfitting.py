from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from blush_onnx import Denoiser, InputError
from blush_onnx.model_config import ModelConfig
from blush_onnx.validation.overfitting import RandomisationTest, randomisation_test
from tests.conftest import blob_and_noise
from tests.validation.pairs import (
    VOXEL_SIZE,
    Inventing,
    Pair,
    Smoothing,
    overfitted,
    sound,
)

CONFIG = Path(__file__).parents[2] / "models" / "sim-2" / "config.json"
BEYOND = 16.0  # Å: shell 8, where the halves agree well


def stand_in(engine: Smoothing | Inventing) -> Denoiser:
    return Denoiser(ModelConfig.from_dict(json.loads(CONFIG.read_text()), str(CONFIG)), engine)


def examine(pair: Pair, engine: Smoothing | Inventing, seed: int = 0) -> RandomisationTest:
    return randomisation_test(
        *pair, VOXEL_SIZE, beyond_angstrom=BEYOND, denoiser=stand_in(engine), seed=seed
    )


def test_agreement_beyond_the_resolution_is_destroyed_before_denoising() -> None:
    found = examine(sound(0, 0.1), Smoothing())
    assert found.from_shell == 9
    assert found.original[11:13].min() > 0.5
    # A window this small leaves 60 independent voxels a shell here.
    assert np.abs(found.randomised[11:]).max() < 0.4
    np.testing.assert_allclose(found.randomised[:7], found.original[:7], atol=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_a_network_that_invents_nothing_passes_with_and_without_trailing(seed: int) -> None:
    found = examine(sound(seed), Smoothing(), seed)
    assert found.passed
    assert not found.without_trailing.flagged
    assert found.without_trailing.energy_beyond > 0.01
    assert found.verdict.startswith("passed")


@pytest.mark.parametrize("seed", range(3))
def test_a_network_that_invents_is_flagged_without_trailing(seed: int) -> None:
    found = examine(sound(seed), Inventing(2.0), seed)
    assert found.without_trailing.flagged
    assert found.without_trailing.mean_excess > 0.1
    assert "agree by more than" in found.verdict


def test_trailing_keeps_what_was_invented_out() -> None:
    found = examine(sound(0), Inventing(2.0))
    assert found.passed
    assert found.with_trailing.energy_beyond < 1e-12
    assert found.with_trailing.shell is None
    assert "hold nothing" in found.verdict


def test_a_cut_off_finer_than_the_halves_support_lets_it_in_and_is_flagged() -> None:
    found = randomisation_test(
        *sound(0), VOXEL_SIZE, beyond_angstrom=BEYOND, denoiser=stand_in(Inventing(2.0)),
        cut_off=5.0,
    )
    assert not found.passed
    assert found.verdict.startswith("flagged")


def test_halves_of_different_boxes_are_refused() -> None:
    first, second = sound(0)
    with pytest.raises(InputError, match="different boxes"):
        randomisation_test(
            first, second[1:], VOXEL_SIZE, beyond_angstrom=BEYOND, denoiser=stand_in(Smoothing())
        )


def test_noise_that_the_halves_share_is_randomised_away_and_not_seen_here() -> None:
    # It takes test_symptoms.py's tests of the halves themselves.
    assert examine(overfitted(0), Smoothing()).passed


def test_the_same_seed_gives_the_same_numbers() -> None:
    first, second = (examine(sound(0), Smoothing(), 5) for _ in range(2))
    np.testing.assert_array_equal(first.without_trailing.curve, second.without_trailing.curve)
    other = examine(sound(0), Smoothing(), 6)
    assert not np.array_equal(first.randomised, other.randomised)


def test_progress_covers_both_halves_and_other_boxes_are_taken(tiny_denoiser: Denoiser) -> None:
    seen: list[tuple[int, int]] = []
    halves = [blob_and_noise((50, 47, 40), seed) for seed in (1, 2)]
    found = randomisation_test(
        halves[0], halves[1], 2.4, beyond_angstrom=20, denoiser=tiny_denoiser,
        mask=np.ones_like(halves[0]), progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1][0] == seen[-1][1]
    assert len(found.original) == 26
    assert found.passed


def test_a_resolution_without_shells_beyond_is_refused() -> None:
    for angstrom in (4.0, 4.2, 500.0):
        with pytest.raises(InputError):
            randomisation_test(
                *sound(0), VOXEL_SIZE, beyond_angstrom=angstrom, denoiser=stand_in(Smoothing())
            )
