from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest

from tests.cli.denoising import MAP_FILES, Runner, read, read_report
from tests.cli.helpers import listing, patch_bytes
from tests.conftest import blob_and_noise, write_mrc


def test_a_box_that_is_no_even_cube_keeps_its_shape(denoise: Runner, tmp_path: Path) -> None:
    halves = [
        write_mrc(tmp_path / f"half{seed}.mrc", blob_and_noise((33, 40, 36), seed))
        for seed in (1, 2)
    ]
    out = denoise(*halves)
    for name in ("denoised_1.mrc", "denoised.mrc", "mask.mrc"):
        assert read(out / name).shape == (33, 40, 36)
    assert len(read_report(out)["fsc"]["curves"]["unmasked"]) == 21


def test_a_compressed_map_is_denoised_as_the_plain_one(
    denoise: Runner, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    packed = write_mrc(tmp_path / "half1.mrc.gz", read(inputs[0]))
    np.testing.assert_array_equal(
        read(denoise(packed, out="packed") / "denoised.mrc"),
        read(denoise(inputs[0], out="plain") / "denoised.mrc"),
    )


@pytest.mark.parametrize("name", ["two words", "粒子 ü", "%s{0}", "[x]*?", "$HOME"])
def test_any_name_of_files_and_folders_works(
    name: str, denoise: Runner, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    path = tmp_path / f"{name}.mrc"
    path.write_bytes(inputs[0].read_bytes())
    out = denoise(path, out=f"{name} out")
    assert read_report(out)["inputs"][0]["path"] == str(path)


def test_a_name_that_is_not_utf8_works(
    denoise: Runner, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    path = bytes(tmp_path) + b"/caf\xe9.mrc"
    try:
        Path(path.decode("utf-8", "surrogateescape")).write_bytes(inputs[0].read_bytes())
    except OSError:
        pytest.skip("this file system wants UTF-8")
    done = denoise.complete(path, "--out", denoise.out)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    assert listing(denoise.out) == MAP_FILES


def test_a_voxel_size_given_for_a_broken_header_is_written(
    denoise: Runner, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    path = tmp_path / "broken.mrc"
    path.write_bytes(inputs[0].read_bytes())
    patch_bytes(path, 48, "<f", 120.0)
    with mrcfile.open(denoise(path, "--voxel-size", "2") / "denoised.mrc") as mrc:
        assert float(mrc.voxel_size.z) == 2


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize(
    ("scale", "taken"),
    [(1e-30, False), (1e-20, False), (1e-6, True), (1e6, True), (1e15, False), (1e25, False)],
)
def test_an_odd_unit_of_the_density_gives_finite_maps_or_a_refusal(
    scale: float, taken: bool, denoise: Runner, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    volume = read(inputs[0]).astype(np.float64) * scale
    path = write_mrc(tmp_path / "scaled.mrc", volume.astype(np.float32))
    done = denoise.complete(path, "--out", denoise.out)
    assert (done.returncode == 0) == taken
    if taken:
        assert np.isfinite(read(denoise.out / "denoised.mrc")).all()
        assert "RuntimeWarning" not in done.stderr
    else:
        assert len(done.stderr.splitlines()) == 1
        assert "multiply the map by a factor" in done.stderr
