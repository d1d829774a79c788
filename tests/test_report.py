from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from tests.cli.helpers import run_cli

SCHEMA = json.loads(
    (Path(__file__).parent.parent / "docs" / "report.schema.json").read_text(encoding="utf-8")
)


def report_of(arguments: list[str], out: Path, tiny_model: Path) -> dict[str, object]:
    done = run_cli(
        "denoise", *arguments, "--out", str(out), "--model", str(tiny_model), "--provider", "cpu"
    )
    assert done.returncode == 0, done.stderr
    loaded: dict[str, object] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("option", [[], ["--no-spectral-trailing"], ["--cut-off", "12"]])
def test_the_report_of_two_halves_follows_its_schema(
    option: list[str], half_maps: tuple[Path, Path], tiny_model: Path, tmp_path: Path
) -> None:
    report = report_of([*map(str, half_maps), *option], tmp_path / "out", tiny_model)
    jsonschema.validate(report, SCHEMA)
    assert report["kind"] == "half-maps"


def test_the_report_of_one_map_follows_its_schema(
    half_maps: tuple[Path, Path], tiny_model: Path, tmp_path: Path
) -> None:
    report = report_of([str(half_maps[0])], tmp_path / "out", tiny_model)
    jsonschema.validate(report, SCHEMA)
    assert report["fsc"] is None


def test_the_schema_is_strict() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"schema": "blush-onnx report 1"}, SCHEMA)
