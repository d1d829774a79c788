"""What a run found, in the forms that the pipeliner shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blush_onnx.resolution import in_angstrom

CURVES = {
    "given": "given", "unmasked": "unmasked", "masked": "masked",
    "phase_randomised": "phases randomised", "solvent_corrected": "solvent-corrected",
}


def table_rows(record: Mapping[str, Any]) -> list[list[str]]:
    """What was found, as rows of a name and a value.

    Parameters
    ----------
    record : mapping
        report.json of two half-maps.

    Returns
    -------
    list of list of str
    """
    rows = [
        [f"Resolution before (FSC {threshold}, {CURVES[name]})", in_angstrom(value)]
        for name, found in record["fsc"]["resolution_angstrom"].items()
        for threshold, value in found.items()
    ]
    cut_off, patches, engine = (record[part] for part in ("cut_off", "patches", "engine"))
    applied = cut_off["spectral_trailing"]
    rows.append(["Cut-off", in_angstrom(cut_off["angstrom"]) if applied else "none"])
    rows.append(["Patches", f"{patches['count']}, {patches['skipped']} skipped"])
    rows.append(["Model", record["model"]["name"]])
    rows.append(["Engine", f"{engine['library']}, {engine['provider']} ({engine['reason']})"])
    rows.append(["Seconds", f"{sum(record['seconds'].values()):.0f}"])
    return rows


def fsc_graph(fsc: Mapping[str, Any]) -> dict[str, Any]:
    """Curves over the spatial frequency, as the pipeliner's graph takes them.

    Parameters
    ----------
    fsc : mapping
        The part ``fsc`` of report.json.

    Returns
    -------
    dict
        Arguments of the pipeliner's ResultsDisplayGraph.
    """
    length = fsc["box_size"] * fsc["voxel_size_angstrom"]
    values = list(fsc["curves"].values())
    frequencies = [round(shell / length, 6) for shell in range(len(values[0]))]
    threshold = [0.143] * len(frequencies)
    return {
        "xvalues": [frequencies] * (len(values) + 1),
        "yvalues": [*values, threshold],
        "data_series_labels": [*(CURVES[name] for name in fsc["curves"]), "0.143"],
        "xaxis_label": "Spatial frequency (1/Å)",
        "yaxis_label": "FSC",
        "yrange": [min(-0.05, *(min(curve) for curve in values)), 1.05],
    }
