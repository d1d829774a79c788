"""What the page says about one run of ``validate``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from blush_onnx.fsc import resolution
from blush_onnx.report.content import ReportContent, Section, Table
from blush_onnx.report.maps import ReportMaps, fsc_section, map_sections
from blush_onnx.report.settings import settings_section
from blush_onnx.report.validation_sections import sections_of
from blush_onnx.resolution import agree_to, in_angstrom
from blush_onnx.results import Regularised
from blush_onnx.validation.findings import Validation

Array = npt.NDArray[np.float32]


def validation_content(
    record: Mapping[str, Any], found: Validation, halves: tuple[Array, Array]
) -> ReportContent:
    """The page of one ``validate`` run.

    Parameters
    ----------
    record : mapping
        As :func:`blush_onnx.report.validation_record.validation_record` makes it.
    found : Validation
    halves : tuple of array, (z, y, x), float32
        The half-maps.

    Returns
    -------
    ReportContent
    """
    mean, regularised = np.float32(0.5) * (halves[0] + halves[1]), found.regularised
    networked = regularised is not None
    sections = [_tests(found)]
    if regularised is None:
        sections.append(fsc_section(found.fsc))
    else:
        sections += map_sections(_maps(found, regularised, mean))
    sections += sections_of(found)
    names = [PurePath(source["path"]).name for source in record["inputs"]]
    return ReportContent(
        title="Validation of two half-maps" + (" and their denoising" if networked else ""),
        subtitle=" and ".join(names),
        facts=_facts(found, record),
        summary=_summary(found),
        notice=record["note"] if networked else "",
        warnings=record["warnings"],
        sections=(*sections, settings_section(record)),
        footer=f"Written by blush-onnx {record['versions']['blush-onnx']}. This page holds "
        "all it shows and asks nothing of any network.",
    )


def _maps(found: Validation, regularised: Regularised, mean: Array) -> ReportMaps:
    local = found.local_resolution
    return ReportMaps(
        before=mean, after=regularised.average, voxel_size=found.fsc.voxel_size,
        solvent_mask=regularised.solvent_mask, cut_off_angstrom=regularised.cut_off_angstrom,
        fsc_mask=found.mask, fsc=found.fsc, spread=regularised.spread,
        local_resolution=None if local is None else local.map,
        cut_off_applied=found.trailing,
    )


def _facts(found: Validation, record: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [
        ("Resolution (FSC 0.143)", in_angstrom(found.fsc.resolution())),
        ("Resolution (FSC 0.5)", in_angstrom(found.fsc.resolution(0.5))),
    ]
    if found.local_resolution is not None:
        facts.append(("Median local resolution", in_angstrom(found.local_resolution.quartiles[1])))
    if found.model_curve is not None:
        at = resolution(found.model_curve, found.fsc.box_size, found.fsc.voxel_size, 0.5)
        facts.append(("Map to model (FSC 0.5)", in_angstrom(at)))
    flagged = sum(verdict.outcome == "flagged" for verdict in found.verdicts)
    run = sum(verdict.outcome != "not run" for verdict in found.verdicts)
    facts.append(("Tests flagged", f"{flagged} of {run}"))
    if record["model"] is not None:
        facts.append(("Model", record["model"]["name"]))
    return facts


def _summary(found: Validation) -> list[str]:
    source = {
        "given": "under the mask that was given, corrected for what the mask alone correlates",
        "network": "under a mask made of the network's own, corrected for what the mask alone "
        "correlates",
        None: "of the whole boxes, without a mask",
    }[found.mask_source]
    first = f"The two half-maps {agree_to(found.fsc.resolution())} (FSC 0.143), {source}."
    if found.regularised is not None and not found.trailing:
        first += (
            " The denoised halves were not cut off there: spectral trailing was switched off, or "
            "the halves agree further than the network reaches."
        )
    flagged = [verdict.test for verdict in found.verdicts if verdict.outcome == "flagged"]
    if flagged:
        return [first, f"Flagged: {', '.join(flagged)}. What that means stands below."]
    return [
        first,
        "No test was flagged. That is no proof: tests find the faults that they were made for, and "
        "only those that were run.",
    ]


def _tests(found: Validation) -> Section:
    flagged = found.flagged
    return Section(
        "tests", "Tests", verdict="failed" if flagged else "ok",
        verdict_text="flagged" if flagged else "nothing flagged",
        tables=[Table(
            "What each test came to", ("Test", "Outcome", "In words"),
            [(verdict.test, verdict.outcome, verdict.text) for verdict in found.verdicts],
        )],
    )
