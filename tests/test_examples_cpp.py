"""The C++ example gives the maps of the package.

Tolerances are of the correction (result − input). Both sides evaluate the network with OpenVINO in
single precision and differ in the order of sums around it; resampling is by direct sums here, by
fast transforms there.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from blush_onnx import Denoiser, conversion, models
from blush_onnx.checkpoint import Checkpoint, read_checkpoint
from blush_onnx.models import MODEL_FILE
from blush_onnx.results import Denoised
from tests.conftest import DATA, blob_and_noise, need, write_mrc
from tests.cpp_program import (
    ROOT,
    SOURCES,
    Array,
    damage,
    denoised_by,
    results_in,
    run,
    without_metadata,
)

LARGEST_DIFFERENCE = 5e-5
"""Largest ones measured: 3.6e-6 of the correction, 8.6e-6 of the solvent mask. Most are 1e-7."""

openvino = pytest.mark.openvino


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """blush_openvino, built against OpenVINO's wheel as README.md of the example says."""
    tools = all(shutil.which(tool) for tool in ("cmake", "c++"))
    need("cpp", tools, "cmake or a C++ compiler is not installed")
    from openvino.utils import get_cmake_path

    build = tmp_path_factory.mktemp("cpp")
    for command in (
        ["cmake", "-S", SOURCES, "-B", build, f"-DOpenVINO_DIR={get_cmake_path()}",
         "-DCMAKE_CXX_FLAGS=-Werror"],
        ["cmake", "--build", build, "--parallel", "2"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "blush_openvino"


@pytest.fixture(scope="session")
def tiny_on_openvino(tiny_model: Path) -> Denoiser:
    return Denoiser.load(tiny_model, provider="openvino", threads=2)


def assert_same(found: tuple[Array, Array, str], expected: Denoised, start: Array) -> None:
    density, mask, said = found
    assert (
        f"{expected.patches} patches, {expected.patches_skipped} skipped, "
        f"threshold {expected.mask_threshold:.3f}" in said
    )
    correction = np.linalg.norm(expected.density - start)
    differences = (
        float(np.linalg.norm(density - expected.density) / correction),
        float(np.linalg.norm(mask - expected.mask) / np.linalg.norm(expected.mask)),
    )
    print("  density {:.1e} of the correction, solvent mask {:.1e}".format(*differences))
    assert max(differences) < LARGEST_DIFFERENCE


@openvino
@pytest.mark.parametrize(
    "shape", [(70, 66, 75), (48, 48, 48), (49, 51, 70), (65, 65, 65), (8, 9, 10)]
)
def test_at_the_models_voxel_size_it_gives_the_packages_map(
    shape: tuple[int, int, int], program: Path, tiny_model: Path, tiny_on_openvino: Denoiser,
    tmp_path: Path,
) -> None:
    volume = blob_and_noise(shape, 0) + np.float32(2)
    found = denoised_by(program, tiny_model, volume, tmp_path, "--at-model-voxel-size")
    assert_same(found, tiny_on_openvino.denoise_at_model_voxel_size(volume), volume)


@openvino
@pytest.mark.parametrize(
    ("shape", "voxel_size"),
    [
        ((80, 80, 80), 1.1),  # n = 58
        ((40, 40, 40), 2.7),  # n = 72
        ((45, 50, 41), 1.31),  # neither even nor a cube
        ((70, 70, 70), 1.5),  # as it is
        ((69, 69, 69), 1.5),  # put into an even cube, and no more
    ],
)
def test_other_voxel_sizes_and_boxes_come_back_on_their_own_grid(
    shape: tuple[int, int, int], voxel_size: float, program: Path, tiny_model: Path,
    tiny_on_openvino: Denoiser, tmp_path: Path,
) -> None:
    volume = blob_and_noise(shape, 0) - np.float32(1)
    found = denoised_by(program, tiny_model, volume, tmp_path, voxel_size=voxel_size)
    assert_same(found, tiny_on_openvino.denoise(volume, voxel_size), volume)


@openvino
@pytest.mark.parametrize(("side", "height"), [(40, 1.0), (12, 1.0), (12, 0.4)])
def test_a_mask_decides_which_patches_are_taken(
    side: int, height: float, program: Path, tiny_model: Path, tiny_on_openvino: Denoiser,
    tmp_path: Path,
) -> None:
    volume = blob_and_noise((90, 84, 84), 0)
    mask = np.zeros_like(volume)
    mask[12 : 12 + side, 24 : 24 + side, 20 : 20 + side] = height
    path = write_mrc(tmp_path / "mask.mrc", mask, 1.5)
    found = denoised_by(
        program, tiny_model, volume, tmp_path, "--mask", path, "--at-model-voxel-size"
    )
    expected = tiny_on_openvino.denoise_at_model_voxel_size(volume, mask)
    assert expected.patches_skipped > 0
    assert_same(found, expected, volume)


@openvino
def test_a_mask_is_resampled_with_the_map(
    program: Path, tiny_model: Path, tiny_on_openvino: Denoiser, tmp_path: Path
) -> None:
    volume = blob_and_noise((40, 40, 38), 0)
    mask = np.zeros_like(volume)
    mask[10:30, 8:30, 10:25] = 1.2  # clipped to 1
    path = write_mrc(tmp_path / "mask.mrc", mask, 2.7)
    found = denoised_by(
        program, tiny_model, volume, tmp_path, "--mask", path, "--stride", "43", voxel_size=2.7
    )
    expected = tiny_on_openvino.denoise(volume, 2.7, mask=mask, stride=43)
    assert_same(found, expected, volume)


@openvino
def test_a_model_without_a_mask_gives_a_solvent_mask_of_one(
    program: Path, tmp_path: Path
) -> None:
    checkpoint = read_checkpoint(DATA / "checkpoints" / "tiny_no_mask.ckpt")
    conversion.write_model_folder(tmp_path, *conversion.build_model(checkpoint, "no_mask"))
    volume = blob_and_noise((48, 48, 48), 0)
    found = denoised_by(program, tmp_path, volume, tmp_path, "--at-model-voxel-size")
    denoiser = Denoiser.load(tmp_path, provider="openvino", threads=2)
    assert_same(found, denoiser.denoise_at_model_voxel_size(volume), volume)
    assert (found[1] == 1).all()


@openvino
@pytest.mark.slow
def test_the_bundled_model_denoises_a_whole_small_volume(program: Path, tmp_path: Path) -> None:
    folder = ROOT / "models" / models.bundled_default()
    volume = blob_and_noise((48, 48, 48), 0)
    found = denoised_by(program, folder, volume, tmp_path, voxel_size=2.0)
    denoiser = Denoiser.load(folder, provider="openvino", threads=2)
    assert_same(found, denoiser.denoise(volume, 2.0), volume)


@openvino
@pytest.mark.slow
def test_it_gives_the_map_of_the_published_implementation(
    program: Path, seeded_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    conversion.write_model_folder(tmp_path, *conversion.build_model(seeded_checkpoint, "seeded"))
    with np.load(DATA / "denoise_box66.npz") as case:
        volume, mask, stride = case["volume"], case["mask"], int(case["stride"])
        expected, solvent_mask = case["density"], case["solvent_mask"]
    path = write_mrc(tmp_path / "mask.mrc", mask, 1.5)
    density, found_mask, _ = denoised_by(
        program, tmp_path, volume, tmp_path, "--at-model-voxel-size", "--mask", path,
        "--stride", str(stride),
    )
    error = np.linalg.norm(density - expected) / np.linalg.norm(expected - volume)
    print(f"  {error:.1e} of the correction")
    assert error < 5e-4  # as in test_parity.py, for the package
    assert np.linalg.norm(found_mask - solvent_mask) / np.linalg.norm(solvent_mask) < 1e-4


@openvino
def test_what_it_writes_lies_where_the_map_lay(
    program: Path, tiny_model: Path, tmp_path: Path
) -> None:
    source = tmp_path / "map.mrc"
    values = np.round(20 * blob_and_noise((40, 40, 40), 0)).astype(np.int16)
    with mrcfile.new(source) as mrc:
        mrc.set_data(values)
        mrc.voxel_size = 2.0
        mrc.header.origin = (5, 6, 7)
        mrc.header.nxstart = -3
        mrc.set_extended_header(np.zeros(40, dtype="V2"))
    out = tmp_path / "out.mrc"
    done = run(program, tiny_model / MODEL_FILE, source, out, tmp_path / "mask.mrc")
    assert done.returncode == 0, done.stderr
    assert mrcfile.validate(out)
    with mrcfile.open(out) as mrc:
        assert mrc.data.dtype == np.float32
        assert mrc.header.origin.tolist() == (5, 6, 7)
        assert int(mrc.header.nxstart) == -3
        assert float(mrc.voxel_size.x) == pytest.approx(2.0)
        assert b"denoised" in bytes(mrc.header.label[int(mrc.header.nlabl) - 1])


@openvino
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan", "not finite"), ("constant", "constant"), ("truncated", "does not fit its header"),
        ("complex", "mode 4"), ("axes", "another order"), ("big-endian", "big-endian"),
        ("voxel size", "voxel size is unset"), ("missing", "cannot be read"),
    ],
)
def test_a_map_that_it_cannot_take_is_refused_in_a_line(
    fault: str, message: str, program: Path, tiny_model: Path, tmp_path: Path
) -> None:
    volume = blob_and_noise((40, 40, 40), 0)
    if fault == "nan":
        volume[3, 4, 5] = np.nan
    if fault == "constant":
        volume[:] = 1
    path = write_mrc(tmp_path / "map.mrc", volume, 0.0 if fault == "voxel size" else 2.0)
    damage(path, fault)
    assert_refuses(program, message, tiny_model / MODEL_FILE, path, *results_in(tmp_path))


@openvino
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--stride", "44"), "give 1 to 43"), (("--stride", "43.0"), "43.0 is not a whole number"),
        (("--strid", "20"), "no option --strid"), (("--mask",), "--mask needs a value"),
        (("--mask", "short.mrc"), "another box"),
    ],
)
def test_arguments_that_it_cannot_take_are_refused_in_a_line(
    options: tuple[str, ...], message: str, program: Path, tiny_model: Path, tmp_path: Path
) -> None:
    volume = blob_and_noise((40, 40, 40), 0)
    short = write_mrc(tmp_path / "short.mrc", np.abs(volume[:39]), 2.0)
    given = [str(short) if option == "short.mrc" else option for option in options]
    path = write_mrc(tmp_path / "map.mrc", volume)
    assert_refuses(program, message, tiny_model / MODEL_FILE, path, *results_in(tmp_path), *given)


@openvino
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("absent", "fault.onnx"), ("damaged", "fault.onnx"),
        ("foreign", "not a model of blush-onnx"),
    ],
)
def test_a_model_that_it_cannot_take_is_refused_in_a_line(
    fault: str, message: str, program: Path, tiny_model: Path, tmp_path: Path
) -> None:
    model = tmp_path / "fault.onnx"
    if fault == "damaged":
        model.write_bytes((tiny_model / MODEL_FILE).read_bytes()[:1000])
    if fault == "foreign":
        without_metadata(model, tiny_model / MODEL_FILE)
    path = write_mrc(tmp_path / "map.mrc", blob_and_noise((40, 40, 40), 0))
    assert_refuses(program, message, model, path, *results_in(tmp_path))


@openvino
def test_a_folder_that_cannot_be_written_to_is_named(
    program: Path, tiny_model: Path, tmp_path: Path
) -> None:
    path = write_mrc(tmp_path / "map.mrc", blob_and_noise((40, 40, 40), 0))
    results = results_in(tmp_path / "nowhere")
    assert_refuses(
        program, f"{results[0]}: cannot be written", tiny_model / MODEL_FILE, path, *results
    )


def assert_refuses(program: Path, message: str, *arguments: str | Path) -> None:
    done = run(program, *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1


def test_the_numerics_stay_readable() -> None:
    assert len((SOURCES / "numerics.cpp").read_text(encoding="utf-8").splitlines()) < 500
