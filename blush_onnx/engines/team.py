"""Several engines of one kind fed from one queue, such as one on each card."""

from __future__ import annotations

import dataclasses
import queue
from collections.abc import Sequence

from blush_onnx.engines.base import Array, Engine


class Team:
    """Engines that share the batches: each goes to one that is free.

    Parameters
    ----------
    engines : sequence of Engine
        Of the same network, provider and precision. Which of them gets a batch changes
        from run to run, so they must round alike.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._free: queue.SimpleQueue[Engine] = queue.SimpleQueue()
        for engine in engines:
            for _ in range(engine.description.side_by_side):
                self._free.put(engine)
        self.description = dataclasses.replace(
            engines[0].description,
            side_by_side=sum(engine.description.side_by_side for engine in engines),
        )

    def run(self, grid: Array, local_std: Array) -> tuple[Array, Array | None]:
        """Denoise a batch; waits while all are busy. See :class:`Engine`."""
        engine = self._free.get()
        try:
            return engine.run(grid, local_std)
        finally:
            self._free.put(engine)
