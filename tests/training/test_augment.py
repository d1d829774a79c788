from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from blush_onnx import masks
from blush_onnx.fsc import fsc
from training.prepare import density
from training.prepare.dataset import Dataset

torch = pytest.importorskip("torch")

from training import augment  # noqa: E402
from training.augment import Draw, patches_of  # noqa: E402
from training.config import Augmentation  # noqa: E402
from training.local_std import local_standard_deviation  # noqa: E402
from training.turns import CUBE_ROTATIONS, AnyTurn, CubeTurn, random_turn  # noqa: E402
from training.volumes import LoadedVolume, load_volumes  # noqa: E402

pytestmark = pytest.mark.torch

CPU = torch.device("cpu")
PLAIN = Augmentation(
    resolution_angstrom=(6.0, 6.0), excess_noise=1.0, anisotropy=0.0, target_anisotropy=0.0,
    sharpened=0.0, sphere=0.0, noise_slope=(0.0, 0.0), empty=0.0,
    filter_shares={"unfiltered": 1.0, "sharp": 0.0, "gaussian": 0.0, "wiener": 0.0},
)
"""Nothing but noise, so that each other part can be switched on alone."""


@pytest.fixture(scope="module")
def volume(toy_data: Path) -> LoadedVolume:
    dataset = Dataset(toy_data)
    (found,) = load_volumes(dataset, dataset.of_split("train")[:1], CPU)
    return found


def whole(volume: LoadedVolume, settings: Augmentation, seed: int = 1) -> augment.Batch:
    """One patch as large as the map: what inference would see of it."""
    return patches_of(volume, settings, Draw(seed, CPU), 1, volume.mask.shape[0])


def test_the_local_std_is_that_of_the_runtime() -> None:
    values = np.random.default_rng(0).standard_normal((30, 34, 40)).astype(np.float32)
    ours = local_standard_deviation(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(ours, masks.local_std(values), atol=2e-6)


def test_the_cube_has_24_rotations_none_of_them_a_mirror() -> None:
    corners = torch.arange(27.0).reshape(3, 3, 3)
    turned = {
        tuple(CubeTurn(*r)(corners).flatten().tolist()) for r in CUBE_ROTATIONS
    }
    assert len(turned) == 24
    mirrored = corners.flip(0)
    assert tuple(mirrored.flatten().tolist()) not in turned


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stored", [0.0, 1.0], ids=["new noise", "prepared noise"])
def test_two_inputs_fsc_falls_at_the_drawn_resolution(
    volume: LoadedVolume, seed: int, stored: float
) -> None:
    settings = dataclasses.replace(PLAIN, stored_noise=stored)
    shell = round(64 * 1.5 / 6)
    draw = Draw(seed, CPU)
    spectra, _, _ = augment._noisy(volume, random_turn("cube", draw.cpu), shell, settings, draw)
    curve = fsc(*(augment._inverse(spectrum, 64).numpy() for spectrum in spectra))
    # Powers are means over five shells of uneven strength, so the crossing is near, not exact.
    assert curve[shell - 2 : shell + 3].mean() == pytest.approx(0.143, abs=0.09)
    assert curve[3:7].mean() > 0.5


def test_inputs_are_standardised_over_the_whole_map(volume: LoadedVolume) -> None:
    batch = whole(volume, PLAIN)
    sphere = masks.default_mask((64, 64, 64)) == 1
    values = batch.grid[0].numpy()[sphere]
    # The noise is even, so inside the sphere it is about as strong as in the whole map.
    # The particle adds to it.
    assert 0.9 < values.std() < 1.4
    assert 0.9 < batch.local_std[0].numpy()[sphere].mean() < 1.4
    assert float(batch.grid[0][0, 0, 0]) == 0  # the corner lies outside the sphere


def test_the_target_is_the_truth_inside_and_smooth_outside(volume: LoadedVolume) -> None:
    batch = whole(volume, PLAIN)
    target, mask = batch.target[0].numpy(), batch.mask[0].numpy()
    inside, outside = mask > 0.99, (mask < 0.01) & (masks.default_mask((64,) * 3) == 1)
    coarse = density.low_pass(target, 1.5, 10)
    assert np.std((target - coarse)[inside]) > 20 * np.std((target - coarse)[outside])
    error = (batch.grid[0] - batch.target[0]).numpy()
    assert abs(error[inside].mean()) < 0.1
    correlation = np.corrcoef(target[inside], batch.target[1].numpy()[inside])[0, 1]
    assert correlation > 0.9999  # one truth, standardised by two inputs


@pytest.mark.parametrize("stored", [0.0, 1.0], ids=["new noise", "prepared noise"])
def test_an_empty_map_is_noise_and_nothing_is_wanted_of_it(
    volume: LoadedVolume, stored: float
) -> None:
    full = whole(volume, dataclasses.replace(PLAIN, stored_noise=stored))
    batch = whole(volume, dataclasses.replace(PLAIN, empty=1.0, stored_noise=stored))
    sphere = torch.from_numpy(masks.default_mask((64, 64, 64)))
    assert (batch.mask == 0).all()
    assert float((batch.target * sphere).std()) < 0.01
    assert float(batch.std_scale.min()) > 0.5
    assert float(batch.grid[0].std()) > 0.5
    assert torch.isfinite(batch.target_variance).all()
    assert float(batch.input_error[0]) == pytest.approx(1, abs=0.05)
    inside = full.mask[0] > 0.99
    pair = torch.stack([full.target[0][inside], batch.grid[0][inside]])
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.3  # nothing of the truth is left


def test_a_real_pairs_targets_come_from_the_other_half(volume: LoadedVolume) -> None:
    real = dataclasses.replace(volume, truth=None)
    fine = dataclasses.replace(PLAIN, resolution_angstrom=(3.0, 3.0))  # adds no noise
    batch = whole(real, fine)
    inside = batch.mask[0].numpy() > 0.99
    own, other = batch.grid[0].numpy()[inside], batch.grid[1].numpy()[inside]
    target = batch.target[0].numpy()[inside]
    assert np.corrcoef(target, other)[0, 1] > 0.9999
    assert np.corrcoef(target, own)[0, 1] < 0.9999


def test_a_real_pairs_scale_of_the_local_std_is_that_of_the_truth(volume: LoadedVolume) -> None:
    """Of the noisy other half it would be larger, and recycled inputs as much too small."""
    assert volume.truth is not None
    side, mask, truth = volume.mask.shape[0], volume.mask.float(), volume.truth.float()
    falls = side * volume.record.voxel_size / PLAIN.outside_resolution_angstrom
    smooth = torch.exp(-math.log(2) * (augment.radius(side, CPU) / falls) ** 2)

    def deviation_of(values: torch.Tensor) -> float:
        """Of a target made from these values."""
        blurred = torch.fft.irfftn(torch.fft.rfftn(values) * smooth, s=values.shape)
        joined = values * mask + blurred * (1 - mask)
        return float(local_standard_deviation(joined - joined.mean()).mean())

    draw = torch.Generator().manual_seed(1)
    found, noisy = [], []
    for _ in range(8):  # of one small map it is known to a tenth
        noises = [torch.randn(truth.shape, generator=draw) for _ in range(2)]
        halves = [truth + 3 * truth.std() * noise for noise in noises]
        real = dataclasses.replace(volume, truth=None, half_1=halves[0], half_2=halves[1])
        batch = whole(real, PLAIN)
        for k, other in enumerate(halves[::-1]):
            # The target's unit, from where it is the other half itself.
            unit = other[mask > 0.99].std() / batch.target[k][batch.mask[k] > 0.99].std()
            found.append(float(batch.std_scale[k] * unit))
            noisy.append(deviation_of(other))
    assert np.mean(noisy) > 1.3 * deviation_of(truth)  # else this test could not tell
    assert np.mean(found) == pytest.approx(deviation_of(truth), rel=0.06)


def test_a_sharp_filter_ends_beyond_the_resolution() -> None:
    shares = {"unfiltered": 0.0, "sharp": 1.0, "gaussian": 0.0, "wiener": 0.0}
    draw = Draw(3, CPU)
    shape = augment._filter(
        torch.ones(33), 10.0, 64, dataclasses.replace(PLAIN, filter_shares=shares), draw, CPU
    )
    radius = augment.radius(64, CPU)
    assert (shape[radius <= 12] == 1).all()
    assert (shape[radius > 24] == 0).all()


@pytest.mark.parametrize("kind", ["sharp", "gaussian", "wiener"])
def test_sharpening_raises_a_filter_as_a_b_factor_does(kind: str) -> None:
    shares = dict.fromkeys(PLAIN.filter_shares, 0.0) | {kind: 1.0}
    plain, sharpened = (
        augment._filter(
            torch.full((33,), 0.5), 10.0, 64,
            dataclasses.replace(
                PLAIN, filter_shares=shares, sharpened=share, sharpening=(2.0, 2.0)
            ),
            Draw(3, CPU), CPU,
        )
        for share in (0.0, 1.0)
    )
    at = augment.radius(64, CPU)
    box, voxel_size = 64, 1.5
    resolution = box * voxel_size / 10
    b_factor = -4 * 2.0 * resolution**2
    within = (at <= 10) & (plain > 0)
    expected = torch.exp(-b_factor / 4 * (at / (box * voxel_size)) ** 2)
    assert torch.allclose((sharpened / plain)[within], expected[within], rtol=1e-5)
    beyond = (at > 13) & (plain > 0)
    assert (sharpened / plain)[beyond].max() <= math.exp(2.0 * 1.2**2) * (1 + 1e-5)


def test_an_unfiltered_map_is_not_sharpened() -> None:
    settings = dataclasses.replace(PLAIN, sharpened=1.0, sharpening=(2.0, 2.0))
    shape = augment._filter(torch.ones(33), 10.0, 64, settings, Draw(3, CPU), CPU)
    assert (shape == 1).all()


def test_patches_are_pieces_of_the_whole_map(volume: LoadedVolume) -> None:
    batch = patches_of(volume, PLAIN, Draw(5, CPU), 3, 32)
    assert batch.grid.shape == (6, 32, 32, 32)
    complete = whole(volume, PLAIN, 5)
    piece = batch.grid[2]
    windows = complete.grid[0].unfold(0, 32, 1).unfold(1, 32, 1).unfold(2, 32, 1)
    corner = (windows[..., 0, 0, 0] - piece[0, 0, 0]).abs() < 1e-5
    assert any(
        torch.allclose(windows[z, y, x], piece, atol=1e-4) for z, y, x in corner.nonzero().tolist()
    )


def test_the_same_seed_draws_the_same(volume: LoadedVolume) -> None:
    first, again = (patches_of(volume, Augmentation(), Draw(9, CPU), 2, 32) for _ in range(2))
    assert torch.equal(first.grid, again.grid)
    other = patches_of(volume, Augmentation(), Draw(10, CPU), 2, 32)
    assert not torch.equal(first.grid, other.grid)


def test_any_rotation_agrees_with_a_quarter_turn_of_the_cube() -> None:
    axis = torch.arange(32.0) - 16
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    blob = torch.exp(-((z - 3) ** 2 + (y + 4) ** 2 + (x - 1) ** 2) / 8)
    quarter = torch.tensor([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])  # y, x → −x, y
    turned = AnyTurn(quarter)(blob)
    expected = torch.exp(-((z - 3) ** 2 + (-x + 4) ** 2 + (y - 1) ** 2) / 8)
    assert float((turned - expected).abs().max()) < 5e-3


@pytest.mark.parametrize("kind", ["cube", "any"])
@pytest.mark.parametrize("seed", range(6))
def test_a_voxels_place_is_where_the_turn_puts_it(kind: str, seed: int) -> None:
    axis = torch.arange(32.0)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    voxel = (20, 11, 17)
    blob = torch.exp(-((z - 20) ** 2 + (y - 11) ** 2 + (x - 17) ** 2) / 4)
    turn = random_turn(kind, Draw(seed, CPU).cpu)
    found = np.unravel_index(int(turn(blob).argmax()), blob.shape)
    assert np.abs(np.subtract(found, turn.place(voxel, 32))).max() <= (0 if kind == "cube" else 1)


@pytest.mark.parametrize("seed", range(4))
def test_most_patches_show_what_the_mask_holds(volume: LoadedVolume, seed: int) -> None:
    corner = torch.zeros((64, 64, 64))
    corner[:16, -16:, :16] = 1
    coarse = torch.nn.functional.avg_pool3d(corner[None, None], 8)[0, 0]
    moved = dataclasses.replace(volume, mask=corner, coarse=coarse)
    draw = Draw(seed, CPU)
    turn = random_turn("cube", draw.cpu)
    turned = turn(corner)
    shown = [
        float(turned[z : z + 32, y : y + 32, x : x + 32].mean())
        for z, y, x in augment._origins(moved, turn, draw, 60, 32)
    ]
    # One in seven is drawn anywhere. The whole corner would be 1/8 of a patch.
    assert np.mean(np.array(shown) > 0.01) > 0.6


def test_any_rotation_keeps_the_power(volume: LoadedVolume) -> None:
    assert volume.truth is not None
    truth = volume.truth.float()
    turned = random_turn("any", Draw(2, CPU).cpu)(truth)
    assert float(turned.std() / truth.std()) == pytest.approx(1, abs=0.03)


def test_counted_voxels_turn_with_the_map(volume: LoadedVolume) -> None:
    counted = (volume.mask.float() > 0.5).float()
    batch = whole(dataclasses.replace(volume, counted=counted), PLAIN)
    inside = batch.mask[0] > 0.6
    assert float(batch.counted[0][inside].mean()) > 0.99


def test_noise_is_measured_in_the_shells_where_it_is(volume: LoadedVolume) -> None:
    white = torch.randn((48, 48, 48), generator=torch.Generator().manual_seed(1))
    means = augment.torch.fft.rfftn(white).abs() ** 2
    from training.volumes import shell_means

    power = shell_means(means)
    assert torch.allclose(power[8:], torch.full_like(power[8:], 48.0**3), rtol=0.1)
    assert math.isfinite(float(volume.signal.sum()))
