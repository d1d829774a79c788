"""The seam between the numerics and whatever evaluates the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from blush_onnx.machine import available_bytes

Array = npt.NDArray[np.float32]
Origin = tuple[int, int, int]
"""First voxel of a patch, (z, y, x)."""


PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
"""What convolutions may compute in; sums over a volume and the map stay in float32."""


@dataclass(frozen=True)
class EngineSettings:
    """What an engine is asked for.

    Attributes
    ----------
    provider : str
        auto or the name of a provider.
    devices : tuple of int
        Numbers of the cards; several share the patches.
    threads : int or None
        CPU threads; None: as many processors as this process may use.
    precision : str
        One of :data:`PRECISIONS`. Nothing lowers it by itself.
    cards : bool
        Whether ``auto`` may take a graphics card.
    card_memory : float or None
        The most that CUDA may take of a card's memory, GiB, its own start aside; None: all.
    on_card : bool
        Keep the map, its patches and their sum on the card; CUDA and one card alone.
    """

    provider: str = "auto"
    devices: tuple[int, ...] = (0,)
    threads: int | None = None
    precision: str = "float32"
    cards: bool = True
    card_memory: float | None = None
    on_card: bool = False


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
    precision : str
        What its convolutions compute in.
    side_by_side : int
        Calls that it works on at a time, with a share of the threads each, or on a
        card each.
    """

    provider: str
    library: str
    reason: str
    convolutions_on: tuple[str, ...] = ()
    threads: int | None = None
    precision: str = "float32"
    side_by_side: int = 1

    def in_words(self) -> str:
        """One line for a log."""
        facts = [self.library]
        if self.convolutions_on:
            facts.append(f"convolutions on {', '.join(self.convolutions_on)}")
        if self.threads and not self.is_gpu:
            facts.append(f"{self.threads} thread{'s' if self.threads > 1 else ''}")
        if self.precision != "float32":
            facts.append(self.precision)
        if self.is_gpu and self.side_by_side > 1:
            facts.append(f"{self.side_by_side} cards")
        return f"{self.provider} ({', '.join(facts)}; {self.reason})"

    @property
    def is_gpu(self) -> bool:
        """Whether the network runs on a graphics card."""
        return self.provider in GPU_PROVIDERS


MOST_SIDE_BY_SIDE = 4
"""Calls that a CPU engine works on at a time: one patch does not keep many processors busy, for its
layers end one after the other and each end is waited for; but each takes memory."""
BYTES_OF_PATCH = 320 << 20
"""What an engine takes at most for each patch of 64³ that it works on at a time; measured."""


def room_for_patches() -> int:
    """How many patches at a time have room in a quarter of the free memory; at least 1."""
    memory = available_bytes()
    return MOST_SIDE_BY_SIDE if memory is None else max(1, memory // 4 // BYTES_OF_PATCH)


GPU_BATCH_SIZE = 8
"""Half the time a patch of one at a time, and 2.5 GB of a card (docs/performance.md)."""
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

        Raises
        ------
        OutOfMemoryError
            The batch does not fit; a smaller one may.
        EngineError
            Anything else went wrong.
        """
        ...


class Blending(Protocol):
    """The sums of one volume's patches while they are made."""

    def add(self, origins: Sequence[Origin], size: int) -> None:
        """Denoise patches and add them, in their order.

        Parameters
        ----------
        origins : sequence of (z, y, x)
            At least one, and `size` at most.
        size : int
            Patches that the engine works on at a time; those missing are made up.

        Raises
        ------
        OutOfMemoryError
            They do not fit; fewer may. The sums are as before.
        EngineError
            Anything else went wrong.
        """
        ...

    def sums(self) -> tuple[Array, Array | None]:
        """Sums of density · window and of mask · window, (z, y, x); None without a mask."""
        ...


@runtime_checkable
class BlendingEngine(Engine, Protocol):
    """An engine that cuts patches out of a volume and adds them up itself.

    Attributes
    ----------
    largest_batch : int or None
        Patches at a time that memory had room for where more were tried; None: not known.
    """

    largest_batch: int | None

    def blending(self, volume: Array, local_std: Array, window: Array) -> Blending:
        """Begin a volume's sums.

        Parameters
        ----------
        volume, local_std : array, (z, y, x), float32
        window : array, (patch, patch, patch), float32

        Raises
        ------
        OutOfMemoryError, EngineError
            The volume does not fit, or something else went wrong.
        """
        ...
