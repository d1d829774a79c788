"""Parameters of the pipeliner's job, and what they are on the command line."""

from __future__ import annotations

from typing import Any

from pipeliner.job_options import (
    BooleanJobOption,
    FileDescription,
    FloatJobOption,
    InputNodeJobOption,
    IntJobOption,
    MultipleChoiceJobOption,
    StringJobOption,
)
from pipeliner.nodes import NODE_DENSITYMAP, NODE_MASK3D

from blush_onnx.engines import PROVIDER_NAMES
from blush_onnx.patches import STRIDES
from blush_onnx.rotations import MOST_ORIENTATIONS

MAPS = FileDescription("3D map", [".mrc", ".map"])
OPTIONS = {
    "fsc_mask": "--mask", "denoise_mask": "--denoise-mask",
    "particle_diameter": "--particle-diameter", "cut_off": "--cut-off", "quality": "--quality",
    "rotations": "--rotations", "model": "--model", "provider": "--provider",
    "device": "--device",
}
"""Parameter of the job to option of ``blush-onnx denoise``."""


def arguments_of(parameters: dict[str, Any]) -> list[str]:
    """Options of the command for the parameters that are not at their defaults.

    Parameters
    ----------
    parameters : dict
        The job's ``joboptions``.

    Returns
    -------
    list of str
    """
    found = []
    for name, option in OPTIONS.items():
        parameter = parameters[name]
        if not parameter.is_blank and parameter.value != parameter.default_value:
            found += [option, parameter.get_string()]
    # The pipeliner's default is 1, that of the command all processors.
    return [*found, "--threads", parameters["nr_threads"].get_string()]


def inputs() -> dict[str, Any]:
    """Maps and masks, name to parameter."""
    half_map = {
        "node_type": NODE_DENSITYMAP, "node_kwds": ["halfmap"], "pattern": MAPS,
        "is_required": True,
        "help_text": "Unfiltered, unmasked and unsharpened, as refinement wrote it: of RELION "
        "run_half?_class001_unfil.mrc.",
    }
    mask = {"node_type": NODE_MASK3D, "pattern": MAPS}
    return {
        "half_map_1": InputNodeJobOption(label="Half-map 1:", **half_map),
        "half_map_2": InputNodeJobOption(label="Half-map 2:", **half_map),
        "fsc_mask": InputNodeJobOption(
            label="Solvent mask for the FSC:", **mask,
            help_text="Optional. Only the FSC sees it, which is then corrected by phase "
            "randomisation, and decides the cut-off.",
        ),
        "denoise_mask": InputNodeJobOption(
            label="Where the network looks:", **mask,
            help_text="Optional. Replaces the sphere outside which nothing is denoised.",
        ),
        "particle_diameter": FloatJobOption(
            label="Particle diameter (Å):", hard_min=1.0, suggested_max=1000.0,
            help_text="Diameter of that sphere. Blank: the largest in the box.",
        ),
    }


def settings() -> dict[str, Any]:
    """Model, effort and machine, name to parameter."""
    group = {"jobop_group": "Network"}
    return {
        "cut_off": FloatJobOption(
            label="Cut-off (Å):", hard_min=0.1, step_value=0.1, **group,
            help_text="Blank: where the half-maps cease to agree, which is what you want.",
        ),
        "quality": MultipleChoiceJobOption(
            label="Quality:", choices=list(STRIDES), default_value="reference", **group,
            help_text="How densely the patches lie: balanced and fast take fewer.",
        ),
        "rotations": IntJobOption(
            label="Orientations to average:", default_value=1, hard_min=1,
            hard_max=MOST_ORIENTATIONS, is_required=True, **group,
            help_text="More than 1 also writes spread.mrc, where the answer depends on how one "
            "looks; takes as many times the time.",
        ),
        "model": StringJobOption(
            label="Model:", **group,
            help_text="A registered name, a folder or an .onnx file. Blank: the default.",
        ),
        "provider": MultipleChoiceJobOption(
            label="Provider:", choices=list(PROVIDER_NAMES), default_value="auto", **group,
            help_text="What evaluates the network. auto takes the first that works, and says "
            "which and why.",
        ),
        "device": StringJobOption(
            label="Cards:", default_value="0", validation_regex=r"^\d+(,\d+)*$",
            regex_error_message="Give numbers, such as 0 or 0,1", **group,
            help_text="Number of the card; several, as 0,1, share the patches.",
        ),
        "do_report": BooleanJobOption(
            label="Write a report to look at?", default_value=True, **group,
            help_text="One page of pictures, curves and settings; needs blush-onnx[report].",
        ),
    }
