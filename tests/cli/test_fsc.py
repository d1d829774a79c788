from __future__ import annotations

import csv
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from blush_onnx.fsc import fsc
from tests.cli.helpers import assert_fails, bad_map, listing, run_cli
from tests.conftest import blob_and_noise, write_mrc

Halves = tuple[Path, Path]
SHELLS = 21


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def ball(folder: Path) -> Path:
    index = np.arange(40) - 20
    radius = np.sqrt(index[:, None, None] ** 2 + index[:, None] ** 2 + index**2)
    return write_mrc(folder / "mask.mrc", np.clip(16 - radius, 0, 1).astype(np.float32))


def test_the_curves_are_drawn(half_maps: Halves, tmp_path: Path) -> None:
    done = run_cli("fsc", *half_maps, "--out", tmp_path / "fsc.csv", env={"COLUMNS": "60"})
    assert done.returncode == 0
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].startswith("   1.0 │")
    assert any("●" in line for line in lines[:16])
    assert any(line.startswith(" 0.143 │") for line in lines)
    assert "● unmasked" in done.stdout
    assert max(map(len, lines[:19])) == 60
    assert lines[-1] == f"Written to {tmp_path / 'fsc.csv'}"


def test_a_terminal_without_unicode_gets_plain_characters(
    half_maps: Halves, tmp_path: Path
) -> None:
    done = run_cli(
        "fsc", *half_maps, "--out", tmp_path / "fsc.csv", env={"PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert "* unmasked" in done.stdout
    assert " A (unmasked)" in done.stdout


def test_quiet_leaves_the_plot_out(half_maps: Halves, tmp_path: Path) -> None:
    done = run_cli("fsc", *half_maps, "--out", tmp_path / "fsc.csv", "--quiet")
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "Resolution", "Resolution", "Written",
    ]


def test_a_table_is_printed_on_demand(half_maps: Halves, tmp_path: Path) -> None:
    done = run_cli("fsc", *half_maps, "--out", tmp_path / "fsc.csv", "--table")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["shell", "resolution_angstrom", "unmasked"]
    assert [line.split()[0] for line in lines[1 : SHELLS + 1]] == [str(i) for i in range(SHELLS)]


def test_the_resolution_is_printed_at_two_thresholds(
    half_maps: Halves, tmp_path: Path
) -> None:
    out = tmp_path / "fsc.csv"
    done = run_cli("fsc", *half_maps, "--out", out)
    for threshold in (0.143, 0.5):
        below = next(r for r in rows(out)[1:] if float(r["unmasked"]) < threshold)
        angstrom = 80 / (int(below["shell"]) - 1)
        assert f"Resolution at {threshold}: {angstrom:.2f} Å (unmasked)" in done.stdout


def test_the_csv_holds_the_curve(half_maps: Halves, tmp_path: Path) -> None:
    out = tmp_path / "fsc.csv"
    run_cli("fsc", *half_maps, "--out", out)
    found = rows(out)
    with mrcfile.open(half_maps[0]) as first, mrcfile.open(half_maps[1]) as second:
        expected = fsc(first.data, second.data)
    np.testing.assert_allclose([float(r["unmasked"]) for r in found], expected, rtol=1e-5)
    assert float(found[4]["resolution_angstrom"]) == 20


def test_a_mask_adds_the_corrected_curve(half_maps: Halves, tmp_path: Path) -> None:
    out = tmp_path / "fsc.csv"
    done = run_cli("fsc", *half_maps, "--mask", ball(tmp_path), "--out", out)
    assert done.returncode == 0
    found = rows(out)
    assert list(found[0]) == [
        "shell", "resolution_angstrom", "unmasked", "masked", "phase_randomised",
        "solvent_corrected",
    ]
    assert len(found) == SHELLS
    assert "(solvent-corrected)" in done.stdout
    assert "Phases randomised from shell" in done.stdout


def test_like_relion_changes_the_count_alone(half_maps: Halves, tmp_path: Path) -> None:
    out = tmp_path / "fsc.csv"
    run_cli("fsc", *half_maps, "--out", out, "--like-relion")
    found = [float(r["unmasked"]) for r in rows(out)]
    with mrcfile.open(half_maps[0]) as first, mrcfile.open(half_maps[1]) as second:
        expected = fsc(first.data, second.data, like_relion=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_xml_for_emdb_holds_the_curve_that_decides(
    half_maps: Halves, tmp_path: Path
) -> None:
    out, xml = tmp_path / "fsc.csv", tmp_path / "deposit" / "fsc.xml"
    done = run_cli(
        "fsc", *half_maps, "--mask", ball(tmp_path), "--out", out, "--xml", xml
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"Written to {out} and {xml}"
    values = [float(text.split("<")[0]) for text in xml.read_text().split("<y>")[1:]]
    expected = [float(r["solvent_corrected"]) for r in rows(out)]
    np.testing.assert_allclose(values, expected, atol=2e-6)


def test_both_files_go_into_one_folder(half_maps: Halves, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    done = run_cli("fsc", *half_maps, "--out", folder / "a.csv", "--xml", folder / "a.xml")
    assert done.returncode == 0, done.stderr
    assert listing(folder) == ["a.csv", "a.xml"]


def test_one_file_for_both_is_wrong_usage(half_maps: Halves, tmp_path: Path) -> None:
    out = tmp_path / "fsc"
    done = run_cli("fsc", *half_maps, "--out", out, "--xml", out)
    assert done.returncode == 2
    assert not out.exists()


def test_an_existing_xml_is_not_replaced(half_maps: Halves, tmp_path: Path) -> None:
    xml, out = tmp_path / "fsc.xml", tmp_path / "fsc.csv"
    xml.write_text("precious")
    done = run_cli("fsc", *half_maps, "--out", out, "--xml", xml)
    assert_fails(done, "fsc.xml exists already")
    assert xml.read_text() == "precious"
    assert not out.exists()


def test_an_input_is_never_replaced(half_maps: Halves, tmp_path: Path) -> None:
    before = half_maps[0].read_bytes()
    done = run_cli("fsc", *half_maps, "--out", half_maps[0], "--overwrite", cwd=tmp_path)
    assert_fails(done, "is an input and would be replaced")
    assert half_maps[0].read_bytes() == before


ATOM = (
    "ATOM  {n:>5}  CA  GLY A{n:>4}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00 50.00           C  \n"
)


def write_atoms(path: Path, shift: float = 0) -> Path:
    places = np.random.default_rng(0).uniform(28, 52, (40, 3)) + shift
    path.write_text(
        "".join(ATOM.format(n=n, x=x, y=y, z=z) for n, (x, y, z) in enumerate(places, 1)) + "END\n"
    )
    return path


def test_an_atomic_model_adds_its_curve(tmp_path: Path) -> None:
    from blush_onnx.validation.model_map import model_density

    model = write_atoms(tmp_path / "model.pdb")
    density = model_density(model, (40, 40, 40), 2.0)
    halves = [
        write_mrc(
            tmp_path / f"half{seed}.mrc",
            density + np.float32(0.1 * density.std()) * blob_and_noise((40, 40, 40), seed, 1),
        )
        for seed in (1, 2)
    ]
    out = tmp_path / "fsc.csv"
    done = run_cli("fsc", *halves, "--atomic-model", model, "--out", out)
    assert done.returncode == 0, done.stderr
    assert float(rows(out)[8]["map_to_model"]) > 0.9
    assert "Map to model at 0.5: " in done.stdout
    assert "× map to model" in done.stdout or "○ map to model" in done.stdout


def test_an_atomic_model_outside_the_map_fails(half_maps: Halves, tmp_path: Path) -> None:
    model = write_atoms(tmp_path / "model.pdb", 500)
    out = tmp_path / "fsc.csv"
    done = run_cli("fsc", *half_maps, "--atomic-model", model, "--out", out)
    assert_fails(done, "only 0% of its atoms lie inside the box")
    assert not out.exists()


def test_suspicious_halves_are_warned_about(tmp_path: Path) -> None:
    first, second = blob_and_noise((40, 40, 40), 1), blob_and_noise((40, 40, 40), 2)
    halves = [
        write_mrc(tmp_path / "half1.mrc", first),
        write_mrc(tmp_path / "half2.mrc", first + 0.1 * second),
    ]
    done = run_cli("fsc", *halves, "--out", tmp_path / "fsc.csv")
    assert done.returncode == 0
    assert done.stderr.startswith("Warning: the FSC does not fall below 0.143")


def test_the_table_lies_in_the_working_folder_by_default(
    half_maps: Halves, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    assert run_cli("fsc", *half_maps, cwd=tmp_path / "here").returncode == 0
    assert listing(tmp_path / "here") == ["fsc.csv"]


def test_missing_folders_are_made(half_maps: Halves, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "er" / "fsc.csv"
    assert run_cli("fsc", *half_maps, "--out", out).returncode == 0
    assert listing(out.parent) == ["fsc.csv"]


def test_a_box_that_is_no_even_cube_is_padded(tmp_path: Path) -> None:
    halves = [
        write_mrc(tmp_path / f"half{seed}.mrc", blob_and_noise((33, 40, 36), seed))
        for seed in (1, 2)
    ]
    out = tmp_path / "fsc.csv"
    assert run_cli("fsc", *halves, "--out", out).returncode == 0
    assert len(rows(out)) == SHELLS


def test_an_existing_table_is_not_replaced(half_maps: Halves, tmp_path: Path) -> None:
    out = tmp_path / "fsc.csv"
    out.write_text("precious")
    assert_fails(run_cli("fsc", *half_maps, "--out", out), "fsc.csv exists already")
    assert out.read_text() == "precious"


def test_an_existing_table_is_replaced_on_demand(half_maps: Halves, tmp_path: Path) -> None:
    out = tmp_path / "fsc.csv"
    out.write_text("old")
    assert run_cli("fsc", *half_maps, "--out", out, "--overwrite").returncode == 0
    assert len(rows(out)) == SHELLS


@pytest.mark.parametrize("name", ["missing", "truncated", "text", "nan", "complex",
                                  "image_stack", "voxel_size_0"])
def test_a_bad_half_fails_and_writes_nothing(
    name: str, half_maps: Halves, tmp_path: Path
) -> None:
    path = bad_map(name, tmp_path)
    out = tmp_path / "results" / "fsc.csv"
    assert_fails(run_cli("fsc", half_maps[0], path, "--out", out), str(path))
    assert not out.parent.exists()


def test_the_same_map_twice_fails(half_maps: Halves, tmp_path: Path) -> None:
    done = run_cli("fsc", half_maps[0], half_maps[0], "--out", tmp_path / "fsc.csv")
    assert_fails(done, "are the same map")
    assert not (tmp_path / "fsc.csv").exists()


def test_a_full_disk_fails_and_leaves_nothing(half_maps: Halves, tmp_path: Path) -> None:
    out = tmp_path / "results" / "fsc.csv"
    assert_fails(run_cli("fsc", *half_maps, "--out", out, largest_file=100), "cannot write")
    assert not out.parent.exists()


@pytest.mark.parametrize("name", [".", ".."])
def test_a_folder_as_table_fails(name: str, half_maps: Halves, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    done = run_cli("fsc", *half_maps, "--out", name, "--overwrite", cwd=tmp_path / "here")
    assert_fails(done, name)
    assert listing(tmp_path / "here") == []


def test_one_map_is_wrong_usage(half_maps: Halves, tmp_path: Path) -> None:
    done = run_cli("fsc", half_maps[0], cwd=tmp_path)
    assert done.returncode == 2
    assert "Missing argument 'HALF2'" in done.stderr


def test_a_reader_that_goes_away_causes_no_traceback(
    half_maps: Halves, tmp_path: Path
) -> None:
    import subprocess

    from tests.cli.helpers import COMMAND

    process = subprocess.Popen(
        [*COMMAND, "fsc", *half_maps, "--out", tmp_path / "fsc.csv"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 1
    assert said == ""
    assert len(rows(tmp_path / "fsc.csv")) == SHELLS
