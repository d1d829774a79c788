from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from blush_onnx import Denoiser, fourier, masks
from blush_onnx.threads import FEWEST_PLANES, MOST_WORKERS, by_plane
from tests.conftest import blob_and_noise

VOLUME = blob_and_noise((72, 72, 72), 3)


@pytest.mark.parametrize("workers", [2, 3, 64])
@pytest.mark.parametrize("side", [48, 72, 90])
def test_transforms_do_not_depend_on_the_number_of_threads(workers: int, side: int) -> None:
    np.testing.assert_array_equal(
        fourier.forward(VOLUME, side, workers), fourier.forward(VOLUME, side)
    )
    np.testing.assert_array_equal(
        fourier.rescale(VOLUME, side, workers), fourier.rescale(VOLUME, side)
    )


def test_the_local_std_does_not_depend_on_the_number_of_threads() -> None:
    np.testing.assert_array_equal(masks.local_std(VOLUME, 4), masks.local_std(VOLUME))


@pytest.mark.parametrize("count", [0, 1, 15, 33, 200])
@pytest.mark.parametrize("workers", [1, 2, 7])
def test_every_plane_is_worked_on_once(count: int, workers: int) -> None:
    seen = np.zeros(count, dtype=int)

    def work(planes: range) -> None:
        for plane in planes:
            seen[plane] += 1

    by_plane(work, count, workers)
    assert (seen == 1).all()


def test_threads_share_the_planes_but_not_too_few_and_not_too_many() -> None:
    shares: list[range] = []
    by_plane(shares.append, FEWEST_PLANES * 2 - 1, 8)
    assert [len(share) for share in shares] == [FEWEST_PLANES * 2 - 1]
    threads: set[int] = set()
    shares.clear()

    def work(planes: range) -> None:
        threads.add(threading.get_ident())
        shares.append(planes)

    by_plane(work, 1000, 99)
    assert len(shares) == MOST_WORKERS
    assert threading.get_ident() not in threads


def test_what_a_thread_raises_is_raised() -> None:
    def fail(planes: range) -> None:
        if 40 in planes:
            raise RuntimeError("plane 40")

    with pytest.raises(RuntimeError, match="plane 40"):
        by_plane(fail, 64, 4)


def test_a_map_does_not_depend_on_the_threads_around_the_network(tiny_model: Path) -> None:
    denoiser = Denoiser.load(tiny_model, provider="cpu", threads=2)
    assert denoiser.workers == 2
    found = denoiser.denoise(VOLUME, 1.3)
    denoiser.workers = 1
    np.testing.assert_array_equal(denoiser.denoise(VOLUME, 1.3).density, found.density)
