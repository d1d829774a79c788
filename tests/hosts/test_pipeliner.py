"""The job of the CCP-EM Pipeliner, run by the pipeliner itself."""

from __future__ import annotations

import json
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest

from blush_onnx.hosts.pipeliner.results import fsc_graph, table_rows
from tests.cli.helpers import run_cli
from tests.conftest import blob_and_noise, write_mrc
from tests.hosts.environments import make_environment
from tests.python_without import run_python

ROOT = Path(__file__).parent.parent.parent
JOB = "blush_onnx.postprocess.denoise_half_maps"
VERSION = "1.6.1"

DRIVER = """
import json, sys
from pipeliner.api.manage_project import PipelinerProject
project = PipelinerProject(make_new_project=True)
answers = []
for parameters in json.load(open("parameters.json")):
    answer = {}
    answers.append(answer)
"""
RUN = """
job = project.run_job(parameters, run_in_foreground=True)
job = project.get_job(job.output_dir)
"""
TELL = """
answer["folder"] = job.output_dir
answer["nodes"] = {node.name: node.type for node in job.output_nodes}
answer["metadata"] = job.gather_metadata()
answer["shown"] = [shown.__dict__ for shown in job.save_results_display_files()]
answer["read again"] = [shown.dobj_type for shown in job.load_results_display_files()]
"""


@pytest.fixture(scope="session")
def pipeliner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of an environment with the pipeliner and this checkout."""
    python = make_environment(
        "pipeliner", f"ccpem-pipeliner=={VERSION}", temporary=tmp_path_factory, above_this_one=True
    )
    subprocess.run(  # the entry point of this very checkout
        [python, "-m", "pip", "install", "--quiet", "--no-deps", "--editable", ROOT], check=True
    )
    return python


class Project:
    """A project with two half-maps and a mask."""

    def __init__(self, python: Path, folder: Path, model: Path) -> None:
        self.python = python
        self.folder = folder
        self.parameters: dict[str, Any] = {
            "_rlnJobTypeLabel": JOB, "half_map_1": "half1.mrc", "half_map_2": "half2.mrc",
            "model": str(model), "provider": "cpu",
        }
        for number in (1, 2):
            write_mrc(folder / f"half{number}.mrc", blob_and_noise((40,) * 3, number))
        mask = np.zeros((40,) * 3, dtype=np.float32)
        mask[6:34, 6:34, 6:34] = 1
        write_mrc(folder / "mask.mrc", mask)

    def drive(self, code: str, *variants: dict[str, Any]) -> list[dict[str, Any]]:
        """Run code against the pipeliner's API, with each of some sets of parameters.

        Returns what it put into ``answer`` each time.
        """
        sets = [self.parameters | variant for variant in variants]
        (self.folder / "parameters.json").write_text(json.dumps(sets))
        end = "\njson.dump(answers, open('answers.json', 'w'))"
        done = subprocess.run(
            [self.python, "-c", DRIVER + textwrap.indent(code, "    ") + end],
            cwd=self.folder, capture_output=True, text=True, timeout=300, check=False,
        )
        assert done.returncode == 0, done.stderr
        answers: list[dict[str, Any]] = json.loads((self.folder / "answers.json").read_text())
        return answers


@pytest.fixture
def project(pipeliner: Path, tmp_path: Path, tiny_model: Path) -> Project:
    folder = tmp_path / "project"
    folder.mkdir()
    return Project(pipeliner, folder, tiny_model)


@pytest.fixture(scope="session")
def finished(
    pipeliner: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, dict[str, Any]]:
    """A project whose job has run, and what the pipeliner says of it."""
    project = Project(pipeliner, tmp_path_factory.mktemp("finished"), tiny_model)
    (answer,) = project.drive(
        RUN + TELL,
        {"fsc_mask": "mask.mrc", "particle_diameter": 60, "nr_threads": 2, "other_args": "--quiet"},
    )
    return project, answer


@pytest.mark.hosts
def test_the_pipeliner_runs_the_command_and_its_maps_are_the_commands(
    finished: tuple[Project, dict[str, Any]], tiny_model: Path, tmp_path: Path
) -> None:
    project, answer = finished
    folder = project.folder / answer["folder"]
    assert (folder / "PIPELINER_JOB_EXIT_SUCCESS").exists(), (folder / "run.err").read_text()
    assert "blush-onnx 0." in (folder / "run.out").read_text()
    done = run_cli(
        "denoise", "half1.mrc", "half2.mrc", "--mask", "mask.mrc", "--particle-diameter", "60",
        "--provider", "cpu", "--threads", "2", "--model", tiny_model, "--out", tmp_path / "direct",
        cwd=project.folder,
    )
    assert done.returncode == 0, done.stderr
    for name in ("denoised_1.mrc", "denoised_2.mrc", "denoised.mrc", "mask.mrc"):
        here, there = mrcfile.read(folder / name), mrcfile.read(tmp_path / "direct" / name)
        np.testing.assert_array_equal(here, there)


@pytest.mark.hosts
def test_the_outputs_are_maps_that_no_job_takes_for_half_maps(
    finished: tuple[Project, dict[str, Any]],
) -> None:
    _, answer = finished
    nodes = {Path(name).name: kind for name, kind in answer["nodes"].items()}
    for name in ("denoised_1.mrc", "denoised_2.mrc", "denoised.mrc"):
        assert nodes[name] == "DensityMap.mrc.blush-onnx.denoised.reference"
    assert nodes["mask.mrc"].startswith("Mask3D.mrc")
    assert "spread.mrc" not in nodes
    assert not any("half" in kind for kind in nodes.values())


@pytest.mark.hosts
def test_what_is_shown_is_what_the_report_says(
    finished: tuple[Project, dict[str, Any]],
) -> None:
    project, answer = finished
    record = json.loads((project.folder / answer["folder"] / "report.json").read_text())
    shown = answer["shown"]
    kinds = [item["dobj_type"] for item in shown]
    assert kinds == ["text", "table", "graph", "montage", *["mapmodel"] * 4, "html"]
    assert answer["read again"] == kinds
    assert "not half-maps" in shown[0]["display_data"]
    table = dict(shown[1]["table_data"])
    assert table["Cut-off"] == f"{record['cut_off']['angstrom']:.2f} Å"
    assert table["Model"] == "tiny"
    assert shown[1]["flag"] == "; ".join(record["warnings"]) != ""
    assert shown[2]["data_series_labels"] == [
        "unmasked", "masked", "phases randomised", "solvent-corrected", "0.143"
    ]
    assert shown[2]["yvalues"][3] == record["fsc"]["curves"]["solvent_corrected"]
    assert shown[2]["xvalues"][0][-1] == pytest.approx(1 / 4)  # Nyquist of 2 Å
    assert (project.folder / shown[-1]["html_file"]).read_text().startswith("<!DOCTYPE html>")
    assert answer["metadata"]["CutOff"] == record["cut_off"]


@pytest.mark.hosts
def test_a_job_that_fails_says_why(project: Project) -> None:
    write_mrc(project.folder / "mask.mrc", np.ones((32,) * 3, dtype=np.float32))
    (answer,) = project.drive(
        RUN + "answer['folder'] = job.output_dir\n"
        "answer['shown'] = [shown.dobj_type for shown in job.save_results_display_files()]",
        {"fsc_mask": "mask.mrc", "do_report": False},
    )
    folder = project.folder / answer["folder"]
    assert (folder / "PIPELINER_JOB_EXIT_FAILED").exists()
    assert (folder / "run.err").read_text().startswith("Error: the mask mask.mrc")
    assert not (folder / "denoised.mrc").exists()
    assert answer["shown"] == ["pending"]


@pytest.mark.hosts
def test_what_cannot_run_is_refused_before(project: Project) -> None:
    same, missing, blank = project.drive(
        "try:\n    project.run_job(parameters)\n"
        "except ValueError as error:\n    answer['why'] = str(error)",
        {"half_map_2": "half1.mrc"}, {"half_map_2": ""}, {"rotations": ""},
    )
    assert "same file: give both halves" in same["why"]
    assert "Half-map 2" in missing["why"]
    assert "Orientations to average" in blank["why"]


@pytest.mark.hosts
def test_parameters_become_options_and_defaults_are_left_to_the_command(project: Project) -> None:
    plain, answer = project.drive(
        "from pipeliner.job_factory import job_from_dict\njob = job_from_dict(parameters)\n"
        "job.output_dir = 'BlushOnnx/job007/'\njob.create_output_nodes()\n"
        "answer['command'] = job.get_commands()[-1].cmd[1:]\n"
        "answer['nodes'] = [node.name for node in job.output_nodes]",
        {"model": "", "provider": "auto", "nr_threads": 3},
        {
            "denoise_mask": "mask.mrc", "cut_off": 9.5, "quality": "fast", "rotations": 4,
            "device": "0,1", "do_report": False, "other_args": "--precision 'float16'",
        },
    )
    assert plain["command"] == [
        "denoise", "half1.mrc", "half2.mrc", "--out", "BlushOnnx/job007/", "--overwrite",
        "--threads", "3", "--report",
    ]
    options = answer["command"][6:]
    assert dict(zip(options[::2], options[1::2], strict=True)) == {
        "--denoise-mask": "mask.mrc", "--cut-off": "9.5", "--quality": "fast",
        "--rotations": "4", "--device": "0,1", "--model": project.parameters["model"],
        "--provider": "cpu", "--threads": "1", "--precision": "float16",
    }
    assert "BlushOnnx/job007/spread.mrc" in answer["nodes"]
    assert "BlushOnnx/job007/report.html" not in answer["nodes"]


@pytest.mark.hosts
def test_a_missing_program_is_named(project: Project) -> None:
    (answer,) = project.drive(
        "import os\nos.environ['PATH'], sys.executable = '/nowhere', '/nowhere/python'\n"
        "from pipeliner.job_factory import new_job_of_type\n"
        "info = new_job_of_type(parameters['_rlnJobTypeLabel']).jobinfo\n"
        "answer['available'], answer['why'] = info.is_available, info.unavailable_message",
        {},
    )
    assert not answer["available"]
    assert "executable 'blush-onnx' not found" in answer["why"]


@pytest.mark.hosts
@pytest.mark.slow
def test_a_job_that_is_aborted_stops_and_leaves_nothing(project: Project) -> None:
    """The default model at a small stride takes far longer than the pipeliner to abort."""
    (answer,) = project.drive(
        "import time\nfrom pathlib import Path\njob = project.run_job(parameters)\n"
        "while not list(Path(job.output_dir).glob('.blush-onnx-*')):\n    time.sleep(0.1)\n"
        "project.abort_job(job.output_dir)\n"
        "answer['status'] = project.wait_for_job_to_finish(job, timeout=60)\n"
        "answer['files'] = sorted(p.name for p in Path(job.output_dir).iterdir())",
        {"model": "", "do_report": False, "other_args": "--stride 4"},
    )
    assert answer["status"] == "Aborted"
    assert not [name for name in answer["files"] if "denoised" in name or ".blush" in name]


def test_where_there_is_no_pipeliner_nothing_is_missed() -> None:
    done = run_python(
        "from blush_onnx.cli import main\n"
        "import importlib.metadata, blush_onnx.hosts\n"
        "importlib.metadata.entry_points(group='ccpem_pipeliner.jobs')\n"
        "main(['--help'])",
        without=["pipeliner"],
    )
    assert done.returncode == 0, done.stderr
    assert "denoise" in done.stdout


RECORD: dict[str, Any] = {
    "fsc": {
        "box_size": 40, "voxel_size_angstrom": 2.0, "curves": {"unmasked": [1.0, 0.5, -0.2]},
        "resolution_angstrom": {"unmasked": {"0.143": 80.0, "0.5": None}},
    },
    "cut_off": {"angstrom": 2.5, "spectral_trailing": False},
    "patches": {"count": 16, "skipped": 4},
    "model": {"name": "tiny"},
    "engine": {"library": "onnxruntime 1.32.0", "provider": "cpu", "reason": "asked for by name"},
    "seconds": {"read": 0.4, "denoise": 1.2},
}


def test_no_resolution_and_no_cut_off_are_shown_as_none() -> None:
    rows = {name: value for name, value in table_rows(RECORD)}
    assert rows["Resolution before (FSC 0.143, unmasked)"] == "80.00 Å"
    assert rows["Resolution before (FSC 0.5, unmasked)"] == "none"
    assert rows["Cut-off"] == "none"
    assert rows["Patches"] == "16, 4 skipped"


def test_the_fsc_is_drawn_over_the_spatial_frequency_with_its_negative_values() -> None:
    graph = fsc_graph(RECORD["fsc"])
    assert graph["xvalues"][0] == [0, 0.0125, 0.025]
    assert graph["yrange"] == [-0.2, 1.05]
    assert len(graph["xvalues"]) == len(graph["yvalues"]) == len(graph["data_series_labels"]) == 2
