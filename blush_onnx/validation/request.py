"""What is asked of a validation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blush_onnx.denoiser import DEFAULT_STRIDE, Denoiser

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Checks:
    """What is to be looked at beside the FSC.

    Attributes
    ----------
    local_resolution : bool
    randomise_beyond : float or None
        Å; the phase-randomisation test of the denoiser.
    repeats : bool
        Whether denoising comes to rest.
    atomic_model : Path or None
        For the FSC of the mean of both halves to it.
    like_relion : bool
        Take the FSC as ``relion_postprocess`` does (docs/numerics.md, section 8).
    """

    local_resolution: bool = True
    randomise_beyond: float | None = None
    repeats: bool = False
    atomic_model: Path | None = None
    like_relion: bool = False


@dataclass(frozen=True)
class Denoising:
    """How the half-maps are denoised.

    Attributes
    ----------
    denoiser : Denoiser
    mask, fsc_mask : array like the half-maps, or None
    particle_diameter, cut_off : float or None
        Å.
    spectral_trailing : bool
    stride, rotations : int
        All as for :func:`blush_onnx.regularise`.
    """

    denoiser: Denoiser
    mask: Array | None = None
    fsc_mask: Array | None = None
    particle_diameter: float | None = None
    cut_off: float | None = None
    spectral_trailing: bool = True
    stride: int = DEFAULT_STRIDE
    rotations: int = 1

    def arguments(self) -> dict[str, Any]:
        """What several functions have in common."""
        return {
            "denoiser": self.denoiser, "mask": self.mask, "fsc_mask": self.fsc_mask,
            "particle_diameter": self.particle_diameter, "cut_off": self.cut_off,
            "stride": self.stride, "rotations": self.rotations,
        }
