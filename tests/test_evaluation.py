"""Batches, several at a time, in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest

from blush_onnx import EngineError, OutOfMemoryError
from blush_onnx.engines.base import Array, EngineDescription
from blush_onnx.engines.team import Team
from blush_onnx.evaluation import blend_patches, evaluate
from blush_onnx.patches import PatchPlan

SIZE = 4
VOLUME = np.arange(40 * SIZE * SIZE, dtype=np.float32).reshape(40, SIZE, SIZE)
ORIGINS = [(z, 0, 0) for z in range(0, 37)]


class Doubling:
    """An engine that doubles its input, slower for some patches, with so much memory."""

    def __init__(self, side_by_side: int = 1, memory: int = 1000, provider: str = "cpu") -> None:
        self.description = EngineDescription(
            provider, "none", "a test", side_by_side=side_by_side
        )
        self.memory = memory
        self.batches: list[int] = []
        self.most_at_a_time = 0
        self._now = 0
        self._lock = threading.Lock()

    def run(self, grid: Array, local_std: Array) -> tuple[Array, Array | None]:
        with self._lock:
            self.batches.append(len(grid))
            self._now += 1
            self.most_at_a_time = max(self.most_at_a_time, self._now)
        try:
            time.sleep(0.004 if int(grid[0, 0, 0, 0]) % 3 else 0.02)
            if len(grid) > self.memory:
                raise OutOfMemoryError("too many patches")
            return 2 * grid, local_std
        finally:
            with self._lock:
                self._now -= 1


def outcome(engine: Doubling | Team, batch_size: int) -> list[tuple[int, int, int]]:
    """Origins in the order in which they came, each with the right patch."""
    seen = []
    for origin, density, logit in evaluate(
        engine, VOLUME, VOLUME + 1, ORIGINS, patch_size=SIZE, batch_size=batch_size
    ):
        patch = VOLUME[origin[0] : origin[0] + SIZE]
        np.testing.assert_array_equal(density, 2 * patch)
        np.testing.assert_array_equal(logit, patch + 1)
        seen.append(origin)
    return seen


@pytest.mark.parametrize("side_by_side", [1, 2, 4])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_results_come_in_the_patches_order(side_by_side: int, batch_size: int) -> None:
    engine = Doubling(side_by_side)
    assert outcome(engine, batch_size) == ORIGINS
    assert sum(engine.batches) == len(ORIGINS)
    assert engine.most_at_a_time <= side_by_side
    if batch_size == 1:
        assert engine.most_at_a_time == side_by_side


def test_a_team_gives_each_engine_one_batch_at_a_time() -> None:
    engines = [Doubling(), Doubling(), Doubling()]
    assert outcome(Team(engines), 2) == ORIGINS
    assert all(engine.batches and engine.most_at_a_time == 1 for engine in engines)
    assert sum(sum(engine.batches) for engine in engines) == len(ORIGINS)


@pytest.mark.parametrize("side_by_side", [1, 3])
def test_a_batch_that_does_not_fit_is_halved_and_so_are_the_next(
    side_by_side: int, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Doubling(side_by_side, memory=3)
    assert outcome(engine, 16) == ORIGINS
    assert "going on with batches of 2" in caplog.text
    assert engine.batches[-1] <= 2


def test_a_card_gets_batches_of_one_size() -> None:
    engine = Doubling(provider="cuda")
    assert outcome(engine, 8) == ORIGINS
    assert set(engine.batches) == {8}


def test_one_patch_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(OutOfMemoryError, match="too many patches"):
        outcome(Doubling(2, memory=0), 4)


class Shared(Doubling):
    """Memory for so many patches, of all calls together."""

    def run(self, grid: Array, local_std: Array) -> tuple[Array, Array | None]:
        with self._lock:
            self.taken += len(grid)
            fits = self.taken <= self.memory
        try:
            if not fits:
                raise OutOfMemoryError("too many patches")
            return super().run(grid, local_std)
        finally:
            with self._lock:
                self.taken -= len(grid)

    taken = 0


@pytest.mark.parametrize(("room", "batch_size"), [(3, 1), (1, 1), (4, 8)])
def test_where_memory_is_shared_fewer_are_worked_on_at_a_time(
    room: int, batch_size: int, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Shared(4, memory=room)
    assert outcome(engine, batch_size) == ORIGINS
    assert "out of memory: going on with" in caplog.text


def test_fewer_calls_than_the_engine_could_take() -> None:
    engine = Doubling(4)
    seen = [
        origin for origin, _, _ in evaluate(
            engine, VOLUME, VOLUME, ORIGINS, patch_size=SIZE, at_a_time=2
        )
    ]
    assert seen == ORIGINS
    assert engine.most_at_a_time == 2


class Overflowing(Doubling):
    def run(self, grid: Array, local_std: Array) -> tuple[Array, Array | None]:
        density, logit = super().run(grid, local_std)
        density[0, 1, 1, 1] = np.nan
        return density, logit


def test_what_is_not_finite_is_an_error() -> None:
    with pytest.raises(EngineError, match="not finite"):
        outcome(Overflowing(), 1)


class Failing(Doubling):
    def run(self, grid: Array, local_std: Array) -> tuple[Array, Array | None]:
        if grid[0, 0, 0, 0] >= VOLUME[10, 0, 0]:
            raise EngineError("the eleventh failed")
        return super().run(grid, local_std)


def test_a_failure_is_raised_and_nothing_goes_on_behind_it() -> None:
    engine = Failing(2)
    before = threading.active_count()
    with pytest.raises(EngineError, match="the eleventh failed"):
        outcome(engine, 1)
    assert threading.active_count() == before
    assert sum(engine.batches) <= 12


def test_leaving_early_ends_the_work() -> None:
    engine = Doubling(2)
    evaluated = evaluate(engine, VOLUME, VOLUME, ORIGINS, patch_size=SIZE, batch_size=1)
    next(evaluated)
    evaluated.close()
    assert sum(engine.batches) <= 4


class Summing(Doubling):
    """The same engine where it adds the patches up itself."""

    largest_batch: int | None = None

    def blending(self, volume: Array, local_std: Array, window: Array) -> Summing:
        self.inputs, self.window = (volume, local_std), window
        self.total = np.zeros_like(volume)
        return self

    def add(self, origins: Sequence[tuple[int, int, int]], size: int) -> None:
        given = [*origins, *origins[-1:] * (size - len(origins))]
        cut = [np.stack([array[z : z + SIZE] for z, _, _ in given]) for array in self.inputs]
        for (z, _, _), patch in zip(origins, self.run(*cut)[0], strict=False):
            self.total[z : z + SIZE] += patch * self.window

    def sums(self) -> tuple[Array, None]:
        return self.total, None


def plan() -> PatchPlan:
    window = np.ones((SIZE,) * 3, dtype=np.float32)
    weight = np.zeros_like(VOLUME)
    for z, _, _ in ORIGINS:
        weight[z : z + SIZE] += window
    return PatchPlan(ORIGINS, 0, 0.3, window, weight)


@pytest.mark.parametrize(("batch_size", "memory", "sizes"), [
    (1, 1, {1}), (8, 8, {8}), (8, 5, {8, 4}), (100, 1, {100, 50, 25, 12, 6, 3, 1}),
])
def test_an_engine_that_adds_up_gets_every_patch_once_and_smaller_batches_where_it_must(
    batch_size: int, memory: int, sizes: set[int]
) -> None:
    engine = Summing(memory=memory)
    seen: list[tuple[int, int]] = []
    density, mask = blend_patches(
        engine, VOLUME, VOLUME, plan(), batch_size=batch_size,
        progress=lambda done, total: seen.append((done, total)),
    )
    np.testing.assert_allclose(density, 2 * VOLUME, rtol=1e-6)
    np.testing.assert_array_equal(mask, 1)
    assert set(engine.batches) == sizes
    assert seen[0] == (0, len(ORIGINS))
    assert seen[-1] == (len(ORIGINS), len(ORIGINS))


def test_what_fitted_once_is_where_the_next_volume_begins() -> None:
    engine = Summing(memory=4)
    engine.largest_batch = 4
    blend_patches(engine, VOLUME, VOLUME, plan(), batch_size=16)
    assert set(engine.batches) == {4}


def test_so_does_one_patch_that_does_not_fit() -> None:
    with pytest.raises(OutOfMemoryError):
        blend_patches(Summing(memory=0), VOLUME, VOLUME, plan(), batch_size=4)
