"""The processes of a training, one for each card; mostly there is one."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import distributed


@dataclass(frozen=True)
class Team:
    """Who trains along, as torch's own launcher set it up.

    Attributes
    ----------
    rank, size : int
        Number of this process, and of all.
    device : torch.device
        Where this one computes.
    """

    rank: int
    size: int
    device: torch.device

    @classmethod
    def join(cls, device: str | None) -> Team:
        """Find the others by torchrun's environment, if there are any.

        Parameters
        ----------
        device : str or None
            Such as cuda or cpu; None: a card where there is one.
        """
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls(0, 1, place)
        if place.type == "cuda":
            place = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(place)
        distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
        return cls(distributed.get_rank(), size, place)

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def agree(self, value: float) -> float:
        """The first process's value, for all."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, device=self.device, dtype=torch.float64)
        distributed.broadcast(shared, 0)
        return float(shared)

    def leave(self) -> None:
        """Part from the others."""
        if self.size > 1:
            distributed.destroy_process_group()
