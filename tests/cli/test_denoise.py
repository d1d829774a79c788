from __future__ import annotations

import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from blush_onnx import __version__, conversion
from blush_onnx.checkpoint import read_checkpoint
from tests.cli.denoising import (
    HALF_FILES,
    MAP_FILES,
    SIDE,
    VOXEL_SIZE,
    Runner,
    power,
    read,
    read_report,
    sha256,
)
from tests.cli.helpers import listing
from tests.conftest import TINY_CHECKPOINT


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


def test_a_model_without_a_mask_is_said_to_be_one(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    (model := tmp_path / "plain").mkdir()
    checkpoint = read_checkpoint(TINY_CHECKPOINT.with_name("tiny_no_mask.ckpt"))
    conversion.write_model_folder(model, *conversion.build_model(checkpoint, "plain"))
    done = Runner(model, tmp_path).complete(inputs[0], "--out", tmp_path / "out")
    assert done.returncode == 0
    words = "the model plain sees no solvent mask: mask.mrc is 1 everywhere"
    assert words in done.stderr
    assert words in read_report(tmp_path / "out")["warnings"]
    assert (read(tmp_path / "out" / "mask.mrc") == 1).all()


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


def test_the_table_can_be_printed_in_ascii(denoise: Runner, inputs: tuple[Path, Path]) -> None:
    done = denoise.complete(
        inputs[0], "--out", denoise.out, env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    )
    assert done.returncode == 0, done.stderr
