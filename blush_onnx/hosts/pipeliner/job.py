"""The pipeliner's job: ``blush-onnx denoise``, and what is shown of its report.json.

The pipeliner finds the class by the entry point ``ccpem_pipeliner.jobs``; nothing else
imports this file, which needs ``ccpem-pipeliner``.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeliner.display_tools import (
    create_results_display_object,
    make_maps_slice_montage_and_3d_display,
)
from pipeliner.external_program_utils import ExternalProgram
from pipeliner.job_options import JobOptionValidationResult
from pipeliner.nodes import NODE_DENSITYMAP, NODE_IMAGE3D, NODE_LOGFILE, NODE_MASK3D
from pipeliner.pipeliner_job import PipelinerCommand, PipelinerJob, Ref
from pipeliner.results_display_objects import ResultsDisplayObject

from blush_onnx import __version__
from blush_onnx.hosts.pipeliner.parameters import arguments_of, inputs, settings
from blush_onnx.hosts.pipeliner.results import fsc_graph, table_rows


class DenoiseHalfMaps(PipelinerJob):
    """Two unfiltered half-maps into two references for refinement."""

    PROCESS_NAME = "blush_onnx.postprocess.denoise_half_maps"
    OUT_DIR = "BlushOnnx"
    CATEGORY_LABEL = "Map Postprocessing"

    def __init__(self) -> None:
        super().__init__()
        self._describe()
        self.joboptions.update(inputs())
        self.joboptions.update(settings())
        self.get_runtab_options(threads=True, addtl_args=True)

    def _describe(self) -> None:
        program = find_program()
        info = self.jobinfo
        info.display_name = "Blush denoising of half-maps"
        info.version = __version__
        info.job_author = "The blush-onnx developers"
        info.short_desc = "Denoise half-maps by Blush regularisation"
        info.long_desc = (
            "Each of two unfiltered half-maps is denoised on its own and kept up to the "
            "resolution where the two agree. The results are references for refinement and maps "
            "to look at. They are not half-maps: do not deposit them as such, and do not take an "
            "FSC between them."
        )
        info.documentation = "docs/pipeliner.md of blush-onnx"
        info.programs = [
            ExternalProgram(program, name="blush-onnx", vers_com=[program, "--version"])
        ]
        info.references = [
            Ref(
                authors=["Kimanius D", "Jamali K", "Wilkinson ME", "Lövestam S", "Velazhahan V",
                         "Nakane T", "Scheres SHW"],
                title="Data-driven regularization lowers the size barrier of cryo-EM structure "
                "determination",
                journal="Nature Methods", year="2024", volume="21", pages="1216-1221",
                doi="10.1038/s41592-024-02304-8",
            )
        ]

    def additional_joboption_validation(self) -> list[JobOptionValidationResult]:
        """Refuse the same half-map twice before the job is queued."""
        halves = [self.joboptions[name] for name in ("half_map_1", "half_map_2")]
        if not halves[0].value or halves[0].value != halves[1].value:
            return []
        return [
            JobOptionValidationResult(
                "error", halves, "The two half-maps are the same file: give both halves."
            )
        ]

    def create_output_nodes(self) -> None:
        """References, their mean, the network's mask, and the reports.

        None has the keyword ``halfmap``, by which other jobs would take them for half-maps.
        """
        kind = ["blush-onnx", "denoised", "reference"]
        for name in ("denoised_1.mrc", "denoised_2.mrc", "denoised.mrc"):
            self.add_output_node(name, NODE_DENSITYMAP, kind)
        self.add_output_node("mask.mrc", NODE_MASK3D, ["blush-onnx"])
        if self.joboptions["rotations"].get_number() > 1:
            self.add_output_node("spread.mrc", NODE_IMAGE3D, ["blush-onnx", "spread"])
        self.add_output_node("report.json", NODE_LOGFILE, ["blush-onnx"])
        if self.joboptions["do_report"].get_boolean():
            self.add_output_node("report.html", NODE_LOGFILE, ["blush-onnx"])

    def get_commands(self) -> list[PipelinerCommand]:
        """The version for the log, then ``blush-onnx denoise`` into the job's folder."""
        halves = [self.joboptions[name].get_string() for name in ("half_map_1", "half_map_2")]
        # The folder is the job's own, and a job that is run again replaces its results.
        command = [find_program(), "denoise", *halves, "--out", self.output_dir, "--overwrite"]
        command += arguments_of(self.joboptions)
        if self.joboptions["do_report"].get_boolean():
            command.append("--report")
        command += self.parse_additional_args()
        return [*self.get_program_version_commands(), PipelinerCommand(command)]

    def gather_metadata(self) -> dict[str, Any]:
        """What the run depended on and found, without the curves."""
        record = self._record()
        return {
            "CutOff": record["cut_off"],
            "Resolution": record["fsc"]["resolution_angstrom"],
            "Model": record["model"],
            "Engine": record["engine"],
            "Patches": record["patches"],
            "Warnings": "; ".join(record["warnings"]),
        }

    def create_results_display(self) -> Sequence[ResultsDisplayObject]:
        """Numbers, FSC, slices before and after, maps in 3-D, and the report."""
        record = self._record()
        source = [self._path("report.json")]
        shown = [
            create_results_display_object(
                "text", title="What these maps are for", display_data=record["note"],
                associated_data=source,
            ),
            create_results_display_object(
                "table", title="Denoising", headers=["", "Value"], table_data=table_rows(record),
                associated_data=source, flag="; ".join(record["warnings"]),
            ),
            create_results_display_object(
                "graph", title="FSC of the half-maps", associated_data=source,
                **fsc_graph(record["fsc"]),
            ),
        ]
        maps = {
            self.joboptions["half_map_1"].get_string(): "half-map 1",
            self._path("denoised_1.mrc"): "denoised half 1",
            self._path("denoised.mrc"): "mean of both, denoised",
            self._path("mask.mrc"): "network's solvent mask",
        }
        shown += make_maps_slice_montage_and_3d_display(maps, self.output_dir)
        if "report.html" in record["files"]:
            shown.append(
                create_results_display_object(
                    "html", title="Report", html_file=self._path("report.html"),
                    associated_data=[self._path("report.html")],
                )
            )
        return shown

    def _path(self, name: str) -> str:
        return str(Path(self.output_dir) / name)

    def _record(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(
            Path(self._path("report.json")).read_text(encoding="utf-8")
        )
        return record


def find_program() -> str:
    """Command ``blush-onnx``: of PATH, else of the environment the pipeliner runs in.

    Returns
    -------
    str
        The bare name where there is neither, by which the pipeliner says what is missing.
    """
    beside = Path(sys.executable).with_name("blush-onnx")
    return shutil.which("blush-onnx") or (str(beside) if beside.is_file() else "blush-onnx")
