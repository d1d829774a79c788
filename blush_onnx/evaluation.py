"""The network over the patches of a volume: batches, several at a time, in order.

Engines that work on several calls at a time get them, but results are handed on in the
order of the patches, so that the sum they are blended into rounds alike on every machine.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np

from blush_onnx.engines.base import (
    Array,
    BlendingEngine,
    Engine,
    EngineDescription,
    Origin,
)
from blush_onnx.errors import EngineError, OutOfMemoryError
from blush_onnx.patches import Blend, PatchPlan, weighted_mean

logger = logging.getLogger(__name__)

Batch = list[Origin]
Evaluated = tuple[Array, Array | None]


def evaluate(
    engine: Engine,
    volume: Array,
    local_std: Array,
    origins: Sequence[Origin],
    *,
    patch_size: int,
    batch_size: int = 1,
    at_a_time: int | None = None,
) -> Generator[tuple[Origin, Array, Array | None], None, None]:
    """Run the network on patches.

    Where memory runs out, batches are halved, and once they hold one patch, one is worked
    on at a time.

    Parameters
    ----------
    engine : Engine
    volume, local_std : array, (z, y, x), float32
    origins : sequence of (z, y, x)
        First voxels of the patches.
    patch_size : int
        Voxels.
    batch_size : int
        Patches a call.
    at_a_time : int, optional
        Calls at a time; as many as the engine works on by default.

    Yields
    ------
    origin : (z, y, x)
        In the given order.
    density : array, (patch, patch, patch), float32
    mask_logit : array like `density`, or None

    Raises
    ------
    OutOfMemoryError
        Not even one patch fits.
    EngineError
        The engine failed otherwise, or returned what is not finite.
    """
    def cut(batch: Batch, size: int) -> tuple[Array, Array]:
        given = _filled(batch, size) if engine.description.is_gpu else batch
        return _stack(volume, given, patch_size), _stack(local_std, given, patch_size)

    def run(given: Future[tuple[Array, Array]]) -> Evaluated:
        return engine.run(*given.result())

    remaining = deque(origins)
    pending: deque[tuple[Batch, Future[Evaluated]]] = deque()
    workers = at_a_time or engine.description.side_by_side
    waiting = 1  # so that nobody idles while patches are cut out and results blended
    with ThreadPoolExecutor(workers) as pool, ThreadPoolExecutor(workers) as ahead:
        try:
            while remaining or pending:
                while remaining and len(pending) < workers + waiting:
                    batch = [remaining.popleft() for _ in range(min(batch_size, len(remaining)))]
                    given = ahead.submit(cut, batch, batch_size)
                    pending.append((batch, pool.submit(run, given)))
                batch, future = pending.popleft()
                try:
                    density, logit = future.result()
                except OutOfMemoryError:
                    if batch_size == 1 and workers == 1:
                        raise
                    pending.appendleft((batch, future))
                    remaining.extendleft(reversed(_abandoned(pending)))
                    if batch_size > 1:
                        batch_size //= 2
                        logger.warning("out of memory: going on with batches of %d", batch_size)
                    else:
                        workers, waiting = 1, 0
                        logger.warning("out of memory: going on with one patch at a time")
                    continue
                _require_finite(density, engine.description)
                for i, origin in enumerate(batch):
                    yield origin, density[i], None if logit is None else logit[i]
        finally:
            for _, future in pending:
                future.cancel()


def blend_patches(
    engine: Engine,
    volume: Array,
    local_std: Array,
    plan: PatchPlan,
    *,
    batch_size: int = 1,
    at_a_time: int | None = None,
    workers: int = 1,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[Array, Array]:
    """Run the network over a plan's patches and blend them, always in the plan's order.

    Parameters
    ----------
    engine : Engine
    volume, local_std : array, (z, y, x), float32
    plan : PatchPlan
    batch_size, at_a_time : int
        As for :func:`evaluate`.
    workers : int
        Threads that blend; the result does not depend on them.
    progress : callable, optional
        Called with (done, total) patches; whatever it raises ends the work.

    Returns
    -------
    density, mask : array like `volume`
        Zero where no patch reaches.
    """
    total = len(plan.origins)
    if progress:
        progress(0, total)
    if isinstance(engine, BlendingEngine):
        return _summed_by_engine(engine, volume, local_std, plan, batch_size, progress)
    evaluated = evaluate(
        engine, volume, local_std, plan.origins, patch_size=plan.window.shape[0],
        batch_size=batch_size, at_a_time=at_a_time,
    )
    with contextlib.closing(evaluated), ThreadPoolExecutor(workers) as pool:
        blend = Blend(plan, workers, pool)
        for done, (origin, density, logit) in enumerate(evaluated, 1):
            blend.add(origin, density, logit)
            if progress:
                progress(done, total)
    return blend.finish()


def _summed_by_engine(
    engine: BlendingEngine, volume: Array, local_std: Array, plan: PatchPlan, batch_size: int,
    progress: Callable[[int, int], object] | None,
) -> tuple[Array, Array]:
    """The same where the engine adds the patches up itself."""
    blending = engine.blending(volume, local_std, plan.window)
    batch_size = min(batch_size, engine.largest_batch or batch_size)
    done, total = 0, len(plan.origins)
    while done < total:
        batch = plan.origins[done : done + batch_size]
        try:
            blending.add(batch, batch_size)
        except OutOfMemoryError:
            if batch_size == 1:
                raise
            batch_size //= 2
            logger.warning("out of memory: going on with batches of %d", batch_size)
            continue
        done += len(batch)
        if progress:
            progress(done, total)
    density, mask = blending.sums()
    _require_finite(density, engine.description)
    return weighted_mean(plan, density, plan.weight.copy() if mask is None else mask)


def _abandoned(pending: deque[tuple[Batch, Future[Evaluated]]]) -> list[Origin]:
    """Give up what was started; returns its patches once none of it is worked on any more."""
    for _, future in pending:
        future.cancel()
    wait([future for _, future in pending])
    patches = [origin for batch, _ in pending for origin in batch]
    pending.clear()
    return patches


def _require_finite(density: Array, description: EngineDescription) -> None:
    if not np.isfinite(density).all():
        raise EngineError(
            f"{description.provider} returned values that are not finite "
            f"(precision {description.precision})"
        )


def _filled(batch: Batch, size: int) -> Batch:
    """A card gets batches of one size throughout: others would compile and round anew."""
    return batch + batch[-1:] * (size - len(batch))


def _stack(volume: Array, origins: Batch, size: int) -> Array:
    return np.stack([volume[z : z + size, y : y + size, x : x + size] for z, y, x in origins])
