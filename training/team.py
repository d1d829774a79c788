"""The processes of a training, one for each card; mostly there is one."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import distributed

from blush_onnx.errors import InputError


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
            As of :func:`find_device`.

        Raises
        ------
        InputError
            PyTorch cannot compute on the device.
        """
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls(0, 1, find_device(device))
        place = find_device(device, card=int(os.environ["LOCAL_RANK"]))
        if place.type == "cuda":
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


def rank() -> int:
    """Number of this process, by torchrun's environment; 0 where it is alone."""
    return int(os.environ.get("RANK", "0"))


def find_device(name: str | None = None, card: int | None = None) -> torch.device:
    """Name to device, tried by a number that is put there.

    Parameters
    ----------
    name : str or None
        Such as cuda or cpu; None: a card where there is one.
    card : int, optional
        The card that is this process's, instead of the first one or one that is named.

    Raises
    ------
    InputError
        No such device, or PyTorch cannot compute on it.
    """
    has_card = torch.cuda.is_available()
    name = name or ("cuda" if has_card else "cpu")
    try:
        place = torch.device(name)
        if place.type == "cuda" and card is not None:
            place = torch.device("cuda", card)
        float(torch.zeros(1, device=place))
    except (RuntimeError, AssertionError) as error:  # the latter where CUDA was not compiled in
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"device {name!r} cannot be used: {reason}; give {'cuda or ' if has_card else ''}cpu"
        ) from error
    return place
