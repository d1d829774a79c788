"""The same network and weights in PyTorch on the same card."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cards.rounds import ANSWERS, CHECKED, Contender, Prepared, patches
from benchmarks.cards.settings import Settings
from blush_onnx import models
from blush_onnx.engines.base import Array
from training.checkpoints import network_of


@dataclass(frozen=True)
class Way:
    """How the network is evaluated.

    Attributes
    ----------
    name : str
    tf32 : bool
    autocast : dtype or None
    layout : str
        first or last: where the channels are; own: last, with training's own form of the network.
    compiled : bool
    from_host : bool
        Copy the patches to the card and the result back at each call.
    """

    name: str
    tf32: bool = False
    autocast: torch.dtype | None = None
    layout: str = "first"
    compiled: bool = False
    from_host: bool = False


EAGER = (
    Way("float32"),
    Way("float32, from the host", from_host=True),
    Way("tf32", tf32=True),
    Way("bfloat16", tf32=True, autocast=torch.bfloat16),
    Way("float16", tf32=True, autocast=torch.float16),
    Way("tf32, channels last", tf32=True, layout="last"),
    Way("bfloat16, channels last", tf32=True, autocast=torch.bfloat16, layout="last"),
    Way("float16, channels last", tf32=True, autocast=torch.float16, layout="last"),
)
COMPILED = (
    Way("float32, compiled", compiled=True),
    Way("bfloat16, compiled", tf32=True, autocast=torch.bfloat16, compiled=True),
    Way("bfloat16, own channels last, compiled", tf32=True, autocast=torch.bfloat16,
        layout="own", compiled=True),
)


def write_answers(settings: Settings) -> None:
    """Densities of the first patches, from the CPU in single precision."""
    model = models.load_model(settings.model)
    grid, local_std = patches(CHECKED, model.config.patch_size)
    with torch.inference_mode():
        density, _ = network_of(model)(torch.from_numpy(grid), torch.from_numpy(local_std))
    np.savez(Path(settings.scratch, ANSWERS), density=density.numpy())


def contenders(settings: Settings, ways: tuple[Way, ...]) -> list[Contender]:
    """The ways, all on the card."""
    torch.backends.cudnn.benchmark = True
    return [Contender(f"PyTorch {way.name}", _preparing(settings, way)) for way in ways]


def _preparing(settings: Settings, way: Way) -> Callable[[Array, Array], Prepared]:
    built: list[Any] = []

    def prepare(grid: Array, local_std: Array) -> Prepared:
        if not built:
            built.append(_network(settings, way))
        network, place = built[0], settings.torch_device
        host = torch.from_numpy(grid), torch.from_numpy(local_std)
        inputs = [tensor.to(place) for tensor in host]
        last: list[torch.Tensor] = []

        def call() -> None:
            allow_tf32(way.tf32)
            with torch.inference_mode(), _autocast(settings, way):
                given = [tensor.to(place) for tensor in host] if way.from_host else inputs
                density, mask_logit = network(*given)
            last[:] = [density.cpu()] if way.from_host else [density]
            if way.from_host:
                mask_logit.cpu()
            elif settings.on_card:
                torch.cuda.synchronize()

        return Prepared(call, lambda: np.asarray(last[0].float().cpu().numpy()))

    return prepare


def _network(settings: Settings, way: Way) -> Any:
    model = models.load_model(settings.model)
    network: Any = network_of(model).to(settings.torch_device)
    if way.layout == "last":
        network = network.to(memory_format=torch.channels_last_3d)
    elif way.layout == "own":
        import importlib

        form = importlib.import_module("training.channels_last")
        network = form.ChannelsLast(network, model.config.patch_size).eval()
    return torch.compile(network, dynamic=False) if way.compiled else network


def allow_tf32(allowed: bool) -> None:
    """Whether convolutions and products may round their factors to ten bits."""
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


def _autocast(settings: Settings, way: Way) -> contextlib.AbstractContextManager[Any]:
    if way.autocast is None:
        return contextlib.nullcontext()
    kind = settings.torch_device.partition(":")[0]
    cast: contextlib.AbstractContextManager[Any] = torch.autocast(kind, way.autocast)
    return cast
