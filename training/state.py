"""Where a training stands: the network, its average, the optimiser, the step."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from blush_onnx.errors import InputError
from export.network import BlushNetwork
from training.channels_last import LAYOUT
from training.checkpoints import new_network, save, save_weights
from training.config import Config

BETAS = (0.9, 0.99)


@dataclass
class State:
    """All that a step changes.

    Attributes
    ----------
    config : Config
    network : BlushNetwork
    average : dict of str to Tensor
        Moving average of its weights, which is what a training is for.
    optimiser : torch.optim.Optimizer
    step, skipped : int
        Steps done, and those without effect because bfloat16 overflowed.
    seconds : float
        Of training so far, over all calls.
    """

    config: Config
    network: BlushNetwork
    average: dict[str, Tensor]
    optimiser: torch.optim.Optimizer
    step: int = 0
    skipped: int = 0
    seconds: float = 0.0

    @classmethod
    def start(cls, config: Config, place: torch.device, path: Path, data: str) -> State:
        """The beginning, or where an earlier call ended.

        Parameters
        ----------
        config : Config
        place : torch.device
        path : Path
            Of an earlier call's state; may be missing.
        data : str
            Fingerprint of the data set.

        Raises
        ------
        InputError
            It was another configuration (but for ``[run]``) or other data.
        """
        torch.manual_seed(config.run.seed)
        # Where the weights came from does not matter once there are others.
        model = dataclasses.replace(config.model, start_from="") if path.is_file() else config.model
        layout = LAYOUT if place.type == "cuda" else torch.contiguous_format
        network = new_network(model).to(place, memory_format=layout)
        settings = config.optimiser
        # Biases and the norms' own factors are not pulled to zero.
        kernels = [p for p in network.parameters() if p.ndim > 1]
        others = [p for p in network.parameters() if p.ndim <= 1]
        optimiser = torch.optim.AdamW(
            [{"params": kernels, "weight_decay": settings.weight_decay},
             {"params": others, "weight_decay": 0.0}],
            lr=settings.learning_rate, betas=BETAS, fused=place.type == "cuda",
        )
        average = {key: value.detach().clone() for key, value in network.state_dict().items()}
        state = cls(config, network, average, optimiser)
        if path.is_file():
            state._resume(path, data)
        return state

    def _resume(self, path: Path, data: str) -> None:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        if stored["config"] != self._config_as_stored() or stored["data"] != data:
            raise InputError(
                f"{path} is the state of another configuration or other data: choose another "
                "--output"
            )
        self.network.load_state_dict(stored["network"])
        self.optimiser.load_state_dict(stored["optimiser"])
        # It brings along how another device laid out its moments, and its way to step.
        for group in self.optimiser.param_groups:
            group["fused"] = next(self.network.parameters()).is_cuda
            for parameter in group["params"]:
                for name, value in self.optimiser.state[parameter].items():
                    if value.shape == parameter.shape:
                        alike = torch.empty_like(parameter).copy_(value)
                        self.optimiser.state[parameter][name] = alike
        for key, value in stored["average"].items():
            self.average[key].copy_(value)
        self.step, self.skipped = stored["step"], stored["skipped"]
        self.seconds = stored["seconds"]

    def save(self, folder: Path, data: str) -> None:
        """Write ``state.pt`` and ``weights.ckpt``."""
        save_weights(self.average, folder / "weights.ckpt", self.config.model.patch_size)
        save({
            "network": self.network.state_dict(), "average": self.average,
            "optimiser": self.optimiser.state_dict(), "step": self.step,
            "skipped": self.skipped, "seconds": self.seconds,
            "config": self._config_as_stored(), "data": data,
        }, folder / "state.pt")

    def gradient(self, loss: Tensor) -> Tensor:
        """Gradients of a loss, clipped; returns their norm before that."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        clip = self.config.optimiser.clip
        return nn.utils.clip_grad_norm_(self.network.parameters(), clip).detach()

    def update(self, norm: Tensor, rate: float) -> Tensor:
        """One step of the optimiser by the gradients at hand; waits for the device.

        Now and then bfloat16 overflows, and clipping an infinite gradient would make the
        weights NaN: such a step has no effect but to be counted, and its norm is given
        back as 0.
        """
        settings = self.config.optimiser
        if bool(torch.isfinite(norm)):
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            self.optimiser.step()
            # Short at first, so that the start is soon forgotten.
            decay = min(settings.averaging, (1 + self.step) / (10 + self.step))
            current = self.network.state_dict()
            keys = list(self.average)
            with torch.no_grad():
                torch._foreach_lerp_(
                    [self.average[k] for k in keys], [current[k] for k in keys], 1 - decay
                )
        else:
            self.skipped += 1
            norm = torch.zeros_like(norm)
        self.step += 1
        return norm

    def averaged_network(self) -> BlushNetwork:
        """The network with the averaged weights, ready to be looked at."""
        network = copy.deepcopy(self.network)
        network.load_state_dict(self.average)
        network.eval()
        return network

    def _config_as_stored(self) -> dict[str, Any]:
        content = dataclasses.asdict(self.config)
        del content["run"]
        content["model"]["start_from"] = ""
        return content
