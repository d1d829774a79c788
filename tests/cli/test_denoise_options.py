from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest

from tests.cli.denoising import SIDE, VOXEL_SIZE, Runner, power, read, read_report, sha256
from tests.cli.helpers import listing, run_cli
from tests.conftest import Volume, write_mrc


def box_mask(low: int, high: int) -> Volume:
    mask = np.zeros((SIDE,) * 3, dtype=np.float32)
    mask[low:high, low:high, low:high] = 1
    return mask


def test_a_given_cut_off_replaces_that_of_the_fsc(
    denoise: Runner, inputs: tuple[Path, Path]
) -> None:
    out = denoise(*inputs, "--cut-off", "20")
    cut_off = read_report(out)["cut_off"]
    assert (cut_off["shell"], cut_off["angstrom"], cut_off["source"]) == (4, 20, "option")
    spectrum = power(read(out / "denoised_1.mrc"))
    assert spectrum[7:].max() < 1e-6 * spectrum[1:4].max()


def test_a_given_cut_off_filters_a_single_map(
    denoise: Runner, inputs: tuple[Path, Path]
) -> None:
    spectrum = power(read(denoise(inputs[0], "--cut-off", "20") / "denoised.mrc"))
    assert spectrum[7:].max() < 1e-6 * spectrum[1:4].max()


def test_a_mask_corrects_the_fsc(
    denoise: Runner, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    mask = write_mrc(tmp_path / "mask.mrc", box_mask(6, 34))
    report = read_report(denoise(*inputs, "--mask", mask))
    curves = report["fsc"]["curves"]
    assert curves.keys() == {"unmasked", "masked", "phase_randomised", "solvent_corrected"}
    assert {len(curve) for curve in curves.values()} == {SIDE // 2 + 1}
    assert report["fsc"]["randomised_from_shell"] >= 1
    assert report["masks"] == {"fsc": {"path": str(mask), "sha256": sha256(mask)}}


def test_a_denoise_mask_replaces_the_sphere(
    denoise: Runner, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    mask = write_mrc(tmp_path / "mask.mrc", box_mask(2, 20))
    out = denoise(*inputs, "--denoise-mask", mask, "--no-spectral-trailing")
    assert read_report(out)["masks"] == {"network": {"path": str(mask), "sha256": sha256(mask)}}
    found = np.abs(read(out / "denoised_1.mrc"))
    assert found[24:].max() < 0.1 * found[2:20, 2:20, 2:20].max()
    assert "unmasked" in read_report(out)["fsc"]["curves"]


def test_a_particle_diameter_bounds_what_the_network_sees(
    denoise: Runner, inputs: tuple[Path, Path]
) -> None:
    mask = read(denoise(inputs[0], "--particle-diameter", "30") / "mask.mrc")
    index = (np.arange(SIDE) - SIDE // 2) * VOXEL_SIZE
    radius = np.sqrt(index[:, None, None] ** 2 + index[:, None] ** 2 + index**2)
    assert mask[radius < 12].max() > 0.2
    assert mask[radius > 30].max() < 0.05


def test_a_smaller_stride_takes_more_patches(
    denoise: Runner, inputs: tuple[Path, Path]
) -> None:
    usual, fine = (
        read_report(denoise(inputs[0], "--voxel-size", "3", "--stride", stride, out=stride))
        for stride in ("20", "8")
    )
    assert fine["settings"]["stride"] == 8
    assert fine["patches"]["count"] > usual["patches"]["count"]


def test_a_lower_quality_takes_fewer_patches_and_is_recorded(
    denoise: Runner, inputs: tuple[Path, Path]
) -> None:
    reference, balanced, fast = (
        read_report(denoise(inputs[0], "--voxel-size", "3.7", *args, out=f"q{args[-1:]}"))
        for args in ((), ("--quality", "balanced"), ("--quality", "fast"))
    )
    assert [r["settings"]["stride"] for r in (reference, balanced, fast)] == [20, 32, 43]
    assert [r["settings"]["quality"] for r in (reference, balanced, fast)] == [
        "reference", "balanced", "fast",
    ]
    assert reference["patches"]["count"] > fast["patches"]["count"]


def test_the_batch_size_does_not_change_the_map(
    denoise: Runner, inputs: tuple[Path, Path]
) -> None:
    one, three = (
        denoise(*inputs, "--batch-size", size, out=f"batch{size}") for size in ("1", "3")
    )
    for name in ("denoised_1.mrc", "denoised_2.mrc", "mask.mrc"):
        np.testing.assert_array_equal(read(one / name), read(three / name))
    assert read_report(three)["engine"]["batch_size"] == 3


def test_threads_are_counted_in_the_report(denoise: Runner, inputs: tuple[Path, Path]) -> None:
    assert read_report(denoise(inputs[0], "--threads", "1"))["engine"]["threads"] == 1


def test_a_given_voxel_size_is_used_and_written(
    denoise: Runner, inputs: tuple[Path, Path]
) -> None:
    out = denoise(*inputs, "--voxel-size", "1.8")
    assert read_report(out)["inputs"][1]["voxel_size_angstrom"] == 1.8
    with mrcfile.open(out / "denoised_2.mrc") as mrc:
        assert float(mrc.voxel_size.x) == pytest.approx(1.8)


def test_auto_says_which_provider_it_took_and_why(
    inputs: tuple[Path, Path], tiny_model: Path, tmp_path: Path
) -> None:
    done = run_cli("denoise", inputs[0], "--model", tiny_model, "--out", tmp_path / "out")
    engine = read_report(tmp_path / "out")["engine"]
    assert engine["reason"].startswith("auto: the first that works of ")
    assert f"{engine['provider']} ({engine['reason']})" in done.stdout


def test_the_model_can_be_named_by_the_environment(
    inputs: tuple[Path, Path], tiny_model: Path, tmp_path: Path
) -> None:
    run_cli("denoise", inputs[0], "--provider", "cpu", "--out", tmp_path / "out",
            env={"BLUSH_ONNX_MODEL": str(tiny_model)})
    assert read_report(tmp_path / "out")["model"]["name"] == "tiny"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "Missing argument"),
        (("a.mrc", "b.mrc", "c.mrc"), "3 maps given"),
        (("a.mrc", "--mask", "mask.mrc"), "--mask is for two half-maps"),
        (("a.mrc", "--no-spectral-trailing"), "--no-spectral-trailing is for two half-maps"),
        (("a.mrc", "b.mrc", "--cut-off", "9", "--no-spectral-trailing"), "has no meaning"),
        (("a.mrc", "b.mrc", "--no-such-option"), "No such option"),
        (("a.mrc", "b.mrc", "--stride", "1.5"), "not a valid integer"),
        (("a.mrc", "--stride", "30", "--quality", "fast"), "give it or --quality, not both"),
        (("a.mrc", "--device", "a"), "give numbers, such as 0 or 0,1"),
        (("a.mrc", "b.mrc", "--cut-off", "fine"), "not a valid float"),
        (("a.mrc", "b.mrc", "--provider", "abacus"), "is not one of 'auto', 'cuda'"),
    ],
)
def test_wrong_usage_is_status_2_and_writes_nothing(
    args: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    done = run_cli("denoise", *args, "--out", "out", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert listing(tmp_path) == []


def test_a_missing_out_is_wrong_usage(tmp_path: Path) -> None:
    done = run_cli("denoise", "a.mrc", "b.mrc", cwd=tmp_path)
    assert done.returncode == 2
    assert "Missing option '--out'" in done.stderr


def test_help_shows_an_example() -> None:
    done = run_cli("denoise", "--help")
    assert done.returncode == 0
    assert "blush-onnx denoise run_half1_unfil.mrc run_half2_unfil.mrc" in done.stdout
