"""Sections of a page on each test of a validation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from blush_onnx.report import curves, pictures
from blush_onnx.report.content import Figure, Section, Table, number_text
from blush_onnx.report.content import Verdict as Mark
from blush_onnx.report.maps import cut_off_mark
from blush_onnx.validation.findings import Validation
from blush_onnx.validation.overfitting import SMEARED_SHELLS, TrailingFinding
from blush_onnx.validation.verdicts import Verdict

MARKS: dict[str, Mark | None] = {"passed": "ok", "flagged": "failed", "not run": None}


def sections_of(found: Validation) -> list[Section]:
    """A section for each part that was looked at.

    Parameters
    ----------
    found : Validation

    Returns
    -------
    list of Section
        Local resolution, what the denoiser changed, phase randomisation, repeats, directions,
        map and model; those that there are.
    """
    every = [
        _local_resolution(found), _account(found), _randomisation(found), _repeats(found),
        _directions(found), _model(found),
    ]
    return [section for section in every if section is not None]


def _verdict(found: Validation, test: str) -> dict[str, Any]:
    """Arguments of a section that is about a test."""
    verdict: Verdict = next(v for v in found.verdicts if v.test == test)
    return {"verdict": MARKS[verdict.outcome], "verdict_text": f"{verdict.text}."}


def _local_resolution(found: Validation) -> Section | None:
    local = found.local_resolution
    if local is None:
        return None
    mask = np.ones_like(local.map) if found.mask is None else found.mask
    inside = mask >= 0.5 * mask.max()  # as the quartiles
    shown = np.where(inside, local.map, np.float32(np.nan))
    low, middle, high = local.quartiles
    return Section(
        "local-resolution", "Local resolution",
        text=[
            f"FSC of the half-maps in a window of {local.window_angstrom:.0f} Å around each voxel, "
            f"read at {local.threshold:g}. A window sees its surroundings: borders between good "
            "and poor parts are smeared over its width."
        ],
        figures=[
            pictures.picture_grid(
                {"local resolution": shown}, local.voxel_size, "slice",
                limits=(float(np.nanpercentile(shown, 1)), float(np.nanpercentile(shown, 99))),
                colours="viridis", bar_label="Å",
                alt="Central slices of the local resolution.",
                caption="Central slices inside the mask, from {low} to {high} Å.",
            ),
            curves.histogram_figure(
                {"inside the mask": local.map[inside]}, xlabel="local resolution (Å)",
                alt="Histogram of the local resolution inside the mask.",
                caption="How much of the molecule has which resolution.",
            ),
        ],
        tables=[Table(
            "Quartiles inside the mask", ("", "Å"),
            [("best quarter to", f"{low:.2f}"), ("median", f"{middle:.2f}"),
             ("worst quarter from", f"{high:.2f}")],
        )],
    )


def _account(found: Validation) -> Section | None:
    regularised = found.regularised
    if regularised is None:
        return None
    box, voxel_size = found.fsc.box_size, found.fsc.voxel_size
    ratios = {f"half {n}": a.amplitude_ratio for n, a in enumerate(found.accounts, 1)}
    phases = {f"half {n}": a.phase_change_degrees for n, a in enumerate(found.accounts, 1)}
    marks = cut_off_mark(regularised.cut_off_angstrom if found.trailing else None)
    return Section(
        "account", "What the denoiser changed",
        text=[
            "Shell by shell, each half before and after. Where the halves agree the amplitudes "
            "should be kept and the phases hardly turned; 90° is what unrelated phases give."
        ],
        **_verdict(found, "Nothing beyond the resolution"),
        figures=[
            curves.shell_figure(
                ratios, box, voxel_size, ylabel="amplitude after / before", marks=marks,
                alt="Ratio of the amplitudes after and before denoising over resolution.",
                caption="Ratio of the amplitudes.",
            ),
            curves.shell_figure(
                phases, box, voxel_size, ylabel="phase change (degrees)", marks=marks,
                alt="Mean change of the phases over resolution.",
                caption="Mean change of the phases, weighted by the amplitudes.",
            ),
        ],
        tables=[
            curves.shell_table(
                "Amplitude ratio and phase change at some shells",
                {"amplitude ratio, half 1": found.accounts[0].amplitude_ratio,
                 "phase change, half 1 (°)": found.accounts[0].phase_change_degrees},
                box, voxel_size,
            )
        ],
    )


def _randomisation(found: Validation) -> Section | None:
    test = found.randomisation
    if test is None:
        return None
    labelled = {
        "with spectral trailing": _where_it_counts(test.with_trailing, test.from_shell),
        "without": _where_it_counts(test.without_trailing, test.from_shell),
        "randomised halves": test.randomised,
        "halves as given": test.original,
    }
    return Section(
        "phase-randomisation", "Does the denoiser make the halves agree?",
        text=[
            f"The phases of both halves were drawn anew beyond {test.beyond_angstrom:.2f} Å, each "
            "half's apart, and the halves denoised. What agrees there afterwards was put there by "
            "the denoiser. All curves are under the same mask.",
        ],
        **_verdict(found, "Phase randomisation"),
        figures=[curves.fsc_figure(
            labelled, found.fsc.box_size, found.fsc.voxel_size,
            marks={"phases random from here on": test.beyond_angstrom},
            alt="FSC of the randomised halves before and after denoising.",
            caption="A curve ends where a result holds nothing that could agree.",
        )],
        tables=[Table(
            "Beyond the resolution", ("", "with trailing", "without"),
            [
                ("share of the energy", *(f"{f.energy_beyond:.1e}" for f in
                 (test.with_trailing, test.without_trailing))),
                ("mean excess of the FSC", *(number_text(f.mean_excess) for f in
                 (test.with_trailing, test.without_trailing))),
                ("flagged", *("yes" if f.flagged else "no" for f in
                 (test.with_trailing, test.without_trailing))),
            ],
        )],
    )


def _where_it_counts(finding: TrailingFinding, from_shell: int) -> Any:
    """The curve, but for shells beyond in which the results hold nothing that could agree."""
    beyond = np.arange(len(finding.curve)) > from_shell + SMEARED_SHELLS
    return np.where(beyond & ~np.isfinite(finding.limit), np.nan, finding.curve)


def _repeats(found: Validation) -> Section | None:
    repeats = found.repeats
    if repeats is None:
        return None
    rows = [
        (str(number), f"{change:.1%}", f"{drift:.2f}", f"{norm:.3f}")
        for number, (change, drift, norm) in enumerate(
            zip(repeats.changes, repeats.drift, repeats.norms, strict=True), 1
        )
    ]
    return Section(
        "repeats", "Does it come to rest?",
        text=[
            "The first half was denoised, then the result, and so on. In a refinement every "
            "reference has been denoised before."
        ],
        **_verdict(found, "Repeats"),
        tables=[Table(
            "Each application", ("Application", "Change", "Distance from the first result, in "
                                 "units of the first change", "Size"), rows,
        )],
    )


def _directions(found: Validation) -> Section:
    directions = found.anisotropy
    box, voxel_size = found.fsc.box_size, found.fsc.voxel_size
    best, worst = (int(at(directions.areas)) for at in (np.argmax, np.argmin))
    labelled = {
        "best direction": directions.curves[best], "worst direction": directions.curves[worst],
        "mean of all": directions.curves.mean(axis=0),
    }
    return Section(
        "directions", "FSC by direction",
        text=[
            f"In {len(directions.areas)} cones of 20° around directions over half a sphere. The "
            f"area under the worst curve is {directions.area_ratio:.0%} of that under the best."
        ],
        verdict="warning" if directions.is_anisotropic else "ok",
        verdict_text="anisotropic" if directions.is_anisotropic else "no direction much worse",
        figures=[_fsc_figure(
            labelled, box, voxel_size, "FSC in the best and the worst direction.",
            "Single cones hold few Fourier voxels: their curves scatter in small boxes.",
        )],
    )


def _model(found: Validation) -> Section | None:
    if found.model_curve is None:
        return None
    expected = np.sqrt(np.clip(2 * found.fsc.decisive / (1 + found.fsc.decisive), 0, 1))
    labelled = {"map to model": found.model_curve, "expected of a true model": expected}
    box, voxel_size = found.fsc.box_size, found.fsc.voxel_size
    return Section(
        "model-map", "FSC of map and model",
        text=[
            "The mean of both halves against the density of the atomic model. A model that was "
            "refined into this very map has been told what to say."
        ],
        figures=[_fsc_figure(
            labelled, box, voxel_size, "FSC of the map and the atomic model.",
            "Expected: √(2F/(1 + F)), F the FSC of the halves.",
        )],
        tables=[curves.resolution_table(labelled, box, voxel_size)],
    )


def _fsc_figure(
    labelled: Mapping[str, Any], box: int, voxel_size: float, alt: str, caption: str
) -> Figure:
    return curves.fsc_figure(labelled, box, voxel_size, alt=alt, caption=caption)
