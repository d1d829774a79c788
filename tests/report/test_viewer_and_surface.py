from __future__ import annotations

import base64
import math
import re
import zlib

import numpy as np
import pytest

from blush_onnx.report import surface, viewer
from blush_onnx.report.content import Section
from blush_onnx.report.page import write_page
from blush_onnx.report.stills import Solid, shaded_view
from tests.conftest import Volume, blob_and_noise
from tests.report.page_parts import Parts, ball, content


def test_the_viewer_gets_both_maps_on_one_grey_scale() -> None:
    first = blob_and_noise((20, 24, 28), 1)
    view = viewer.orthoslices((first, 2 * first), ("a", "b"), 1.5)
    assert view.shape == view.volumes[0].shape == (20, 24, 28)
    assert view.voxel_size == (1.5, 1.5, 1.5)
    for volume, shown in zip((first, 2 * first), view.volumes, strict=True):
        grey = np.clip((volume - view.low) / (view.high - view.low), 0, 1) * 255
        assert np.abs(grey - shown).max() <= 0.5 + 1e-4  # rounding to whole greys


def test_voxels_can_be_read_back_from_the_page() -> None:
    view = viewer.orthoslices((ball(20, 5), ball(20, 7)), ("a", "b"), 1.5)
    parts = Parts(write_page(content(Section("viewer", "V", orthoslices=view))))
    texts = [s for s in parts.scripts if re.fullmatch(r"[A-Za-z0-9+/=]+", s)]
    for text, volume in zip(texts, view.volumes, strict=True):
        assert zlib.decompress(base64.b64decode(text)) == volume.tobytes()


@pytest.mark.parametrize("shape", [(60, 60, 60), (60, 30, 45)])
def test_a_large_box_is_shown_coarser_and_things_stay_where_they_are(
    shape: tuple[int, int, int]
) -> None:
    axes = [np.arange(length) - length // 2 for length in shape]
    places = (6.0, -4.0, 8.0)
    z, y, x = (np.exp(-((a - p) ** 2) / 32) for a, p in zip(axes, places, strict=True))
    volume = (z[:, None, None] * y[:, None] * x).astype(np.float32)
    small = viewer.shrink(volume, 30)
    assert max(small.shape) == 30
    top = np.unravel_index(small.argmax(), small.shape)
    found = [index - length // 2 for index, length in zip(top, small.shape, strict=True)]
    # Half a voxel at most, for a centre between two voxels of an odd side.
    np.testing.assert_allclose(found, np.divide(places, 2), atol=0.5)
    assert small.max() == pytest.approx(1, abs=0.02)  # amplitudes are kept


def test_the_surface_of_a_ball_is_a_sphere() -> None:
    volume = ball(32, 9)
    mesh = surface.triangulate(Solid(volume, 0.0, volume, 1.5))
    distance = np.linalg.norm(mesh.vertices - 16 * 1.5, axis=1)
    # Linear between voxels: the distance itself bends by 1/(8 r) of a voxel.
    np.testing.assert_allclose(distance, 9 * 1.5, atol=1.5 / (8 * 9) + 1e-3)


def test_vertices_are_x_y_z() -> None:
    volume = ball(32, 5, (-6, 0, 8))
    middle = surface.triangulate(Solid(volume, 0.0, volume, 1.0)).vertices.mean(axis=0)
    np.testing.assert_allclose(middle, (24, 16, 10), atol=0.1)


@pytest.mark.parametrize(("axis", "nearer"), [(0, 8), (1, -8), (2, 8)])
def test_a_view_shows_the_side_that_keeps_the_hand(axis: int, nearer: int) -> None:
    """x to the right and y upwards is seen from large z; x and z from small y; y and z from x."""
    near, far = [0, 0, 0], [0, 0, 0]
    near[axis], far[axis] = nearer, -nearer
    volume = np.maximum(ball(32, 5, tuple(near)), ball(32, 5, tuple(far)))
    colour = (ball(32, 5, tuple(near)) > ball(32, 5, tuple(far))).astype(np.float32)
    values, brightness = shaded_view(Solid(volume, 0.0, colour, 1.0), axis)
    assert values[16, 16] == 1
    assert math.isnan(values[1, 1])
    assert brightness[19, 18] > brightness[13, 14]  # lit from the upper right


def test_the_level_parts_two_kinds_of_voxels() -> None:
    values = np.concatenate([np.full(900, 0.1), np.full(100, 2.0)]).astype(np.float32)
    assert 0.1 <= surface.surface_level(values) < 2.0


@pytest.mark.parametrize("mask", [None, np.zeros((16, 16, 16), np.float32)])
def test_no_surface_where_there_is_none(mask: Volume | None) -> None:
    volume = np.ones((16, 16, 16), np.float32) if mask is None else ball(16, 5)
    assert surface.coloured_surface(
        volume, 2.0, volume, label="l", alt="a", caption="c", mask=mask
    ) is None


def test_unknown_local_resolution_leaves_no_hole_in_the_surface() -> None:
    resolution = np.full((24, 24, 24), np.nan, np.float32)
    resolution[10:] = 4
    found = surface.coloured_surface(
        ball(24, 7), 2.0, resolution, label="local resolution (Å)", alt="a", caption="c"
    )
    assert found is not None
    assert "NaN" not in found.plot


def test_too_many_triangles_make_the_surface_coarser(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = ball(60, 20)
    fine = surface.coloured_surface(volume, 2.0, volume, label="l", alt="a", caption="c")
    monkeypatch.setattr(surface, "MOST_TRIANGLES", 20_000)
    coarse = surface.coloured_surface(volume, 2.0, volume, label="l", alt="a", caption="c")
    assert fine is not None
    assert coarse is not None
    assert len(coarse.plot) < len(fine.plot)
