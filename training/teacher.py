"""A trained model whose answers a smaller one learns: distillation."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from blush_onnx.engines import create_engine
from blush_onnx.engines.base import Engine, EngineSettings
from blush_onnx.errors import EngineError, InputError
from blush_onnx.models import Model
from training.augment import Batch
from training.channels_last import ChannelsLast
from training.checkpoints import network_of
from training.config import Config
from training.sources import read_model


class Teacher:
    """Puts a trained model's answer in the place of a part of the target.

    What cannot be told from the input is noise to a learner. The teacher's answer is free of
    it, so that steps on it are worth more than steps on the truth.

    Parameters
    ----------
    config : Config
        With a teacher in its section ``[loss]``.
    place : torch.device
        A card evaluates the teacher with torch, a CPU with the fastest inference engine.

    Raises
    ------
    ModelError
        The teacher is unknown or unreadable.
    InputError
        Its patches have another side.
    """

    def __init__(self, config: Config, place: torch.device) -> None:
        model = read_model(config.loss.teacher)
        if model.config.patch_size != config.model.patch_size:
            raise InputError(
                f"the teacher {config.loss.teacher} has patches of {model.config.patch_size}, the "
                f"configuration of {config.model.patch_size}"
            )
        self.share = config.loss.teaching
        self._engine: Engine | None = None
        if place.type == "cuda":
            network = network_of(model).to(place).requires_grad_(False)
            self._network = ChannelsLast(network, config.model.patch_size)
            self._precision = config.run.precision
        else:
            self._engine = _engine(model, config.run.precision)

    def teach(self, batch: Batch) -> Batch:
        """The batch with a part of its target from the teacher, where the target counts."""
        answer = self._answer(batch.grid, batch.local_std)
        return dataclasses.replace(batch, target=torch.lerp(batch.target, answer, self.share))

    def _answer(self, grid: Tensor, local_std: Tensor) -> Tensor:
        if self._engine is not None:
            return torch.from_numpy(self._engine.run(grid.numpy(), local_std.numpy())[0])
        enabled = self._precision == "bfloat16"
        with torch.no_grad(), torch.autocast("cuda", dtype=torch.bfloat16, enabled=enabled):
            answer: Tensor = self._network(grid, local_std)[0].float()
        return answer


def _engine(model: Model, precision: str) -> Engine:
    """The fastest engine, in the training's precision where it has that."""
    try:
        settings = EngineSettings(provider="auto", precision=precision)
        return create_engine(model.content, settings, model.config.patch_size)
    except EngineError:
        return create_engine(model.content, EngineSettings(), model.config.patch_size)
