from __future__ import annotations

import bz2
import gzip
import hashlib
import itertools
import shutil
from pathlib import Path

import mrcfile
import numpy as np
import numpy.typing as npt
import pytest

from blush_onnx import volume_io
from blush_onnx.errors import InputError, OutputError
from blush_onnx.volume_io import MapFile, read_map, read_mask, write_map
from tests.cli.helpers import BAD_MAPS, bad_map, patch_bytes
from tests.conftest import Volume, blob_and_noise, write_mrc

SHAPE = (10, 12, 14)
AXIS_ORDERS = list(itertools.permutations((1, 2, 3)))
MODES = {0: np.int8, 1: np.int16, 2: np.float32, 6: np.uint16, 12: np.float16}


def counting(dtype: npt.DTypeLike = np.float32) -> npt.NDArray[np.generic]:
    return (np.arange(np.prod(SHAPE)) % 120).reshape(SHAPE).astype(dtype)


def permuted(path: Path, volume: Volume, order: tuple[int, int, int]) -> Path:
    """A file whose columns, rows and sections run along the axes `order`, X being 1."""
    with mrcfile.new(path) as mrc:
        mrc.set_data(np.ascontiguousarray(volume.transpose([3 - axis for axis in order[::-1]])))
        mrc.set_volume()
        mrc.header.mapc, mrc.header.mapr, mrc.header.maps = order
        mrc.header.mz, mrc.header.my, mrc.header.mx = volume.shape
        mrc.header.cella = tuple(2.0 * side for side in volume.shape[::-1])
        mrc.header.nxstart, mrc.header.nystart, mrc.header.nzstart = -3, 4, 5
        mrc.header.origin = (1.5, -2.5, 3.5)
    return path


def rewritten(source: MapFile, folder: Path, label: str = "a label") -> Path:
    path = folder / "written.mrc"
    write_map(path, source.data, source, label)
    return path


def written_voxel_size(path: Path) -> tuple[float, float, float]:
    with mrcfile.open(path) as mrc:
        size = mrc.voxel_size
        return float(size.x), float(size.y), float(size.z)


@pytest.mark.parametrize("mode", MODES)
def test_every_real_mode_is_read(mode: int, tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "map.mrc", counting(MODES[mode]))
    with mrcfile.open(path) as mrc:
        assert mrc.header.mode == mode
    found = read_map(path)
    assert found.data.dtype == np.float32
    np.testing.assert_array_equal(found.data, counting())


def test_negative_values_of_mode_0_stay_negative(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "map.mrc", (counting() - 60).astype(np.int8))
    assert read_map(path).data.min() == -60


@pytest.mark.parametrize("dtype", [">i2", ">f4", ">f2"])
def test_big_endian_is_read(dtype: str, tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "map.mrc", counting(dtype))
    assert path.read_bytes()[212:214] == b"\x11\x11"
    found = read_map(path)
    np.testing.assert_array_equal(found.data, counting())
    assert found.data.dtype == np.dtype(np.float32)
    assert found.voxel_size == 2


def test_a_map_like_a_big_endian_one_is_written(tmp_path: Path) -> None:
    source = read_map(write_mrc(tmp_path / "map.mrc", counting(">f4")))
    again = read_map(rewritten(source, tmp_path))
    np.testing.assert_array_equal(again.data, source.data)
    assert again.voxel_size == 2


@pytest.mark.parametrize(("name", "module"), [("map.mrc.gz", gzip), ("map.mrc.bz2", bz2),
                                              ("map.mrc", gzip)])
def test_compressed_files_are_read_whatever_their_name(
    name: str, module: object, tmp_path: Path
) -> None:
    plain = write_mrc(tmp_path / "plain.mrc", counting())
    path = tmp_path / name
    path.write_bytes(module.compress(plain.read_bytes()))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(read_map(path).data, counting())


def test_a_plain_file_with_a_compressed_name_is_read(tmp_path: Path) -> None:
    path = shutil.copy(write_mrc(tmp_path / "map.mrc", counting()), tmp_path / "map.mrc.gz")
    np.testing.assert_array_equal(read_map(path).data, counting())


@pytest.mark.parametrize("name", ["map.map", "map.ccp4", "map", "a b.mrc", "粒子 ü.mrc", "-x.mrc"])
def test_any_name_is_read(name: str, tmp_path: Path) -> None:
    path = write_mrc(tmp_path / name, counting())
    np.testing.assert_array_equal(read_map(path).data, counting())


def test_an_extended_header_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "map.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(counting())
        mrc.set_extended_header(np.arange(100, dtype=np.int32))
        mrc.voxel_size = 2
    np.testing.assert_array_equal(read_map(path).data, counting())


def test_the_checksum_is_the_files(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "map.mrc", counting())
    assert read_map(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_old_volume_with_space_group_0_is_read(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "map.mrc", counting())
    patch_bytes(path, 88, "<i", 0)
    assert read_map(path).data.shape == SHAPE


@pytest.mark.parametrize("order", AXIS_ORDERS)
def test_permuted_axes_are_read_as_z_y_x(order: tuple[int, int, int], tmp_path: Path) -> None:
    path = permuted(tmp_path / "map.mrc", counting(), order)
    found = read_map(path)
    np.testing.assert_array_equal(found.data, counting())
    assert found.data.flags.c_contiguous
    assert found.voxel_size == 2


@pytest.mark.parametrize("order", AXIS_ORDERS)
def test_a_map_is_written_in_the_axis_order_of_its_source(
    order: tuple[int, int, int], tmp_path: Path
) -> None:
    path = permuted(tmp_path / "map.mrc", counting(), order)
    written = rewritten(read_map(path), tmp_path)
    np.testing.assert_array_equal(read_map(written).data, counting())
    with mrcfile.open(path) as before, mrcfile.open(written) as after:
        np.testing.assert_array_equal(after.data, before.data)


@pytest.mark.parametrize("order", AXIS_ORDERS)
def test_grid_origin_and_axis_order_are_kept(
    order: tuple[int, int, int], tmp_path: Path
) -> None:
    path = permuted(tmp_path / "map.mrc", counting(), order)
    written = rewritten(read_map(path), tmp_path)
    with mrcfile.open(path) as before, mrcfile.open(written) as after:
        for name in ("nx", "ny", "nz", "mx", "my", "mz", "nxstart", "nystart", "nzstart",
                     "cella", "cellb", "mapc", "mapr", "maps", "origin", "ispg"):
            assert after.header[name] == before.header[name], name


def test_a_map_is_written_in_single_precision_that_mrcfile_finds_valid(tmp_path: Path) -> None:
    written = rewritten(read_map(write_mrc(tmp_path / "map.mrc", counting(np.int16))), tmp_path)
    assert mrcfile.validate(written)
    with mrcfile.open(written) as mrc:
        assert mrc.header.mode == 2


def test_a_part_of_a_cell_keeps_its_voxel_size(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "map.mrc", counting())
    patch_bytes(path, 28, "<iii", 100, 100, 100)
    patch_bytes(path, 40, "<fff", 150, 150, 150)
    assert read_map(path).voxel_size == 1.5
    assert written_voxel_size(rewritten(read_map(path), tmp_path)) == (1.5, 1.5, 1.5)


def test_labels_are_kept_and_one_is_added(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "map.mrc", counting())
    with mrcfile.open(path, mode="r+") as mrc:
        mrc.add_label("first")
    source = read_map(path)
    assert read_map(rewritten(source, tmp_path)).labels == (*source.labels, "a label")


def test_a_label_is_added_where_ten_are_there(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "map.mrc", counting())
    with mrcfile.open(path, mode="r+") as mrc:
        for i in range(10):
            mrc.header.label[i] = f"label {i}"
        mrc.header.nlabl = 10
    labels = read_map(rewritten(read_map(path), tmp_path)).labels
    assert len(labels) == 10
    assert labels[-1] == "a label"


@pytest.mark.parametrize("count", [-1, 99])
def test_a_wrong_number_of_labels_does_no_harm(count: int, tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "map.mrc", counting())
    patch_bytes(path, 220, "<i", count)
    assert "a label" in read_map(rewritten(read_map(path), tmp_path)).labels


def test_labels_that_are_not_ascii_do_no_harm(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "map.mrc", counting())
    patch_bytes(path, 224, "80s", b"\xc5ngstr\xf6m \xff\xfe")
    written = rewritten(read_map(path), tmp_path, "Å" + "x" * 100)
    assert read_map(written).labels == ("?ngstr?m ??", "?" + "x" * 79)


def test_a_given_voxel_size_replaces_the_headers(tmp_path: Path) -> None:
    source = read_map(write_mrc(tmp_path / "map.mrc", counting()), 1.3)
    assert source.voxel_size == 1.3
    assert written_voxel_size(rewritten(source, tmp_path)) == pytest.approx((1.3,) * 3)


@pytest.mark.parametrize("axis", ["x", "y", "z"])
@pytest.mark.parametrize("wrong", [60.0, 0.0, float("nan")])
def test_a_given_voxel_size_replaces_a_wrong_one_along_any_axis(
    axis: str, wrong: float, tmp_path: Path
) -> None:
    path = write_mrc(tmp_path / "map.mrc", counting())
    patch_bytes(path, 40 + 4 * "xyz".index(axis), "<f", wrong)
    written = rewritten(read_map(path, 2.0), tmp_path)
    assert written_voxel_size(written) == pytest.approx((2, 2, 2))


def test_a_given_voxel_size_is_written_where_the_header_has_no_grid(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "map.mrc", counting())
    patch_bytes(path, 28, "<iii", 0, 0, 0)
    written = rewritten(read_map(path, 2.0), tmp_path)
    assert read_map(written).voxel_size == 2


@pytest.mark.parametrize("name", BAD_MAPS)
def test_a_bad_map_is_refused_with_its_name_and_the_reason(name: str, tmp_path: Path) -> None:
    path = bad_map(name, tmp_path)
    with pytest.raises(InputError) as caught:
        read_map(path)
    assert str(path) in str(caught.value)
    assert BAD_MAPS[name][1] in str(caught.value)


@pytest.mark.parametrize("name", ["negative_nx", "negative_nx_and_ny"])
def test_a_negative_side_is_named_in_the_refusal(name: str, tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "map.mrc", blob_and_noise((40, 40, 40), 1))
    patch_bytes(path, 0, "<ii", -40, -40 if name == "negative_nx_and_ny" else 40)
    with pytest.raises(InputError, match="-40"):
        read_map(path)


def test_a_file_longer_than_its_header_says_is_refused(tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "map.mrc", blob_and_noise((40, 40, 40), 1))
    patch_bytes(path, 8, "<i", 20)
    with pytest.raises(InputError, match=r"map\.mrc"):
        read_map(path)


@pytest.mark.parametrize("suffix", [".gz", ".bz2"])
def test_a_truncated_compressed_map_is_refused(suffix: str, tmp_path: Path) -> None:
    plain = write_mrc(tmp_path / "map.mrc", blob_and_noise((40, 40, 40), 1)).read_bytes()
    path = tmp_path / f"map.mrc{suffix}"
    path.write_bytes({".gz": gzip, ".bz2": bz2}[suffix].compress(plain)[:100_000])
    with pytest.raises(InputError, match="not a readable MRC map.*ended before"):
        read_map(path)


@pytest.mark.parametrize("suffix", [".gz", ".bz2"])
def test_a_damaged_compressed_map_is_refused(suffix: str, tmp_path: Path) -> None:
    plain = write_mrc(tmp_path / "map.mrc", blob_and_noise((40, 40, 40), 1)).read_bytes()
    path = tmp_path / f"map.mrc{suffix}"
    path.write_bytes({".gz": gzip, ".bz2": bz2}[suffix].compress(plain))
    patch_bytes(path, 2000, "200s", b"rubbish" * 20)
    with pytest.raises(InputError, match="map.mrc"):
        read_map(path)


@pytest.mark.parametrize("name", ["stack.mrcs", "stack.mrcs.gz", "stack.MRCS"])
def test_a_stack_by_its_name_is_refused(name: str, tmp_path: Path) -> None:
    path = shutil.copy(write_mrc(tmp_path / "map.mrc", counting()), tmp_path / name)
    with pytest.raises(InputError, match="stack of 10 images"):
        read_map(path)


@pytest.mark.parametrize("size", [0, 0.1, 20, -1, float("nan"), float("inf")])
def test_a_given_voxel_size_out_of_range_is_refused(size: float, tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "map.mrc", counting())
    with pytest.raises(InputError, match="expected 0.3 to 8 Å"):
        read_map(path, size)


def test_a_map_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    source = read_map(write_mrc(tmp_path / "map.mrc", counting()))
    with pytest.raises(OutputError, match="cannot write .*No such file or directory"):
        write_map(tmp_path / "nowhere" / "map.mrc", source.data, source, "a label")


def test_a_mask_is_read_in_the_maps_axis_order(tmp_path: Path) -> None:
    like = read_map(write_mrc(tmp_path / "map.mrc", counting()))
    mask = (counting() / 120).astype(np.float32)
    path = permuted(tmp_path / "mask.mrc", mask, (3, 1, 2))
    values, digest = read_mask(path, like)
    np.testing.assert_array_equal(values, mask)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_mask_is_clipped_to_0_and_1(tmp_path: Path) -> None:
    like = read_map(write_mrc(tmp_path / "map.mrc", counting()))
    mask = np.linspace(-1, 2, counting().size).reshape(SHAPE).astype(np.float32)
    values, _ = read_mask(write_mrc(tmp_path / "mask.mrc", mask), like)
    np.testing.assert_array_equal(values, np.clip(mask, 0, 1))


def test_a_mask_of_ones_passes(tmp_path: Path) -> None:
    like = read_map(write_mrc(tmp_path / "map.mrc", counting()))
    values, _ = read_mask(write_mrc(tmp_path / "mask.mrc", np.ones(SHAPE, np.int8)), like)
    assert (values == 1).all()


def test_a_mask_of_another_shape_is_refused(tmp_path: Path) -> None:
    like = read_map(write_mrc(tmp_path / "map.mrc", counting()))
    path = write_mrc(tmp_path / "mask.mrc", np.ones(SHAPE[::-1], dtype=np.float32))
    with pytest.raises(InputError, match=r"mask.*\(14, 12, 10\).*\(10, 12, 14\)"):
        read_mask(path, like)


def test_a_mask_of_another_voxel_size_is_refused(tmp_path: Path) -> None:
    like = read_map(write_mrc(tmp_path / "map.mrc", counting()))
    path = write_mrc(tmp_path / "mask.mrc", np.ones(SHAPE, dtype=np.float32), 3.0)
    with pytest.raises(InputError, match="voxel size"):
        read_mask(path, like)


@pytest.mark.parametrize("value", [0, -1])
def test_an_empty_mask_is_refused(value: int, tmp_path: Path) -> None:
    like = read_map(write_mrc(tmp_path / "map.mrc", counting()))
    path = write_mrc(tmp_path / "mask.mrc", np.full(SHAPE, value, dtype=np.float32))
    with pytest.raises(InputError, match=r"mask\.mrc is empty: no voxel is above 0"):
        read_mask(path, like)


def test_a_mask_with_nan_is_refused(tmp_path: Path) -> None:
    like = read_map(write_mrc(tmp_path / "map.mrc", counting()))
    path = write_mrc(tmp_path / "mask.mrc", np.ones(SHAPE, dtype=np.float32))
    patch_bytes(path, 1024, "<f", float("nan"))
    with pytest.raises(InputError, match="not finite"):
        read_mask(path, like)


def test_the_tolerance_of_voxel_sizes_is_that_of_rounded_headers() -> None:
    assert 1e-4 < volume_io.VOXEL_SIZE_TOLERANCE < 1e-2
