"""What the page says about one run of ``denoise``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blush_onnx.fsc import FscCurves
from blush_onnx.report.content import ReportContent
from blush_onnx.report.maps import CURVES, ReportMaps, map_sections
from blush_onnx.report.settings import settings_section
from blush_onnx.resolution import agree_to, in_angstrom


def denoise_content(record: Mapping[str, Any], maps: ReportMaps) -> ReportContent:
    """The page of one ``denoise`` run.

    Parameters
    ----------
    record : mapping
        As :func:`blush_onnx.report.record.denoise_record` makes it.
    maps : ReportMaps

    Returns
    -------
    ReportContent
    """
    halves = record["kind"] == "half-maps"
    names = [_name(source["path"]) for source in record["inputs"]]
    return ReportContent(
        title=f"Denoising of {'two half-maps' if halves else 'one map'}",
        subtitle=" and ".join(names),
        facts=_facts(record, maps),
        summary=summary(record, maps.fsc),
        notice=record["note"],
        warnings=record["warnings"],
        sections=(*map_sections(maps), settings_section(record)),
        footer=f"Written by blush-onnx {record['versions']['blush-onnx']}. This page holds "
        "all it shows and asks nothing of any network.",
    )


def _facts(record: Mapping[str, Any], maps: ReportMaps) -> list[tuple[str, str]]:
    facts = []
    if maps.fsc is not None:
        facts.append(("Resolution before (FSC 0.143)", in_angstrom(maps.fsc.resolution())))
        facts.append(("Resolution before (FSC 0.5)", in_angstrom(maps.fsc.resolution(0.5))))
    cut_off = record["cut_off"]
    trailing = cut_off.get("spectral_trailing", cut_off["source"] == "option")
    facts.append(("Cut-off", in_angstrom(cut_off["angstrom"]) if trailing else "none"))
    z, y, x = maps.before.shape
    facts.append(("Box", f"{x} × {y} × {z} of {maps.voxel_size:.3g} Å"))
    facts.append(("Model", record["model"]["name"]))
    return [*facts, ("Time", f"{sum(record['seconds'].values()):.0f} s")]


def summary(record: Mapping[str, Any], found: FscCurves | None) -> list[str]:
    """What was done, in a few sentences.

    Parameters
    ----------
    record : mapping
    found : FscCurves or None
        Of the half-maps; None for a single map.

    Returns
    -------
    list of str
        Paragraphs.
    """
    cut_off = record["cut_off"]
    shell = in_angstrom(cut_off["angstrom"])
    patches = f"{record['patches']['count']} overlapping patches"
    if found is None:
        return [
            f"The map was denoised as a 3-D class by the network “{record['model']['name']}”, in "
            f"{patches}. " + (
                f"It was cut off at {shell}, as asked for; nothing is beyond."
                if cut_off["source"] == "option" else
                f"The network's part was used up to {shell}, its own limit; finer detail, if "
                "there is any, is the map's own."
            ),
            "With a single map there is no FSC, and so no telling from these data alone how far "
            "it can be trusted.",
        ]
    kind = next(label for name, label in CURVES.items() if getattr(found, name) is not None)
    first = (
        f"Before denoising the two half-maps {agree_to(found.resolution())} "
        f"(FSC 0.143, {kind}). Each half was denoised on its own by the network "
        f"“{record['model']['name']}”, in {patches} for both."
    )
    if cut_off["beyond_network"] and not cut_off["spectral_trailing"]:
        second = (
            f"No cut-off was applied, because the halves agree to {shell}, further than the "
            "network reaches: the finest shells are filled from the half-maps, weighted by "
            "the FSC."
        )
    elif not cut_off["spectral_trailing"]:
        second = (
            "The denoised halves were kept beyond their cut-off (spectral trailing was switched "
            f"off; it would have been {shell}). What lies beyond has no support in the FSC, and "
            "can teach a refinement its own noise."
        )
    else:
        asked = cut_off["source"] == "option"
        source = "as asked for" if asked else "two shells before the FSC falls below 1/7"
        second = (
            f"The denoised halves were kept up to the cut-off at {shell}, {source}; nothing was "
            "kept beyond (spectral trailing), so that the network adds no detail finer than that."
        )
    return [first, second]


def _name(path: str) -> str:
    return path.replace("\\", "/").rsplit("/", 1)[-1]

