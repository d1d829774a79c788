"""Our engine as it is: arrays of the host in and out."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.cards.rounds import Contender, Prepared
from benchmarks.cards.settings import Settings
from blush_onnx import Denoiser, models
from blush_onnx.engines import on_card as resident
from blush_onnx.engines.base import Array, EngineSettings

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


def load(settings: Settings, precision: str, *, on_card: bool = False) -> Denoiser:
    """The model on the asked provider; `on_card` with its sums there, too."""
    asked = EngineSettings(settings.provider, (settings.device,), precision=precision)
    model = models.load_model(settings.model)
    if not on_card:
        return Denoiser.from_model(model, asked)
    # Itself rather than by --on-card, which refuses the CPU that the benchmark is tried on.
    engine = resident.create(
        model.content, asked, settings.device, patch_size=model.config.patch_size, reason="asked"
    )
    return Denoiser(model.config, engine)
