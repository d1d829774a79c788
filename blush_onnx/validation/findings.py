"""All that a validation finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from blush_onnx.fsc import Curve, FscCurves
from blush_onnx.results import Regularised
from blush_onnx.validation.account import ShellAccount
from blush_onnx.validation.anisotropy import Anisotropy
from blush_onnx.validation.local_resolution import LocalResolution
from blush_onnx.validation.overfitting import RandomisationTest
from blush_onnx.validation.repeats import Repeats
from blush_onnx.validation.solvent_mask import SolventMask
from blush_onnx.validation.symptoms import CurveSymptoms, SolventCorrelation
from blush_onnx.validation.verdicts import Verdict

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Validation:
    """All that was found; None for what was not looked at.

    Attributes
    ----------
    fsc : FscCurves
    mask : array or None
        What the FSC was taken under.
    mask_source : {"given", "network"} or None
    solvent_mask : SolventMask or None
        Made of the network's mask.
    anisotropy : Anisotropy
    symptoms : CurveSymptoms
        Of the curve that decides.
    solvent : SolventCorrelation or None
    local_resolution : LocalResolution or None
    model_curve : array or None
        FSC of the mean of both halves to the atomic model.
    regularised : Regularised or None
        The halves denoised.
    trailing : bool
        Whether they were cut off at the resolution.
    accounts : tuple of ShellAccount
        What the denoiser changed in each half.
    randomisation : RandomisationTest or None
    repeats : Repeats or None
    warnings : tuple of str
    verdicts : tuple of Verdict
    seconds : dict of str to float
        Of each part.
    """

    fsc: FscCurves
    mask: Array | None
    mask_source: Literal["given", "network"] | None
    solvent_mask: SolventMask | None
    anisotropy: Anisotropy
    symptoms: CurveSymptoms
    solvent: SolventCorrelation | None
    local_resolution: LocalResolution | None
    model_curve: Curve | None
    regularised: Regularised | None
    trailing: bool
    accounts: tuple[ShellAccount, ...]
    randomisation: RandomisationTest | None
    repeats: Repeats | None
    warnings: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def flagged(self) -> bool:
        """Whether a test was not passed."""
        return any(verdict.outcome == "flagged" for verdict in self.verdicts)
