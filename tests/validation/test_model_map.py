from __future__ import annotations

import sys
from pathlib import Path

import gemmi
import mrcfile
import numpy as np
import numpy.typing as npt
import pytest

from blush_onnx import BlushError, InputError, fourier
from blush_onnx.boxes import EvenCube
from blush_onnx.fsc import fsc
from blush_onnx.masks import radial_mask
from blush_onnx.validation.model_map import model_density, model_fsc, origin_of
from blush_onnx.volume_io import read_map
from tests.conftest import Volume, write_mrc

BUNDLED = Path(__file__).parents[2] / "examples" / "half_maps"
VOXEL_SIZE = 1.5
SIDE = 32
MIDDLE = (SIDE // 2) * VOXEL_SIZE

Positions = npt.NDArray[np.float64]


def random_positions(seed: int = 0, atoms: int = 60) -> Positions:
    """x, y, z in Å about 0, within 12 Å along each axis."""
    return np.random.default_rng(seed).uniform(-12, 12, (atoms, 3))


def write_model(path: Path, positions: Positions, b_factor: float = 40) -> Path:
    structure = gemmi.Structure()
    model, chain = gemmi.Model(1), gemmi.Chain("A")
    for number, place in enumerate(positions, 1):
        residue = gemmi.Residue()
        residue.name, residue.seqid = "GLY", gemmi.SeqId(str(number))
        atom = gemmi.Atom()
        atom.name, atom.element = "CA", gemmi.Element("C")
        atom.pos, atom.b_iso = gemmi.Position(*place), b_factor
        residue.add_atom(atom)
        chain.add_residue(residue)
    model.add_chain(chain)
    structure.add_model(model)
    structure.setup_entities()
    if path.suffix == ".cif":
        structure.make_mmcif_document().write_file(str(path))
    else:
        structure.write_pdb(str(path))
    return path


def truth(positions: Positions, shape: tuple[int, ...], b_factor: float) -> Volume:
    """The atoms as Gaussians of the B factor alone, on a grid that starts at 0."""
    axes = [np.arange(side) * VOXEL_SIZE for side in shape]
    volume = np.zeros(shape)
    for x, y, z in positions:
        a, b, c = (
            np.exp(-4 * np.pi**2 * (axis - at) ** 2 / b_factor)
            for axis, at in zip(axes, (z, y, x), strict=True)
        )
        volume += a[:, None, None] * b[:, None] * c
    return volume.astype(np.float32)


@pytest.mark.parametrize("suffix", [".pdb", ".cif"])
def test_the_density_stands_where_the_atoms_are(tmp_path: Path, suffix: str) -> None:
    positions = random_positions() + MIDDLE
    path = write_model(tmp_path / f"model{suffix}", positions)
    density = model_density(path, (SIDE,) * 3, VOXEL_SIZE)
    # Form factors and the B factor together are about as wide as a B factor of 55.
    assert fsc(density, truth(positions, (SIDE,) * 3, 55))[:13].min() > 0.99


@pytest.mark.parametrize("shape", [(32, 40, 36), (33, 31, 35), (24, 24, 64)])
def test_boxes_need_be_neither_cubes_nor_even(tmp_path: Path, shape: tuple[int, ...]) -> None:
    middle = np.array(shape[::-1]) // 2 * VOXEL_SIZE
    positions = random_positions() + middle
    path = write_model(tmp_path / "model.pdb", positions)
    density = model_density(path, shape, VOXEL_SIZE)
    assert density.shape == shape
    assert density.dtype == np.float32
    curve = model_fsc(truth(positions, shape, 55), VOXEL_SIZE, path)
    side = EvenCube.around(shape).side
    assert len(curve) == side // 2 + 1
    assert curve[: int(side * VOXEL_SIZE / 4)].min() > 0.98


def test_the_origin_says_where_the_first_voxel_lies(tmp_path: Path) -> None:
    positions = random_positions()
    origin = (-20.0, -25.5, -30.0)
    path = write_model(tmp_path / "model.pdb", positions)
    volume = truth(positions - np.array(origin), (SIDE,) * 3, 55)
    assert model_fsc(volume, VOXEL_SIZE, path, origin)[:13].min() > 0.99
    # A misplacement by a voxel and a half is seen.
    assert model_fsc(volume, VOXEL_SIZE, path, (-20.0, -25.5, -27.8))[10] < 0.6


def test_a_map_fits_its_own_density_only(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.pdb", random_positions() + MIDDLE)
    other = write_model(tmp_path / "other.pdb", random_positions(1) + MIDDLE)
    density = model_density(path, (SIDE,) * 3, VOXEL_SIZE)
    np.testing.assert_allclose(model_fsc(density, VOXEL_SIZE, path), 1, atol=1e-4)
    assert np.abs(model_fsc(density, VOXEL_SIZE, other)[6:]).max() < 0.4


def test_a_mask_hides_what_the_model_does_not_explain(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.pdb", random_positions() + MIDDLE)
    density = model_density(path, (SIDE,) * 3, VOXEL_SIZE)
    mask = radial_mask(SIDE, 13, 4)
    solvent = np.random.default_rng(0).standard_normal((SIDE,) * 3).astype(np.float32)
    noisy = density + 0.2 * density.max() * solvent * (1 - mask)
    with_mask = model_fsc(noisy, VOXEL_SIZE, path, mask=mask)
    without = model_fsc(noisy, VOXEL_SIZE, path)
    assert with_mask[4:].mean() > without[4:].mean() + 0.1


def test_a_b_factor_takes_the_place_of_the_files(tmp_path: Path) -> None:
    soft = write_model(tmp_path / "soft.pdb", random_positions() + MIDDLE, 200)
    hard = write_model(tmp_path / "hard.pdb", random_positions() + MIDDLE, 30)
    box = (SIDE,) * 3
    given = [model_density(p, box, VOXEL_SIZE, b_factor=80) for p in (soft, hard)]
    np.testing.assert_array_equal(given[0], given[1])
    own = [model_density(p, box, VOXEL_SIZE) for p in (soft, hard)]
    assert own[0].max() < 0.7 * own[1].max()


@pytest.mark.parametrize("b_factor", [0, 20, 60])
def test_narrow_atoms_are_sampled_without_aliasing(tmp_path: Path, b_factor: float) -> None:
    """Against a grid three times finer, cut to the same shells."""
    path = write_model(tmp_path / "model.pdb", random_positions() + MIDDLE, b_factor)
    coarse = model_density(path, (SIDE,) * 3, VOXEL_SIZE)
    fine = fourier.rescale(model_density(path, (3 * SIDE,) * 3, VOXEL_SIZE / 3), SIDE)
    to_nyquist = int(0.9 * SIDE / 2)
    assert fsc(coarse, fine)[: to_nyquist + 1].min() > 0.99
    assert coarse.sum() == pytest.approx(fine.sum(), rel=0.01)


def test_atoms_beyond_the_box_do_not_come_in_on_the_other_side(tmp_path: Path) -> None:
    positions = np.vstack([random_positions(), [[MIDDLE + 10, 0, 0]]])
    path = write_model(tmp_path / "model.pdb", positions + MIDDLE)
    without = write_model(tmp_path / "without.pdb", positions[:-1] + MIDDLE)
    box = (SIDE,) * 3
    np.testing.assert_array_equal(
        model_density(path, box, VOXEL_SIZE), model_density(without, box, VOXEL_SIZE)
    )


def test_a_model_outside_the_box_is_refused_with_advice(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.pdb", random_positions())
    with pytest.raises(InputError, match=r"only \d+% of its atoms .*fit the model"):
        model_density(path, (SIDE,) * 3, VOXEL_SIZE)


def test_a_wrong_origin_is_suspected_where_the_model_would_lie_inside_without(
    tmp_path: Path,
) -> None:
    path = write_model(tmp_path / "model.pdb", random_positions() + MIDDLE)
    with pytest.raises(InputError, match=r"only 0% .*origin at 0 they would"):
        model_density(path, (SIDE,) * 3, VOXEL_SIZE, (200, 0, 0))


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), ("", "atom"), ("data_x\n_a.b\n", "atomic model|no atoms"),
     ("REMARK nothing\nEND\n", "holds no atoms")],
)
def test_what_is_no_model_is_refused(
    tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / ("model.cif" if content and "data" in content else "model.pdb")
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        model_density(path, (SIDE,) * 3, VOXEL_SIZE)


def test_without_gemmi_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_model(tmp_path / "model.pdb", random_positions() + MIDDLE)
    monkeypatch.setitem(sys.modules, "gemmi", None)
    with pytest.raises(BlushError, match=r"pip install 'blush-onnx\[report\]'"):
        model_density(path, (SIDE,) * 3, VOXEL_SIZE)


def map_with(path: Path, *, origin: object = (0, 0, 0), start: object = (0, 0, 0)) -> Path:
    write_mrc(path, np.random.default_rng(0).random((10, 12, 14)).astype("f4"), VOXEL_SIZE)
    with mrcfile.open(path, mode="r+") as mrc:
        mrc.header.origin = origin
        mrc.nstart = start
    return path


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({}, (0, 0, 0)),
        ({"origin": (3, -4, 5.5)}, (3, -4, 5.5)),
        ({"start": (2, -4, 10)}, (3, -6, 15)),
        ({"origin": (3, -4, 5.5), "start": (2, -4, 10)}, (3, -4, 5.5)),
    ],
)
def test_the_header_says_where_the_map_lies(
    tmp_path: Path, header: dict[str, object], expected: tuple[float, ...]
) -> None:
    source = read_map(map_with(tmp_path / "map.mrc", **header))
    assert origin_of(source) == pytest.approx(expected)


def test_starts_belong_to_the_files_axes(tmp_path: Path) -> None:
    path = map_with(tmp_path / "map.mrc", start=(2, -4, 10))  # of columns, rows, sections
    with mrcfile.open(path, mode="r+") as mrc:
        mrc.header.mapc, mrc.header.mapr, mrc.header.maps = 3, 2, 1  # columns run along z
        mrc.header.mx, mrc.header.my, mrc.header.mz = 10, 12, 14
        mrc.voxel_size = VOXEL_SIZE
    assert origin_of(read_map(path)) == pytest.approx((15, -6, 3))


@pytest.mark.external_data
def test_a_real_molecule_fits_the_bundled_maps_as_their_own_fsc_foretells(
    external_data: Path,
) -> None:
    """FSC to the truth = √(2F/(1 + F)), F that of the halves (Rosenthal & Henderson 2003).

    The bundled maps were made of this molecule, about the middle of their box. To 0.05: F has
    a sampling error of 0.03 in shell 8, and less beyond.
    """
    path = external_data / "data" / "structures" / "3EIY.cif.gz"
    halves = [read_map(BUNDLED / f"half_map_{i}.mrc.gz") for i in (1, 2)]
    first, second = (half.data for half in halves)
    size = halves[0].voxel_size
    box = gemmi.read_structure(str(path)).calculate_box()
    middle = np.array(((box.minimum + box.maximum) / 2).tolist())
    x, y, z = middle - len(first) * size / 2
    curve = model_fsc(0.5 * (first + second), size, path, (x, y, z))
    between = np.clip(fsc(first, second), 0, None)
    foretold = np.sqrt(2 * between / (1 + between))
    shells = slice(8, 35)  # the halves' FSC is above 0.1
    np.testing.assert_allclose(curve[shells], foretold[shells], atol=0.05)
    mirrored = model_fsc(np.ascontiguousarray(first[::-1]), size, path, (x, y, z))
    assert np.abs(mirrored[14:]).max() < 0.2
