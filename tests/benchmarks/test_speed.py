"""The benchmarks of speed run, and their tables say what was measured."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from benchmarks.measuring import alternating, table
from benchmarks.quality import quality
from benchmarks.speed.command import _reference_of, speed
from tests.conftest import blob_and_noise, write_mrc


def run_speed(*args: str) -> Result:
    done = CliRunner().invoke(speed, args, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def figures(output: str, name: str) -> list[float]:
    """Numbers of the row that begins with a name."""
    row = next(line for line in output.splitlines() if line.startswith(name))
    return [float(word) for word in row[len(name) :].split()]


def test_it_measures_patches_maps_rescaling_and_the_start(tiny_model: Path) -> None:
    done = run_speed(
        "--engine", "cpu", "--model", str(tiny_model), "--repeats", "1", "--box", "72",
        "--rescale-box", "32", "--threads", "1", "--stride", "43",
    )
    for name in ("seconds a patch", "denoising, s", "both, s", "ready after, s"):
        assert all(value > 0 for value in figures(done.output, name))
    (patches,) = figures(done.output, "patches")
    assert patches >= 1
    installed = re.search(r"ours, cpu +(\d+) MB", done.output)
    assert installed is not None
    assert 50 < float(installed[1]) < 2000


def test_an_engine_that_is_not_to_be_had_is_left_out_with_the_reason(tiny_model: Path) -> None:
    done = run_speed(
        "--only", "start", "--engine", "cpu", "--engine", "migraphx", "--model", str(tiny_model),
        "--repeats", "1",
    )
    assert "not run: the installed onnxruntime" in done.output
    assert "migraphx" not in done.output.splitlines()[3]
    assert len(figures(done.output, "ready after, s")) == 2  # with a kept graph, and without


def test_a_ratio_is_that_of_runs_side_by_side() -> None:
    measured = {
        "ours": [{"a": 1.0}, {"a": 2.0}, {"a": 3.0}],
        "reference": [{"a": 4.0}, {"a": 6.0}, {"a": 30.0, "b": 1.0}],
    }
    header, row = table(measured)
    assert header.split() == ["median", "ours", "reference", "x", "ours"]
    assert row.split() == ["a", "2", "6", "4.00"]  # ratios 4, 3, 10


def test_each_precision_is_compared_with_the_same_of_the_reference() -> None:
    measured = {
        name: [{"a": value}]
        for name, value in (
            ("ours", 1.0), ("ours-bfloat16", 0.5), ("reference", 3.0), ("reference-bfloat16", 2.0),
        )
    }
    header, row = table(measured, _reference_of)
    assert header.split()[-4:] == ["x", "ours", "x", "ours-bfloat16"]
    assert row.split()[-2:] == ["3.00", "4.00"]


def test_nothing_measured_is_an_empty_table() -> None:
    done = run_speed("--only", "denoise", "--engine", "migraphx", "--repeats", "1")
    assert "not run" in done.output


def test_a_failure_in_the_other_process_is_told() -> None:
    with pytest.raises(Exception, match="no_such_function"):
        alternating({"ours": ("benchmarks.speed.ours", "no_such_function", [])}, 1)


def test_the_first_stride_differs_from_itself_by_nothing_and_a_longer_one_by_something(
    tiny_model: Path, tmp_path: Path
) -> None:
    paths = [
        write_mrc(tmp_path / f"half{k}.mrc", blob_and_noise((90, 90, 90), k), 1.5) for k in (1, 2)
    ]
    done = CliRunner().invoke(
        quality,
        [*map(str, paths), "--model", str(tiny_model), "--provider", "cpu", "--strides", "20,43",
         "--truth", str(paths[0])],
        catch_exceptions=False,
    )
    rows = [line.split() for line in done.output.splitlines()[2:]]
    assert [row[0] for row in rows] == ["20", "43"]
    assert float(rows[0][3]) == 0 < float(rows[1][3]) < 0.5
    assert int(rows[0][1]) > int(rows[1][1])
    assert np.isfinite([float(value) for row in rows for value in row]).all()


def test_a_single_map_is_held_against_itself_denoised(tiny_model: Path, tmp_path: Path) -> None:
    path = write_mrc(tmp_path / "map.mrc", blob_and_noise((88, 90, 92), 1), 1.5)
    done = CliRunner().invoke(
        quality, [str(path), "--model", str(tiny_model), "--provider", "cpu", "--strides", "20,43"],
        catch_exceptions=False,
    )
    rows = [line.split() for line in done.output.splitlines()[2:]]
    assert float(rows[0][3]) == 0 < float(rows[1][3]) < 0.5
    assert CliRunner().invoke(quality, [str(path)] * 3).exit_code == 2
