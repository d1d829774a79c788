from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blush_onnx import InputError
from blush_onnx.fsc import FscCurves
from blush_onnx.report import curves, pictures, surface, viewer
from blush_onnx.report.content import Figure, ReportContent, Section, Table
from blush_onnx.report.denoising import summary
from blush_onnx.report.maps import ReportMaps, map_sections
from blush_onnx.report.page import write_page
from blush_onnx.report.stills import Solid, shaded_view
from blush_onnx.report.svg import SERIES
from tests.cli.helpers import assert_fails, run_cli
from tests.conftest import Volume, blob_and_noise, write_mrc
from tests.python_without import run_python

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Parts(HTMLParser):
    """Elements of a page with their attributes, its words, and its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words = ""
        self._inside: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        else:
            self.words += data

    def values(self, attribute: str) -> list[str]:
        return [found for _, a in self.elements if (found := a.get(attribute)) is not None]


def content(
    *sections: Section, warnings: tuple[str, ...] = (), subtitle: str = ""
) -> ReportContent:
    return ReportContent(
        "A title", subtitle, [("Resolution", "3.1 Å")], ["What was done."], "Mind this.", warnings,
        sections,
    )


def plain_plot(label: str = "a curve") -> Figure:
    return curves.shell_figure({label: np.linspace(1, 0, 17)}, 32, 2.0, alt="alt", caption="c")


def ball(side: int, radius: float, centre: tuple[float, ...] = (0, 0, 0)) -> Volume:
    axes = [np.arange(side) - side // 2 - c for c in centre]
    distance = np.sqrt(axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2)
    return (radius - distance).astype(np.float32)


def images_of(svg: str) -> list[np.ndarray]:
    """The pictures in an SVG, as it shows them: upwards is upwards."""
    from matplotlib.image import imread

    found = re.findall(r'href="data:image/png;base64,\s*([^"]+)"', svg)
    return [imread(io.BytesIO(base64.b64decode(text))) for text in found]


def test_a_section_appears_with_all_it_holds() -> None:
    section = Section(
        "overfitting", "Overfitting test", ["A paragraph."], "failed", "Something came up.",
        [plain_plot(), Figure(PNG, "a dot", "One pixel.")],
        [Table("Numbers", ("What", "How much"), [("this", "1.5")])],
    )
    parts = Parts(write_page(content(section)))
    for words in (
        "Overfitting test", "A paragraph.", "Failed.", "Something came up.", "One pixel.",
        "Numbers", "How much", "1.5",
    ):
        assert words in parts.words
    assert "overfitting" in parts.values("id")
    assert "a dot" in parts.values("alt")


def test_warnings_come_before_every_section() -> None:
    page = write_page(content(Section("one", "First section"), warnings=("The mask is tight.",)))
    words = Parts(page).words
    assert words.index("The mask is tight.") < words.rindex("First section")
    assert "Nothing was noticed" not in words
    assert "Nothing was noticed" in Parts(write_page(content())).words


def test_what_a_file_is_called_cannot_become_markup() -> None:
    name = '</title><script>alert("x")</script>.mrc'
    table = Table(name, (name,), [(name,)])
    figure = plain_plot(name)
    page = write_page(content(
        Section("one", name, [name], "ok", name, [figure], [table]), warnings=(name,),
        subtitle=name,
    ))
    assert Parts(page).scripts == Parts(write_page(content())).scripts


def test_half_a_character_in_a_name_does_not_spoil_the_page() -> None:
    write_page(content(subtitle="caf\udce9.mrc")).encode("utf-8")


def test_the_page_refers_to_nothing_outside_itself() -> None:
    parts = Parts(write_page(full_page()))
    for attribute in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
        for value in parts.values(attribute):
            assert value.startswith(("#", "data:")), value
    ids = parts.values("id")
    for value in parts.values("href"):
        if value.startswith("#"):
            assert value[1:] in ids


def test_ids_are_unique() -> None:
    ids = Parts(write_page(full_page())).values("id")
    assert len(ids) > 50
    assert len(ids) == len(set(ids))


def test_the_policy_allows_the_page_s_own_scripts_and_no_network() -> None:
    parts = Parts(write_page(full_page()))
    policy = next(a["content"] for tag, a in parts.elements if "http-equiv" in a) or ""
    kinds = [a.get("type") for tag, a in parts.elements if tag == "script"]
    running = [s for s, kind in zip(parts.scripts, kinds, strict=True) if kind is None]
    assert len(running) == 3  # viewer, Plotly, surface
    for script in running:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy
    assert "http" not in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]


def test_plotly_comes_along_only_with_a_surface() -> None:
    assert len(write_page(content(Section("one", "One", figures=[plain_plot()])))) < 200_000


@pytest.mark.parametrize("ids", [("a", "a"), ("summary",), ("Two words",), ("",)])
def test_ids_that_would_clash_are_refused(ids: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="section id"):
        write_page(content(*(Section(name, "title") for name in ids)))


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


def full_page() -> ReportContent:
    volume = blob_and_noise((24, 20, 28), 1)
    drawn = surface.coloured_surface(volume, 2.0, volume, label="l", alt="a", caption="c")
    assert drawn is not None
    return content(
        Section("one", "One", figures=[plain_plot(), plain_plot()]),
        Section("two", "Two", figures=[Figure(PNG, "a dot", "A dot.")], surface=drawn),
        Section("three", "Three", orthoslices=viewer.orthoslices(
            (volume, volume), ("a", "b"), 2.0
        )),
    )


Record = dict[str, Any]


def denoise(tiny_model: Path, out: Path, *arguments: str | Path) -> tuple[Parts, Record]:
    done = run_cli(
        "denoise", *arguments, "--report", "--out", out, "--model", tiny_model, "--provider", "cpu"
    )
    assert done.returncode == 0, done.stderr
    page = (out / "report.html").read_text(encoding="utf-8")
    assert len(page.encode()) < 15e6
    return Parts(page), json.loads((out / "report.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def halves_out(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with two half-maps and, in ``out``, what ``denoise --report`` made of them."""
    folder = tmp_path_factory.mktemp("halves")
    paths = [
        write_mrc(folder / f"half{seed}.mrc", blob_and_noise((40, 40, 40), seed))
        for seed in (1, 2)
    ]
    denoise(tiny_model, folder / "out", *paths)
    return folder / "out"


@pytest.fixture(scope="module")
def halves_page(halves_out: Path) -> tuple[Parts, Record]:
    record = json.loads((halves_out / "report.json").read_text(encoding="utf-8"))
    return Parts((halves_out / "report.html").read_text(encoding="utf-8")), record


def test_denoise_writes_a_page_beside_the_record(halves_page: tuple[Parts, Record]) -> None:
    parts, record = halves_page
    assert "report.html" in record["files"]
    assert "report" not in record["settings"]
    for source in record["inputs"]:
        assert source["sha256"] in parts.words
    assert record["note"] in parts.words
    for section in ("slices", "viewer", "fsc", "power", "histogram", "settings"):
        assert section in parts.values("id")


def test_every_setting_is_in_a_table(halves_page: tuple[Parts, Record]) -> None:
    parts, record = halves_page
    for group in ("settings", "model", "engine", "versions", "seconds"):
        for name, value in record[group].items():
            assert name.replace("_", " ") in parts.words
            if isinstance(value, str):
                assert value in parts.words


def test_a_map_denoised_already_has_a_page_without_an_fsc_and_with_its_warnings(
    tiny_model: Path, halves_out: Path, tmp_path: Path
) -> None:
    parts, record = denoise(tiny_model, tmp_path / "out", halves_out / "denoised.mrc")
    assert "report.html" in record["files"]
    assert "fsc" not in parts.values("id")
    assert "slices" in parts.values("id")
    assert any("denoised by blush-onnx already" in warning for warning in record["warnings"])
    for warning in record["warnings"]:
        assert warning in parts.words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": "option", "angstrom": 9.0}, "up to the cut-off at 9.00 Å, as asked for"),
        ({"source": "fsc"}, "two shells before the FSC falls below 1/7"),
        ({"spectral_trailing": False}, "can teach a refinement its own noise"),
        ({"spectral_trailing": False, "beyond_network": True}, "further than the network"),
    ],
)
def test_the_summary_tells_of_the_cut_off(
    changes: Record, words: str, halves_page: tuple[Parts, Record]
) -> None:
    record = halves_page[1]
    record = {**record, "cut_off": {**record["cut_off"], **changes}}
    shells = FscCurves(16, 2.0, unmasked=np.linspace(1, 0, 9))
    assert words in " ".join(summary(record, shells))


def test_a_spread_over_orientations_has_its_section() -> None:
    volume = blob_and_noise((16, 16, 16), 1)
    maps = ReportMaps(volume, volume, 2.0, np.ones_like(volume), 8.0)
    assert [s.id for s in map_sections(maps)] == [
        "slices", "viewer", "power", "histogram", "surface"
    ]
    assert [s.id for s in map_sections(replace(maps, spread=np.abs(volume)))][-1] == "spread"


def test_a_mask_that_is_empty_leaves_sections_out_and_harms_none() -> None:
    volume = blob_and_noise((16, 15, 18), 1)
    maps = ReportMaps(volume, volume, 2.0, np.zeros_like(volume), 8.0, spread=volume)
    found = [section.id for section in map_sections(maps)]
    assert found == ["slices", "viewer", "power", "spread"]


@pytest.mark.parametrize("missing", ["jinja2", "plotly", "skimage", "matplotlib", "scipy"])
def test_a_missing_package_is_named_before_the_work_begins(
    missing: str, half_maps: tuple[Path, Path], tmp_path: Path
) -> None:
    done = run_python(
        "from blush_onnx.cli import main; main()", without=[missing],
        arguments=["denoise", *map(str, half_maps), "--report", "--out", str(tmp_path / "out")],
    )
    assert_fails(done, f"a report needs {missing}: pip install 'blush-onnx[report]'")
    assert not (tmp_path / "out").exists()
