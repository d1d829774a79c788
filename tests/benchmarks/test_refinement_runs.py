from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.refinement import evaluate, particles, plan, relion, results, runs, truth
from benchmarks.refinement.command import refinement
from blush_onnx import models
from blush_onnx.errors import BlushError, InputError


def row(**given: str) -> dict[str, str]:
    """A line of a results file with everything filled in."""
    made = dict.fromkeys(results.COLUMNS, "")
    made |= dict.fromkeys(results.MEASURED, "6.50")
    made |= {"structure": "toy", "particles": "3000", "box": "8", "pixel_size": "2"}
    made |= {"level": "hard", "snr": "0.01", "seed": "1", "arm": "plain", "name": "toy_run"}
    return made | given


class TestPlan:
    def test_the_hardest_level_comes_first_with_all_arms(self) -> None:
        planned = plan.planned(["hard", "easy"], [1, 2], [], "easy")
        assert [run.name for run in planned[:4]] == [
            "hard_seed1_plain", "hard_seed1_blush", "hard_seed1_blush-no-trailing",
            "easy_seed1_randomised-plain",
        ]
        assert len(planned) == 2 * (2 * 3 + 3)

    def test_only_some_arms(self) -> None:
        planned = plan.planned(["hard"], [1], ["blush"], "easy")
        assert [run.arm.name for run in planned] == ["blush"]

    def test_a_level_is_a_name_or_a_number(self) -> None:
        assert plan.snr_of("0.03") == 0.03
        assert plan.snr_of("easy") == plan.LEVELS["easy"]
        for level in ("tough", "-1", "nan"):
            with pytest.raises(InputError, match="no noise level"):
                plan.snr_of(level)


class TestRuns:
    @pytest.fixture
    def bench(self, structure: Path, tmp_path: Path) -> runs.Bench:
        made = truth.read_truth(structure, 32, 2.0)
        return runs.Bench(made, 500, 8.0, tmp_path / "work", tmp_path / "r.csv")

    def test_runs_in_the_results_file_are_not_done_again(
        self, bench: runs.Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.stand_in_programs(tmp_path, monkeypatch)
        planned = plan.planned(["hard"], [1], ["plain", "blush"], "easy")
        for run in planned:
            results.append_row(bench.results, runs.key_row(bench, run))
        told: list[str] = []
        runs.run_all(bench, planned, told.append)
        assert [line.endswith("done already") for line in told] == [True, True]
        assert not bench.work.exists()

    def test_another_seed_or_model_or_number_is_another_run(self) -> None:
        done = [row()]
        assert results.is_done(row(), done)
        assert results.is_done(row(date="2000-01-01"), done)
        for other in ({"seed": "2"}, {"model": "v1.0"}, {"particles": "9"}, {"snr": "0.1"}):
            assert not results.is_done(row(**other), done)

    def test_a_run_that_fails_is_not_noted_down(
        self, bench: runs.Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.stand_in_programs(tmp_path, monkeypatch, "echo ERROR: no such particle; exit 3")
        with pytest.raises(BlushError, match="status 3 .* ERROR: no such particle"):
            runs.run_all(bench, plan.planned(["hard"], [1], ["plain"], "easy"), print)
        assert results.read_rows(bench.results) == []

    def test_relion_that_is_missing_is_named(
        self, bench: runs.Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(BlushError, match="relion_refine_mpi is not on PATH"):
            runs.run_all(bench, [], print)

    def test_the_command_says_what_the_arm_is(self, bench: runs.Bench) -> None:
        assert runs.external_command(bench, plan.ARMS["plain"]) is None
        with_trailing = runs.external_command(bench, plan.ARMS["blush"])
        without = runs.external_command(bench, plan.ARMS["blush-no-trailing"])
        assert with_trailing is not None
        assert with_trailing.endswith("blush-onnx relion --pixel-size 2 --particle-diameter 46")
        assert without == f"{with_trailing} --skip-spectral-trailing"

    def test_another_program_has_no_model_and_another_name(self, bench: runs.Bench) -> None:
        (run,) = plan.planned(["hard"], [1], ["blush"], "easy")
        ours = runs.key_row(bench, run)
        other = runs.key_row(dataclasses.replace(bench, command="program"), run)
        model = models.bundled_default()
        assert (ours["model"], ours["name"]) == (model, f"toy_500_2A_hard_seed1_blush_{model}")
        assert (other["model"], other["name"]) == ("", "toy_500_2A_hard_seed1_blush_external")
        assert not results.is_done(other, [ours])

    def test_cleaning_keeps_the_final_maps_and_the_last_settings(self, tmp_path: Path) -> None:
        output = tmp_path / relion.OUTPUT
        output.mkdir()
        (tmp_path / particles.STACK).touch()
        kept = {*evaluate.MAPS, "run_data.star", "run_model.star", "run_it002_optimiser.star"}
        gone = {"run_it001_half1_model.star", "run_it001_optimiser.star", "run_it002_data.star",
                "run_it002_half1_class001.mrc",
                "run_it002_half1_class001_external_reconstruct_data_real.mrc"}
        for name in kept | gone:
            (output / name).touch()
        runs.clean(tmp_path)
        assert {path.name for path in output.iterdir()} == kept
        assert not (tmp_path / particles.STACK).exists()

    @staticmethod
    def stand_in_programs(
        folder: Path, monkeypatch: pytest.MonkeyPatch, script: str = "exit 0"
    ) -> None:
        """Programs of RELION's names that do what a script says, first on PATH."""
        programs = folder / "programs"
        programs.mkdir()
        for name in (relion.REFINE, relion.PROJECT, relion.MPIRUN):
            (programs / name).write_text(f"#!/bin/sh\n{script}\n")
            (programs / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")


class TestResults:
    def test_lines_come_back_as_they_were_written(self, tmp_path: Path) -> None:
        path = tmp_path / "r.csv"
        assert results.read_rows(path) == []
        for seed in "12":
            results.append_row(path, row(seed=seed))
        assert results.read_rows(path) == [row(seed="1"), row(seed="2")]

    def test_a_file_of_another_kind_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "r.csv"
        path.write_text("a,b\n1,2\n")
        with pytest.raises(InputError, match="other columns"):
            results.read_rows(path)

    def test_curves_come_back(self, tmp_path: Path) -> None:
        path = tmp_path / "c" / "run.csv"
        results.write_curves(path, {"truth": np.array([1, 0.5]), "half": np.array([1, 0.25])})
        back = results.read_curves(path)
        assert back["shell"].tolist() == [0, 1]
        assert back["half"].tolist() == [1, 0.25]

    def test_the_table_averages_the_seeds_of_an_arm(self, tmp_path: Path) -> None:
        path = tmp_path / "refinement.csv"
        results.append_row(path, row(seed="1", **{"truth_0.5": "8.00"}))
        results.append_row(path, row(seed="2", **{"truth_0.5": "9.00"}))
        results.append_row(path, row(arm="blush", model="v1.0"))
        done = CliRunner().invoke(refinement, ["--work", str(tmp_path), "--table"])
        assert done.exit_code == 0, done.output
        header, _, plain, blush = done.output.strip().splitlines()
        assert "truth_0.5" in header
        assert "| hard | plain |  | 2 |" in plain
        assert "8.50 (8.00–9.00)" in plain
        assert "| hard | blush | v1.0 | 1 |" in blush

    def test_the_plot_is_drawn_from_the_files_alone(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        path = tmp_path / "refinement.csv"
        for name, given in (
            ("a", row()), ("b", row(arm="blush")),
            ("c", row(arm="randomised-blush", randomised_beyond="8")),
        ):
            results.append_row(path, given | {"name": name})
            curves = dict.fromkeys(evaluate.CURVES, np.linspace(1, 0, 5))
            results.write_curves(results.curves_file(path, name), curves)
        picture = tmp_path / "p.png"
        done = CliRunner().invoke(
            refinement, ["--work", str(tmp_path), "--plot", str(picture)]
        )
        assert done.exit_code == 0, done.output
        assert picture.stat().st_size > 1000

    def test_without_a_structure_there_is_nothing_to_run(self, tmp_path: Path) -> None:
        done = CliRunner().invoke(refinement, ["--work", str(tmp_path)])
        assert done.exit_code == 2
        assert "--structure" in done.output
