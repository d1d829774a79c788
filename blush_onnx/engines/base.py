"""The seam between the numerics and whatever evaluates the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EngineDescription:
    """What evaluates the network, for reports.

    Attributes
    ----------
    provider : str
        Short name as in ``--provider``: cpu, openvino, cuda, …
    library : str
        Name and version of the inference library.
    reason : str
        Why this one was taken, in a sentence.
    convolutions_on : tuple of str
        Execution providers that ran the convolutions in a recorded run; empty
        where there is nothing to fall back to.
    threads : int or None
        Threads it computes with on the CPU; None where the caller's session decides.
    """

    provider: str
    library: str
    reason: str
    convolutions_on: tuple[str, ...] = ()
    threads: int | None = None

    def in_words(self) -> str:
        """One line for a log."""
        facts = [self.library]
        if self.convolutions_on:
            facts.append(f"convolutions on {', '.join(self.convolutions_on)}")
        if self.threads and not self.is_gpu:
            facts.append(f"{self.threads} thread{'s' if self.threads > 1 else ''}")
        return f"{self.provider} ({', '.join(facts)}; {self.reason})"

    @property
    def is_gpu(self) -> bool:
        """Whether the network runs on a graphics card."""
        return self.provider in GPU_PROVIDERS


GPU_PROVIDERS = ("cuda", "tensorrt", "migraphx", "directml")


class Engine(Protocol):
    """Evaluates the network on a batch of patches; safe to call from several threads."""

    description: EngineDescription

    def run(self, grid: Array, local_std: Array) -> tuple[Array, Array | None]:
        """Denoise a batch.

        Parameters
        ----------
        grid, local_std : array, (batch, patch, patch, patch), float32

        Returns
        -------
        density : array like `grid`
        mask_logit : array like `grid`, or None where the network has no mask
        """
        ...
