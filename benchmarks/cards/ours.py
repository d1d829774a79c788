"""Our engine as it is: arrays of the host in and out."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.cards.rounds import Contender, Prepared
from benchmarks.cards.settings import Settings
from blush_onnx import Denoiser
from blush_onnx.engines.base import Array

PRECISIONS = ("float32", "tf32", "float16")


def contenders(settings: Settings) -> list[Contender]:
    """The engine in each precision."""
    return [Contender(f"ours {p}", _preparing(settings, p)) for p in PRECISIONS]


def _preparing(settings: Settings, precision: str) -> Callable[[Array, Array], Prepared]:
    opened: list[Denoiser] = []

    def prepare(grid: Array, local_std: Array) -> Prepared:
        if not opened:
            opened.append(load(settings, precision))
        engine = opened[0].engine
        last: list[Array] = []

        def call() -> None:
            last[:] = [engine.run(grid, local_std)[0]]

        return Prepared(call, lambda: last[0])

    return prepare


def load(settings: Settings, precision: str) -> Denoiser:
    """The model on the asked provider."""
    return Denoiser.load(
        settings.model, provider=settings.provider, device=settings.device, precision=precision
    )
