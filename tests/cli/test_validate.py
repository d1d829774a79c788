"""``blush-onnx validate`` as its users call it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import mrcfile
import numpy as np
import pytest

from tests.cli.helpers import assert_fails, listing, run_cli
from tests.conftest import blob_and_noise, write_mrc
from tests.python_without import run_python

SCHEMA = json.loads(
    (Path(__file__).parent.parent.parent / "docs" / "validation.schema.json").read_text()
)
ALWAYS = ["fsc.csv", "fsc.xml", "report.html", "report.json"]


def report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    jsonschema.validate(content, SCHEMA)
    return content


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    axis = np.arange(40) - 20
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    soft = np.clip((16 - radius) / 4, 0, 1).astype(np.float32)
    return write_mrc(tmp_path / "mask.mrc", soft)


def test_half_maps_alone_need_no_network(
    half_maps: tuple[Path, Path], mask: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run_cli("validate", *half_maps, "--mask", mask, "--no-network", "--out", out)
    assert done.returncode == 0, done.stderr
    assert listing(out) == sorted([*ALWAYS, "local_resolution.mrc"])
    for words in ("Resolution", "Local resolution", "not run", "under the mask given", "0.143"):
        assert words in done.stdout
    content = report(out)
    assert content["model"] is None
    assert content["mask_of_fsc"] == "given"
    assert content["masks"]["fsc"]["path"] == str(mask)
    assert content["settings"]["network"] is False
    with mrcfile.open(out / "local_resolution.mrc") as mrc:
        assert np.isfinite(mrc.data).all()
        assert mrc.voxel_size.x == pytest.approx(2)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "no network was to run" in page


def test_every_test_of_the_denoiser_in_one_run(
    half_maps: tuple[Path, Path], mask: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run_cli(
        "validate", *half_maps, "--mask", mask, "--model", tiny_model, "--provider", "cpu",
        "--phase-randomise", "14", "--repeats", "--rotations", "2", "--stride", "40", "--out", out,
    )
    assert done.returncode == 0, done.stderr
    content = report(out)
    assert [verdict["test"] for verdict in content["verdicts"]] == [
        "FSC beyond its fall", "Agreement of the solvent", "Nothing beyond the resolution",
        "Phase randomisation", "Repeats",
    ]
    assert content["phase_randomisation"]["beyond_angstrom"] == 14
    assert len(content["repeats"]["changes"]) == 5
    assert len(content["account"]) == 2
    assert content["model"]["name"] == "tiny"
    assert "spread.mrc" in listing(out)
    assert listing(out) == sorted(content["files"])
    page = (out / "report.html").read_text(encoding="utf-8")
    for title in ("What the denoiser changed", "Does it come to rest?", "FSC by direction",
                  "Where the answer depends on how you look", "Local resolution"):
        assert title in page


def test_strict_tells_by_its_status_that_something_was_flagged(
    mask: Path, tmp_path: Path
) -> None:
    common = np.random.default_rng(9).normal(0, 0.5, (40,) * 3).astype(np.float32)
    halves = [
        write_mrc(tmp_path / f"half{n}.mrc", blob_and_noise((40,) * 3, n) + common) for n in (1, 2)
    ]
    arguments = ("validate", *halves, "--mask", mask, "--no-network", "--quiet")
    lenient = run_cli(*arguments, "--out", tmp_path / "lenient")
    strict = run_cli(*arguments, "--out", tmp_path / "strict", "--strict")
    assert (lenient.returncode, strict.returncode) == (0, 3)
    assert lenient.stdout == strict.stdout == ""
    assert report(tmp_path / "strict")["flagged"] is True


def test_the_map_is_compared_with_an_atomic_model(
    half_maps: tuple[Path, Path], tmp_path: Path
) -> None:
    gemmi = pytest.importorskip("gemmi")
    structure = gemmi.Structure()
    chain = gemmi.Chain("A")
    for number in range(6):
        residue = gemmi.Residue()
        residue.name, residue.seqid = "ALA", gemmi.SeqId(str(number + 1))
        atom = gemmi.Atom()
        atom.name, atom.element = "CA", gemmi.Element("C")
        atom.pos = gemmi.Position(40 + 2 * number, 40, 40)
        atom.b_iso, atom.occ = 40, 1
        residue.add_atom(atom)
        chain.add_residue(residue)
    model = gemmi.Model("1") if gemmi.__version__ < "0.7" else gemmi.Model(1)
    model.add_chain(chain)
    structure.add_model(model)
    path = tmp_path / "model.pdb"
    structure.write_pdb(str(path))
    out = tmp_path / "out"
    done = run_cli(
        "validate", *half_maps, "--no-network", "--atomic-model", path, "--no-local-resolution",
        "--out", out,
    )
    assert done.returncode == 0, done.stderr
    content = report(out)
    assert len(content["model_map_fsc"]["curve"]) == 21
    assert listing(out) == sorted(ALWAYS)
    assert "map_to_model" in (out / "fsc.csv").read_text().splitlines()[0]


def test_what_an_earlier_run_left_and_this_one_does_not_make_goes(
    half_maps: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for name, more in (("first", []), ("second", ["--no-local-resolution", "--overwrite"])):
        done = run_cli("validate", *half_maps, "--no-network", "--quiet", "--out", out, *more)
        assert done.returncode == 0, (name, done.stderr)
        assert ("local_resolution.mrc" in listing(out)) == (name == "first")
    (out / "mine.mrc").write_text("not ours")
    again = run_cli("validate", *half_maps, "--no-network", "--quiet", "--out", out, "--overwrite")
    assert again.returncode == 0
    assert "mine.mrc" in listing(out)


def test_a_mask_from_an_earlier_run_is_an_input_and_stays(
    half_maps: tuple[Path, Path], mask: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    earlier = mask.rename(out / "solvent_mask.mrc")
    before = earlier.read_bytes()
    done = run_cli(
        "validate", *half_maps, "--mask", earlier, "--no-network", "--out", out, "--overwrite"
    )
    assert_fails(done, "is an input and would be replaced")
    assert earlier.read_bytes() == before


def test_wrong_arguments_are_noticed_before_the_network_runs(
    half_maps: tuple[Path, Path], tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for arguments, message in (
        (["--phase-randomise", "0"], "resolution 0 Å is out of range"),
        (["--phase-randomise", "4.1"], "nothing of the maps lies beyond"),
        (["--atomic-model", "nowhere.cif"], "nowhere.cif"),
    ):
        done = run_cli("validate", *half_maps, "--model", tiny_model, "--out", out, *arguments)
        assert_fails(done, message)
        assert not out.exists()


def test_a_faint_mask_still_gets_its_page(
    half_maps: tuple[Path, Path], tmp_path: Path
) -> None:
    faint = write_mrc(tmp_path / "faint.mrc", np.full((40,) * 3, 0.3, dtype=np.float32))
    out = tmp_path / "out"
    done = run_cli("validate", *half_maps, "--mask", faint, "--no-network", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "could not be made" not in done.stderr
    assert "RuntimeWarning" not in done.stderr
    assert (out / "report.html").exists()


@pytest.mark.parametrize(
    "arguments",
    [["--phase-randomise", "8"], ["--repeats"], ["--rotations", "4"], ["--no-spectral-trailing"],
     ["--particle-diameter", "50"], ["--mask-threshold", "0.6"], ["--model", "sim-2"]],
)
def test_tests_of_the_denoiser_do_not_go_without_one(
    half_maps: tuple[Path, Path], tmp_path: Path, arguments: list[str]
) -> None:
    done = run_cli("validate", *half_maps, "--no-network", "--out", tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert "about the denoiser" in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_validated_is_one_line_and_leaves_nothing(
    half_maps: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    twice = run_cli("validate", half_maps[0], half_maps[0], "--no-network", "--out", out)
    assert_fails(twice, "are the same map")
    fine = run_cli(
        "validate", *half_maps, "--no-network", "--voxel-size", "99", "--out", out
    )
    assert_fails(fine, "out of range")
    assert not out.exists()


def test_a_missing_package_is_named_before_the_work_starts(
    half_maps: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run_python(
        "from blush_onnx.cli import main; main()", ["jinja2"],
        ["validate", *map(str, half_maps), "--no-network", "--out", str(out)],
    )
    assert done.returncode == 1
    assert "blush-onnx[report]" in done.stderr
    assert not out.exists()
