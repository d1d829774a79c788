from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pytest

from blush_onnx import fourier, transforms


@pytest.fixture(autouse=True)
def _looked_up_anew() -> Iterator[None]:
    transforms._scipy.cache_clear()
    yield
    transforms._scipy.cache_clear()


@pytest.mark.parametrize(("side", "other"), [(34, 34), (46, 32), (32, 50)])
def test_scipys_transforms_differ_by_rounding_alone(
    monkeypatch: pytest.MonkeyPatch, side: int, other: int
) -> None:
    pytest.importorskip("scipy")
    volume = np.random.default_rng(0).standard_normal((side,) * 3).astype(np.float32)

    def both() -> tuple[np.ndarray, np.ndarray]:
        return fourier.forward(volume, other), fourier.rescale(volume, other)

    expected = both()
    monkeypatch.setattr(transforms, "SCIPY_FROM", 2)
    assert transforms.for_side(other).__name__ == "scipy.fft"
    for found, known in zip(both(), expected, strict=True):
        assert found.dtype == known.dtype
        assert np.linalg.norm(found - known) < 1e-6 * np.linalg.norm(known)


def test_small_boxes_do_not_wait_for_scipy() -> None:
    assert transforms.for_side(transforms.SCIPY_FROM - 2) is np.fft


def test_without_scipy_numpy_transforms_large_boxes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.fft", None)
    monkeypatch.setitem(sys.modules, "scipy", None)
    assert transforms.for_side(transforms.SCIPY_FROM) is np.fft
