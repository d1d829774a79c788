from __future__ import annotations

import base64
import io
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blush_onnx.report import curves, pictures
from blush_onnx.report.svg import SERIES
from tests.conftest import blob_and_noise
from tests.report.page_parts import ball, plain_plot


def images_of(svg: str) -> list[np.ndarray]:
    """The pictures in an SVG, as it shows them: upwards is upwards."""
    from matplotlib.image import imread

    found = re.findall(r'href="data:image/png;base64,\s*([^"]+)"', svg)
    return [imread(io.BytesIO(base64.b64decode(text))) for text in found]


def test_text_in_a_plot_is_text_and_its_colours_are_the_page_s() -> None:
    svg = str(plain_plot("my curve").image)
    assert "my curve" in svg
    assert ">resolution (Å)<" in svg
    assert "var(--series-1)" in svg
    assert "currentColor" in svg
    assert not any(colour in svg for colour in SERIES)
    assert "http://www.w3.org/1999/xlink" in svg  # a name, not an address: nothing else is left
    assert set(re.findall(r'https?://[^"\s]+', svg)) <= {
        "http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg",
    }


def test_thresholds_and_cut_off_are_marked_on_the_fsc() -> None:
    svg = str(curves.fsc_figure(
        {"unmasked": np.linspace(1, 0, 17)}, 32, 2.0, alt="a", caption="c",
        marks={"cut-off": 8.0},
    ).image)
    for label in ("0.143", "0.5", "cut-off 8.00 Å"):
        assert f">{label}<" in svg


def test_a_mark_beyond_nyquist_is_left_out() -> None:
    svg = str(curves.fsc_figure(
        {"unmasked": np.linspace(1, 0, 17)}, 32, 2.0, alt="a", caption="c",
        marks={"cut-off": 3.0, "nothing": math.inf},
    ).image)
    assert "cut-off" not in svg
    assert "nothing" not in svg


def test_the_table_reads_the_resolution_off_each_curve() -> None:
    falling = np.where(np.arange(17) < 9, 1.0, 0.0)  # last above: shell 8, 64 Å / 8
    table = curves.resolution_table({"unmasked": falling, "none": np.zeros(17)}, 32, 2.0)
    assert table.rows == [("unmasked", "8.00 Å", "8.00 Å"), ("none", "none", "none")]


def test_one_grey_is_one_density_in_every_picture() -> None:
    first, second = np.zeros((2, 16, 16, 16), np.float32)
    first[8], second[8, 4:8] = 1, 0.5
    svg = pictures.picture_grid(
        {"a": first, "b": second}, 2.0, "slice", alt="a", caption="c", limits=(0, 2)
    ).image
    images = [image for image in images_of(str(svg)) if image.shape[:2] == (16, 16)]
    assert len(images) == 6
    along_z_a, along_z_b = images[0][..., 0], images[1][..., 0]
    assert np.unique(along_z_a) == pytest.approx([128 / 255], abs=1 / 255)  # 1 of 0…2
    assert np.unique(along_z_b) == pytest.approx([0, 64 / 255], abs=1 / 255)


def test_the_scale_is_stated_in_the_caption() -> None:
    volume = blob_and_noise((16, 16, 16), 1)
    figure = pictures.picture_grid(
        {"a": volume}, 2.0, "slice", alt="a", caption="from {low} to {high}", limits=(-0.5, 2)
    )
    assert figure.caption.startswith("from −0.5 to 2")


def test_the_scale_bar_states_its_length_in_angstrom() -> None:
    figure = pictures.picture_grid(
        {"a": ball(40, 10)}, 2.5, "projection", alt="a", caption="c"
    )
    assert ">20 Å<" in str(figure.image)  # a third of 100 Å, rounded down to 1, 2 or 5


def test_the_outline_of_a_mask_is_named_and_drawn() -> None:
    volume, mask = ball(24, 8), (ball(24, 8) > 0).astype(np.float32)
    plain, outlined = (
        str(pictures.picture_grid(
            {"a": volume}, 2.0, "slice", alt="a", caption="c", outlines=outlines
        ).image)
        for outlines in (None, {"my mask": mask})
    )
    assert ">my mask<" in outlined
    assert pictures.OUTLINES[0] in outlined
    assert pictures.OUTLINES[0] not in plain


@pytest.mark.parametrize("shape", [(24, 24, 24), (9, 20, 31), (300, 12, 12)])
def test_any_box_can_be_drawn(shape: tuple[int, int, int]) -> None:
    volume = blob_and_noise(shape, 1)
    for view in ("slice", "projection"):
        pictures.picture_grid({"a": volume, "b": volume}, 2.0, view, alt="a", caption="c")


def test_places_where_nothing_is_known_can_be_drawn() -> None:
    volume = np.full((16, 16, 16), np.nan, np.float32)
    pictures.picture_grid({"a": volume}, 2.0, "slice", alt="a", caption="c", colours="viridis")


@given(st.floats(1e-3, 1e6))
def test_a_nice_length_fits_and_is_not_much_too_short(longest: float) -> None:
    found = pictures.nice_length(longest)
    assert 0.39 * longest < found <= longest * (1 + 1e-9)
    assert round(found / 10 ** math.floor(math.log10(found) + 1e-9)) in (1, 2, 5)


def test_large_pictures_are_averaged() -> None:
    picture = np.arange(400 * 500, dtype=float).reshape(400, 500)
    small = pictures.reduce(picture, 200)
    assert small.shape == (133, 166)
    assert small[0, 0] == picture[:3, :3].mean()
