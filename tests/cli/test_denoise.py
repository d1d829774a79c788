from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import mrcfile
import numpy as np
import numpy.typing as npt
import pytest

from blush_onnx import __version__
from tests.cli.helpers import listing, patch_bytes, run_cli
from tests.conftest import Volume, blob_and_noise, write_mrc

HALF_FILES = ["denoised.mrc", "denoised_1.mrc", "denoised_2.mrc", "mask.mrc", "report.json"]
MAP_FILES = ["denoised.mrc", "mask.mrc", "report.json"]
SIDE, VOXEL_SIZE = 40, 2.0

Report = dict[str, Any]


def read(path: Path) -> Volume:
    with mrcfile.open(path) as mrc:
        return np.array(mrc.data)


def read_report(folder: Path) -> Report:
    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is not JSON")

    text = (folder / "report.json").read_text(encoding="utf-8")
    report: Report = json.loads(text, parse_constant=refuse)
    return report


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def box_mask(low: int, high: int) -> Volume:
    mask = np.zeros((SIDE,) * 3, dtype=np.float32)
    mask[low:high, low:high, low:high] = 1
    return mask


def power(volume: Volume) -> npt.NDArray[np.float64]:
    """Power of each shell."""
    index = np.fft.fftfreq(SIDE, 1 / SIDE)
    shell = np.rint(np.sqrt(index[:, None, None] ** 2 + index[:, None] ** 2 + index**2))
    return np.bincount(
        shell.astype(int).ravel(), np.abs(np.fft.fftn(volume)).ravel() ** 2
    )[: SIDE // 2 + 1]


class Runner:
    """The command with the tiny model on the CPU, its results in one folder."""

    def __init__(self, model: Path, folder: Path) -> None:
        self.model = model
        self.folder = folder
        self.out = folder / "out"

    def __call__(self, *args: str | Path, out: str = "out") -> Path:
        done = self.complete(*args, "--out", self.folder / out)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return self.folder / out

    def complete(self, *args: str | Path, **where: Any) -> subprocess.CompletedProcess[str]:
        return run_cli("denoise", *args, "--model", self.model, "--provider", "cpu", **where)


@pytest.fixture
def denoise(tiny_model: Path, tmp_path: Path) -> Runner:
    return Runner(tiny_model, tmp_path)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two half-maps with an origin, a start and a label."""
    folder = tmp_path_factory.mktemp("inputs")
    paths = [
        write_mrc(folder / f"half{seed}.mrc", blob_and_noise((SIDE,) * 3, seed))
        for seed in (1, 2)
    ]
    for path in paths:
        with mrcfile.open(path, mode="r+") as mrc:
            mrc.header.origin = (10.5, -20.5, 30.5)
            mrc.header.nxstart, mrc.header.nystart, mrc.header.nzstart = 3, -4, 5
            mrc.add_label("made by a refinement")
    return paths[0], paths[1]


@pytest.fixture(scope="module")
def finished(
    inputs: tuple[Path, Path], tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run on two half-maps with the default options."""
    folder = tmp_path_factory.mktemp("finished") / "deep" / "er"
    done = Runner(tiny_model, folder).complete(*inputs, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder, done


Finished = tuple[Path, subprocess.CompletedProcess[str]]


def test_two_half_maps_give_references_mask_and_report(finished: Finished) -> None:
    assert listing(finished[0]) == HALF_FILES


def test_one_map_gives_map_mask_and_report(
    denoise: Runner, inputs: tuple[Path, Path]
) -> None:
    assert listing(denoise(inputs[0])) == MAP_FILES


def test_the_average_is_the_mean_of_the_references(finished: Finished) -> None:
    first, second, average = (
        read(finished[0] / name) for name in ("denoised_1.mrc", "denoised_2.mrc", "denoised.mrc")
    )
    np.testing.assert_allclose(average, (first + second) / 2, atol=1e-6)
    assert not np.array_equal(first, second)


def test_the_mask_lies_between_0_and_1(finished: Finished) -> None:
    mask = read(finished[0] / "mask.mrc")
    assert 0 <= mask.min() < mask.max() <= 1


@pytest.mark.parametrize("name", [name for name in HALF_FILES if name.endswith(".mrc")])
def test_the_header_of_the_first_map_is_kept(
    name: str, finished: Finished, inputs: tuple[Path, Path]
) -> None:
    assert mrcfile.validate(finished[0] / name)
    with mrcfile.open(inputs[0]) as before, mrcfile.open(finished[0] / name) as after:
        for field in ("nx", "ny", "nz", "mx", "my", "mz", "cella", "origin", "nxstart",
                      "nystart", "nzstart", "mapc", "mapr", "maps"):
            assert after.header[field] == before.header[field], field


@pytest.mark.parametrize("name", ["denoised_1.mrc", "denoised_2.mrc", "denoised.mrc"])
def test_the_label_says_that_a_reference_is_no_half_map(name: str, finished: Finished) -> None:
    with mrcfile.open(finished[0] / name) as mrc:
        labels = [str(label) for label in mrc.get_labels()]
    assert "made by a refinement" in labels[1]
    assert labels[-1].startswith(f"blush-onnx {__version__}: denoised")
    assert "no half-map" in labels[-1]


def test_the_label_of_the_mask_says_what_it_is(finished: Finished) -> None:
    with mrcfile.open(finished[0] / "mask.mrc") as mrc:
        assert "solvent mask" in str(mrc.get_labels()[-1])


def test_the_report_names_the_inputs(finished: Finished, inputs: tuple[Path, Path]) -> None:
    report = read_report(finished[0])
    assert report["kind"] == "half-maps"
    assert [entry["path"] for entry in report["inputs"]] == [str(path) for path in inputs]
    assert [entry["sha256"] for entry in report["inputs"]] == [sha256(path) for path in inputs]
    assert report["inputs"][0]["box"] == [SIDE] * 3
    assert report["inputs"][0]["voxel_size_angstrom"] == VOXEL_SIZE


def test_the_report_names_the_model(finished: Finished, tiny_model: Path) -> None:
    model = read_report(finished[0])["model"]
    assert model["name"] == "tiny"
    assert model["sha256"] == sha256(tiny_model / "model.onnx")


def test_the_report_names_the_engine_and_why_it_was_taken(finished: Finished) -> None:
    engine = read_report(finished[0])["engine"]
    assert engine["provider"] == "cpu"
    assert engine["library"].startswith("onnxruntime ")
    assert engine["reason"] == "asked for by name"
    assert engine["batch_size"] == 1
    assert engine["threads"] >= 1
    assert engine["precision"] == "float32"


def test_the_report_holds_every_setting(finished: Finished, tiny_model: Path) -> None:
    settings = read_report(finished[0])["settings"]
    assert settings["model"] == str(tiny_model)
    assert settings["stride"] == 20
    assert settings["spectral_trailing"] is True
    assert settings.keys() >= {
        "mask", "denoise_mask", "voxel_size", "particle_diameter", "batch_size", "threads",
        "provider", "device", "require_gpu", "cut_off",
    }


def test_the_report_holds_the_fsc_and_the_cut_off_read_off_it(finished: Finished) -> None:
    report = read_report(finished[0])
    curve = report["fsc"]["curves"]["unmasked"]
    assert len(curve) == SIDE // 2 + 1
    rho = next(shell for shell, value in enumerate(curve) if value < 1 / 7)
    assert report["cut_off"]["rho_shell"] == rho
    assert report["cut_off"]["shell"] == rho - 2
    assert report["cut_off"]["angstrom"] == pytest.approx(SIDE * VOXEL_SIZE / (rho - 2))
    assert report["cut_off"]["source"] == "fsc"


def test_the_report_lists_files_warnings_and_times(finished: Finished) -> None:
    folder, done = finished
    report = read_report(folder)
    assert sorted(report["files"]) == HALF_FILES
    assert done.stderr.splitlines() == [f"Warning: {text}" for text in report["warnings"]]
    assert report["seconds"].keys() == {"read", "load", "denoise", "write"}


def test_the_report_warns_against_use_as_half_maps(finished: Finished) -> None:
    assert "not half-maps" in read_report(finished[0])["note"]


def test_a_table_is_printed(finished: Finished) -> None:
    for text in ("Resolution before", "Cut-off", "Patches", "tiny", "cpu (asked for by name)",
                 "denoised_1.mrc"):
        assert text in finished[1].stdout


def test_quiet_prints_nothing_on_stdout(denoise: Runner, inputs: tuple[Path, Path]) -> None:
    done = denoise.complete(*inputs, "--out", denoise.out, "--quiet")
    assert done.returncode == 0
    assert done.stdout == ""


def test_the_same_run_gives_the_same_maps(
    finished: Finished, denoise: Runner, inputs: tuple[Path, Path]
) -> None:
    out = denoise(*inputs)
    for name in ("denoised_1.mrc", "denoised_2.mrc", "denoised.mrc", "mask.mrc"):
        np.testing.assert_array_equal(read(out / name), read(finished[0] / name))


def test_the_report_of_one_map_has_no_fsc(denoise: Runner, inputs: tuple[Path, Path]) -> None:
    report = read_report(denoise(inputs[0]))
    assert report["kind"] == "map"
    assert report["fsc"] is None
    assert report["cut_off"]["source"] == "network limit"


def test_the_references_end_at_the_cut_off(finished: Finished) -> None:
    shell = read_report(finished[0])["cut_off"]["shell"]
    spectrum = power(read(finished[0] / "denoised_1.mrc"))
    assert spectrum[shell + 3 :].max() < 1e-6 * spectrum[1 : shell].max()


def test_without_spectral_trailing_they_do_not(
    finished: Finished, denoise: Runner, inputs: tuple[Path, Path]
) -> None:
    out = denoise(*inputs, "--no-spectral-trailing")
    shell = read_report(finished[0])["cut_off"]["shell"]
    assert (
        power(read(out / "denoised_1.mrc"))[shell + 3]
        > 1e3 * power(read(finished[0] / "denoised_1.mrc"))[shell + 3]
    )
    assert read_report(out)["settings"]["spectral_trailing"] is False


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


def test_the_table_can_be_printed_in_ascii(denoise: Runner, inputs: tuple[Path, Path]) -> None:
    done = denoise.complete(
        inputs[0], "--out", denoise.out, env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    )
    assert done.returncode == 0, done.stderr


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
