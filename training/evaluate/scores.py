"""How far an output is from the truth, as ratios to the input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import fft

from blush_onnx import masks
from blush_onnx.fourier import Volume
from blush_onnx.fsc import fsc
from blush_onnx.half_map_checks import radial_power
from training.evaluate.cases import Case, phase_randomised, pure_noise, sharpened, weak_cone

FSC_TOLERANCE = 0.001
"""A mean FSC that is lower by less is not worse."""
REPEATS = 5
FEATURELESS = 0.05
"""Share of the input's power that two outputs of independent random phases may share."""
GATE_PERCENTILE = 90
"""Of the cases at each resolution: the gate looks at the bad ones, not at the median."""

Scores = dict[str, float]
Curves = dict[str, list[float]]
Result = tuple[Volume, Volume | None]
Denoise = Callable[[Volume, Case | None], Result]
"""A volume, and for filters its case, to the denoised one and the solvent mask."""


def score_case(case: Case, denoise: Denoise, *, repeats: bool) -> tuple[Scores, Curves]:
    """All rows of one case, and its curves.

    Parameters
    ----------
    case : Case
    denoise : callable
    repeats : bool
        Whether to denoise the output again and again.

    Returns
    -------
    scores : dict of str to float
        error, inside, solvent: squared error to the truth, ratio to the input's, within the
        sphere that models look at (outside it they return a constant for nothing);
        fsc_before, fsc_after: mean masked FSC to the truth up to the resolution;
        fsc_lost: (1 − after)/(1 − before); kept: share of the truth's amplitude within the
        mask that the output has, 1 where nothing is damped; mask_iou; weak_direction: as
        error, in the cone of an uneven case; repeats: largest error of the repeats over the
        first's, the sphere's outside set to 0 before each, as every mode does with what it
        gives back.
    curves : dict of str to list of float
        Masked FSC to the truth of each shell, before and after.
    """
    output, solvent_mask = denoise(case.noisy, case)
    found = {
        "error": _error(output, case, None),
        "inside": _error(output, case, case.mask),
        "solvent": _error(output, case, 1 - case.mask),
        "kept": _kept(output, case),
    }
    curves: Curves = {}
    for name, volume in (("before", case.noisy), ("after", output)):
        curve = fsc(volume, case.target, case.mask)
        curves[name] = curve.tolist()
        found[f"fsc_{name}"] = float(curve[1 : case.last_shell + 1].mean())
    found["fsc_lost"] = (1 - found["fsc_after"]) / max(1 - found["fsc_before"], 1e-6)
    if solvent_mask is not None:
        mine, true = solvent_mask > 0.5, case.mask > 0.5
        found["mask_iou"] = float((mine & true).sum() / max((mine | true).sum(), 1))
    if case.weak_direction is not None:
        cone = weak_cone(case)
        powers = [
            float(np.square(np.abs(fft.rfftn(v - case.target)[cone])).sum())
            for v in (output, case.noisy)
        ]
        found["weak_direction"] = powers[0] / max(powers[1], 1e-30)
    if repeats:
        errors = []
        again, sphere = output, masks.default_mask(output.shape)
        for _ in range(REPEATS - 1):
            again = denoise(again * sphere, case)[0]
            errors.append(_error(again, case, None))
        found["repeats"] = max(errors) / found["error"]
    return found, curves


def score_sharpened(case: Case, denoise: Denoise) -> Scores:
    """Whether a map that somebody sharpened keeps its amplitudes.

    Returns
    -------
    dict of str to float
        sharpened_inside, sharpened_kept: as inside and kept of :func:`score_case`, the case
        with a negative B factor on it.
    """
    raised = sharpened(case)
    output = denoise(raised.noisy, raised)[0]
    return {
        "sharpened_inside": _error(output, raised, case.mask),
        "sharpened_kept": _kept(output, raised),
    }


def score_noise(denoise: Denoise) -> Scores:
    """What is left of pure noise, and whether two outputs share anything.

    Returns
    -------
    dict of str to float
        noise: median over colours of the output's power over the input's, within the
        sphere; noise_shared: largest mean absolute FSC of two independent outputs.
    """
    left, shared = [], []
    for _, first, second in pure_noise():
        outputs = denoise(first, None)[0], denoise(second, None)[0]
        inside = masks.default_mask(first.shape) == 1
        left.append(float(outputs[0][inside].var() / first[inside].var()))
        shared.append(_shared(outputs[0], outputs[1]))
    return {"noise": float(np.median(left)), "noise_shared": max(shared)}


def score_phase_randomised(case: Case, denoise: Denoise) -> Scores:
    """Whether structure appears where only amplitudes were: two random phases, one shape.

    Returns
    -------
    dict of str to float
        random_power: output's power over the input's; random_shared: what two outputs
        share from 15 Å to the resolution, their cross-power over the input's power, mean
        over shells, less that of the inputs; 0 but for chance. (An FSC would not do: where
        an output is next to nothing, what the truth up to 20 Å leaks there is all of it.)
    """
    first, second = phase_randomised(case)
    outputs = denoise(first, None)[0], denoise(second, None)[0]
    start = round(case.noisy.shape[0] * case.voxel_size / 15)
    amplitude = np.sqrt(radial_power(outputs[0]) * radial_power(outputs[1]))
    shared = fsc(*outputs) * amplitude / np.maximum(radial_power(first), 1e-30)
    shared -= fsc(first, second)
    return {
        "random_power": float(outputs[0].var() / first.var()),
        "random_shared": float(shared[start : case.last_shell + 1].mean()),
    }


def summary(rows: Sequence[Mapping[str, float | str]], noise: Scores) -> Scores:
    """Medians over cases, by resolution where it matters, and the score: lower is better.

    Parameters
    ----------
    rows : sequence of mappings
        Of :func:`score_case`, with ``resolution``.
    noise : dict
        Of :func:`score_noise`.

    Returns
    -------
    dict of str to float
        ``score`` is the geometric mean of error, inside, inside at the finest
        resolution, solvent, fsc_lost, noise and repeats, as far as they were measured. What
        was not measured is missing.
    """
    def median(name: str, resolution: float | None = None) -> float:
        values = [
            float(row[name]) for row in rows
            if name in row and resolution in (None, row["resolution"])
        ]
        return float(np.median(values)) if values else float("nan")

    resolutions = sorted({float(row["resolution"]) for row in rows})
    found = {name: median(name) for name in ("error", "inside", "solvent", "fsc_lost")}
    for resolution in resolutions:
        at = f"_{resolution:g}A"
        found["error" + at] = median("error", resolution)
        found["inside" + at] = median("inside", resolution)
        chosen = [row for row in rows if row["resolution"] == resolution]
        found["fsc_before" + at] = median("fsc_before", resolution)
        found["fsc_after" + at] = median("fsc_after", resolution)
        kept = [
            float(row["fsc_after"]) >= float(row["fsc_before"]) - FSC_TOLERANCE for row in chosen
        ]
        found["fsc_not_worse" + at] = float(np.mean(kept))
    extra = ("kept", "sharpened_inside", "sharpened_kept", "mask_iou", "weak_direction", "repeats")
    for name in extra:
        found[name] = median(name)
    for name in ("random_power", "random_shared"):
        found[name] = max(
            float(np.percentile([float(row[name]) for row in rows
                                 if row["resolution"] == resolution], GATE_PERCENTILE))
            for resolution in resolutions
        )
    found |= noise
    scored = [
        found["error"], found["inside"], found[f"inside_{resolutions[0]:g}A"], found["solvent"],
        found["fsc_lost"], found["noise"], found["repeats"],
    ]
    measured = np.array([value for value in scored if np.isfinite(value)])
    found["score"] = float(np.exp(np.mean(np.log(np.maximum(measured, 1e-6)))))
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _error(output: Volume, case: Case, where: Volume | None) -> float:
    weight = masks.default_mask(case.mask.shape)
    if where is not None:
        weight = weight * where
    after = float((np.square(output - case.target) * weight).sum(dtype=np.float64))
    before = float((np.square(case.noisy - case.target) * weight).sum(dtype=np.float64))
    return after / max(before, 1e-30)


def _kept(output: Volume, case: Case) -> float:
    """Slope of the output over the truth within the mask, where both have their mean taken off."""
    total = case.mask.sum(dtype=np.float64)
    contrast = case.target - np.float32((case.target * case.mask).sum(dtype=np.float64) / total)
    contrast *= case.mask
    both = float((output * contrast).sum(dtype=np.float64))
    return both / max(float((case.target * contrast).sum(dtype=np.float64)), 1e-30)



def _shared(first: Volume, second: Volume) -> float:
    curve = fsc(first, second)[2:]
    return float(np.abs(curve).mean())
