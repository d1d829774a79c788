from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blush_onnx.fsc import FscCurves
from blush_onnx.report.denoising import summary
from blush_onnx.report.maps import ReportMaps, map_sections
from tests.cli.helpers import assert_fails, run_cli
from tests.conftest import blob_and_noise, write_mrc
from tests.python_without import run_python
from tests.report.page_parts import Parts

Record = dict[str, Any]


def denoise(tiny_model: Path, out: Path, *arguments: str | Path) -> tuple[Parts, Record]:
    done = run_cli(
        "denoise", *arguments, "--report", "--out", out, "--model", tiny_model, "--provider", "cpu"
    )
    assert done.returncode == 0, done.stderr
    page = (out / "report.html").read_text(encoding="utf-8")
    assert len(page.encode()) < 15e6
    return Parts(page), json.loads((out / "report.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def halves_out(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with two half-maps and, in ``out``, what ``denoise --report`` made of them."""
    folder = tmp_path_factory.mktemp("halves")
    paths = [
        write_mrc(folder / f"half{seed}.mrc", blob_and_noise((40, 40, 40), seed))
        for seed in (1, 2)
    ]
    denoise(tiny_model, folder / "out", *paths)
    return folder / "out"


@pytest.fixture(scope="module")
def halves_page(halves_out: Path) -> tuple[Parts, Record]:
    record = json.loads((halves_out / "report.json").read_text(encoding="utf-8"))
    return Parts((halves_out / "report.html").read_text(encoding="utf-8")), record


def test_denoise_writes_a_page_beside_the_record(halves_page: tuple[Parts, Record]) -> None:
    parts, record = halves_page
    assert "report.html" in record["files"]
    assert "report" not in record["settings"]
    for source in record["inputs"]:
        assert source["sha256"] in parts.words
    assert record["note"] in parts.words
    for section in ("slices", "viewer", "fsc", "power", "histogram", "settings"):
        assert section in parts.values("id")


def test_every_setting_is_in_a_table(halves_page: tuple[Parts, Record]) -> None:
    parts, record = halves_page
    for group in ("settings", "model", "engine", "versions", "seconds"):
        for name, value in record[group].items():
            assert name.replace("_", " ") in parts.words
            if isinstance(value, str):
                assert value in parts.words


def test_a_map_denoised_already_has_a_page_without_an_fsc_and_with_its_warnings(
    tiny_model: Path, halves_out: Path, tmp_path: Path
) -> None:
    parts, record = denoise(tiny_model, tmp_path / "out", halves_out / "denoised.mrc")
    assert "report.html" in record["files"]
    assert "fsc" not in parts.values("id")
    assert "slices" in parts.values("id")
    assert any("denoised by blush-onnx already" in warning for warning in record["warnings"])
    for warning in record["warnings"]:
        assert warning in parts.words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": "option", "angstrom": 9.0}, "up to the cut-off at 9.00 Å, as asked for"),
        ({"source": "fsc"}, "two shells before the FSC falls below 1/7"),
        ({"spectral_trailing": False}, "can teach a refinement its own noise"),
        ({"spectral_trailing": False, "beyond_network": True}, "further than the network"),
    ],
)
def test_the_summary_tells_of_the_cut_off(
    changes: Record, words: str, halves_page: tuple[Parts, Record]
) -> None:
    record = halves_page[1]
    record = {**record, "cut_off": {**record["cut_off"], **changes}}
    shells = FscCurves(16, 2.0, unmasked=np.linspace(1, 0, 9))
    assert words in " ".join(summary(record, shells))


def test_a_spread_over_orientations_has_its_section() -> None:
    volume = blob_and_noise((16, 16, 16), 1)
    maps = ReportMaps(volume, volume, 2.0, np.ones_like(volume), 8.0)
    assert [s.id for s in map_sections(maps)] == [
        "slices", "viewer", "power", "histogram", "surface"
    ]
    assert [s.id for s in map_sections(replace(maps, spread=np.abs(volume)))][-1] == "spread"


def test_a_mask_that_is_empty_leaves_sections_out_and_harms_none() -> None:
    volume = blob_and_noise((16, 15, 18), 1)
    maps = ReportMaps(volume, volume, 2.0, np.zeros_like(volume), 8.0, spread=volume)
    found = [section.id for section in map_sections(maps)]
    assert found == ["slices", "viewer", "power", "spread"]


@pytest.mark.parametrize("missing", ["jinja2", "plotly", "skimage", "matplotlib", "scipy"])
def test_a_missing_package_is_named_before_the_work_begins(
    missing: str, half_maps: tuple[Path, Path], tmp_path: Path
) -> None:
    done = run_python(
        "from blush_onnx.cli import main; main()", without=[missing],
        arguments=["denoise", *map(str, half_maps), "--report", "--out", str(tmp_path / "out")],
    )
    assert_fails(done, f"a report needs {missing}: pip install 'blush-onnx[report]'")
    assert not (tmp_path / "out").exists()
