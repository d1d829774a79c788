"""The benchmark of cards runs, on the CPU where there is no card, and its rows can be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.cards.command import cards
from benchmarks.cards.report import tables
from benchmarks.cards.settings import Row, read_rows


def run(tiny_model: Path, output: Path, *args: str) -> tuple[list[Row], str]:
    done = CliRunner().invoke(
        cards,
        ["--provider", "cpu", "--small", "--model", str(tiny_model), "--output", str(output),
         *args],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    return read_rows(output), done.output


def test_it_measures_patches_and_maps_and_goes_on_where_something_fails(
    tiny_model: Path, tmp_path: Path
) -> None:
    rows, output = run(tiny_model, tmp_path / "rows.jsonl", "--parts", "network,maps")
    assert rows[0]["part"] == "machine"
    measured = {(row["name"], row["batch"]) for row in rows if "ms_a_patch" in row}
    assert measured == {("ours float32", 1), ("ours float32", 2)}
    maps = {row["name"]: row for row in rows if row["part"] == "maps" and "seconds" in row}
    assert set(maps) == {"ours float32", "ours float32 on the card"}
    assert all(row["seconds"] > 0 and row["patches"] for row in maps.values())
    assert maps["ours float32 on the card"]["from_ours"] < 1e-5
    failed = {row.get("name", row["part"]) for row in rows if "failed" in row}
    assert {"ours tf32", "ours float16", "maps tf32", "maps float16"} <= failed
    assert "| network | ours float32 |" in output
    assert "Not measured:" in output


@pytest.mark.slow
@pytest.mark.torch
def test_it_measures_the_variants_of_onnx_runtime(tiny_model: Path, tmp_path: Path) -> None:
    rows, _ = run(tiny_model, tmp_path / "rows.jsonl", "--parts", "ort")
    measured = [row for row in rows if "ms_a_patch" in row]
    parts = {row["part"] for row in measured}
    assert parts == {"half", "search", "binding", "operations", "graphs"}
    assert all(row["error"] < 1e-4 for row in measured if row["part"] != "operations")
    assert not [row for row in rows if "failed" in row]


def test_nothing_is_begun_after_the_time_given(tiny_model: Path, tmp_path: Path) -> None:
    rows, output = run(
        tiny_model, tmp_path / "rows.jsonl", "--parts", "network", "--seconds", "1"
    )
    assert not [row for row in rows if "ms_a_patch" in row and row["batch"] > 1]
    assert "out of time" in output


def test_a_row_of_the_table_says_how_a_map_compares_with_the_published_program() -> None:
    base = {"part": "maps", "box": 128, "batch": 1}
    lines = list(tables([
        base | {"name": "published tf32", "seconds": 6.0},
        base | {"name": "ours tf32", "seconds": 2.0, "from_published": 1e-3},
    ]))
    assert any("| ours tf32 | 1 | 2.000 | 3.00 |" in line for line in lines)
