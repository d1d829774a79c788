"""The page as a reader has it: opened from a file, in Chromium, and used."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from blush_onnx.fsc import half_map_fsc
from blush_onnx.report.content import ReportContent, Section, Table
from blush_onnx.report.maps import ReportMaps, map_sections
from blush_onnx.report.page import write_page
from tests.conftest import blob_and_noise

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

SHAPE = (32, 28, 36)
SOFTWARE = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
"""WebGL without a card; root, as in containers, cannot use the sandbox."""


@dataclass(frozen=True)
class Pages:
    """The same page twice: the second has no surface, and so no Plotly, and opens faster."""

    whole: Path
    short: Path


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    """A page with every kind of section, of two made-up half-maps."""
    halves = [blob_and_noise(SHAPE, seed, 0.2) for seed in (1, 2)]
    truth = blob_and_noise(SHAPE, 1, 0)
    maps = ReportMaps(
        before=(halves[0] + halves[1]) / 2, after=truth, voxel_size=2.0,
        solvent_mask=(truth > 0.05).astype(np.float32), cut_off_angstrom=6.0,
        fsc=half_map_fsc(halves[0], halves[1], 2.0), spread=np.abs(halves[0] - halves[1]),
    )
    table = Table("A long word", ("Name", "Value"), [("sha256", "0123456789abcdef" * 8)], True)
    content = ReportContent(
        "Made up", "half1.mrc and half2.mrc", [("Resolution", "6.0 Å")], ["A paragraph."],
        "These are no half-maps.", ["The mask is tight."],
        (*map_sections(maps), Section("test", "A test", (), "failed", "By design.", (), [table])),
    )
    folder = tmp_path_factory.mktemp("pages")
    short = replace(content, sections=[s for s in content.sections if s.surface is None])
    for name, what in (("whole", content), ("short", short)):
        (folder / f"{name}.html").write_text(write_page(what), encoding="utf-8")
    return Pages(folder / "whole.html", folder / "short.html")


@pytest.fixture(scope="module")
def browser() -> Iterator[Callable[..., Browser]]:
    """Starter of Chromium; one for each set of arguments."""
    from playwright.sync_api import sync_playwright

    started: dict[tuple[str, ...], Browser] = {}
    with sync_playwright() as playwright:

        def start(*arguments: str) -> Browser:
            if arguments not in started:
                started[arguments] = playwright.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--no-sandbox", *arguments]
                )
            return started[arguments]

        yield start
        for one in started.values():
            one.close()


@dataclass
class Opened:
    """A page in a browser, and what it asked for and complained of."""

    page: Page
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def canvases(self) -> list[str]:
        """What the six slices show: before along z, y, x, then after."""
        found: list[str] = self.page.eval_on_selector_all(
            "canvas[data-map]", "all => all.map(canvas => canvas.toDataURL())"
        )
        return found

    def readout(self) -> str:
        return self.page.inner_text(".readout output")

    def settled(self) -> None:
        """Wait until what was asked for has been drawn."""
        self.page.evaluate(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )


@pytest.fixture
def opened(
    browser: Callable[..., Browser], pages: Pages
) -> Iterator[Callable[..., Opened]]:
    """Opener of the short page, or of the whole one."""
    contexts = []

    def open_page(*arguments: str, whole: bool = False, **context: Any) -> Opened:
        contexts.append(browser(*(arguments or SOFTWARE)).new_context(**context))
        contexts[-1].set_default_timeout(60_000)
        found = Opened(contexts[-1].new_page())
        page = found.page
        page.on("request", lambda request: found.requests.append(request.url))
        page.on("pageerror", lambda error: found.errors.append(str(error)))
        page.on(
            "console",
            lambda message: found.errors.append(message.text) if message.type == "error" else None,
        )
        page.goto((pages.whole if whole else pages.short).as_uri())
        if context.get("java_script_enabled", True):
            page.wait_for_selector(".viewer[data-ready]")
        return found

    yield open_page
    for context in contexts:
        context.close()


Opener = Callable[..., Opened]


def changed(before: list[str], after: list[str]) -> list[bool]:
    assert len(before) == len(after) == 6
    return [a != b for a, b in zip(before, after, strict=True)]


def test_it_renders_without_an_error_and_asks_for_nothing(opened: Opener, pages: Pages) -> None:
    found = opened(whole=True)
    found.page.wait_for_selector(".surface[data-ready]")
    found.page.wait_for_timeout(500)
    assert found.errors == []
    outside = [url for url in found.requests if not url.startswith(("data:", "blob:"))]
    assert outside == [pages.whole.as_uri()]


def test_the_policy_stops_a_request_if_there_were_one(opened: Opener) -> None:
    """The listener above would see one: what it does not see is not there."""
    found = opened()
    answer = found.page.evaluate(
        "fetch('http://127.0.0.1:9/').then(() => 'went', () => 'stopped')"
    )
    assert answer == "stopped"
    assert any("Content Security Policy" in error for error in found.errors)


def test_the_maps_are_seen_in_the_viewer(opened: Opener) -> None:
    first = opened().canvases()
    assert len(first) == 6
    assert len(set(first)) == 6  # six different pictures


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slider_moves_the_slice_of_both_maps(axis: int, opened: Opener) -> None:
    found = opened()
    found.page.uncheck(".show-cross")
    found.settled()
    before, words = found.canvases(), found.readout()
    found.page.locator(".axis input").nth(axis).fill("5")
    found.settled()
    assert changed(before, found.canvases()) == [axis == n for n in range(3)] * 2
    assert f"{'zyx'[axis]} 5 of {SHAPE[axis]} (10.0 Å)" in found.readout()
    assert found.readout() != words


def test_the_readout_tells_the_density_at_the_cross(opened: Opener) -> None:
    found = opened()
    for axis, place in enumerate((10, 12, 14)):
        found.page.locator(".axis input").nth(axis).fill(str(place))
    found.settled()
    truth = blob_and_noise(SHAPE, 1, 0)[10, 12, 14]
    told = float(found.readout().split("after ")[1].replace("−", "-"))
    assert told == pytest.approx(truth, abs=0.02)  # a grey of 256 over a range of about 3


def test_the_grey_of_a_pixel_is_that_of_its_voxel(opened: Opener) -> None:
    """The right voxel at the right place: x to the right, y upwards."""
    found = opened()
    found.page.uncheck(".show-cross")
    found.page.locator(".axis input").nth(0).fill("10")
    found.settled()
    shown = np.array(found.page.evaluate(
        """() => {
            const canvas = document.querySelector("canvas[data-map='1'][data-axis='0']");
            const [step, data] = [canvas.width / 36, []];
            const pixels = canvas.getContext("2d");
            for (let y = 0; y < 28; y++) for (let x = 0; x < 36; x++)
                data.push(pixels.getImageData((x + 0.5) * step, (27.5 - y) * step, 1, 1).data[0]);
            return data;
        }"""
    )).reshape(28, 36)
    truth = blob_and_noise(SHAPE, 1, 0)[10]
    assert np.corrcoef(shown.ravel(), truth.ravel())[0, 1] > 0.98
    assert np.corrcoef(shown[::-1].ravel(), truth.ravel())[0, 1] < 0.9


def test_the_wheel_scrolls_both_maps_and_not_the_page(opened: Opener) -> None:
    found = opened()
    found.page.uncheck(".show-cross")
    canvas = found.page.locator("canvas[data-map='1'][data-axis='2']")
    canvas.scroll_into_view_if_needed()
    found.settled()
    before, top = found.canvases(), found.page.evaluate("scrollY")
    canvas.hover()
    found.page.mouse.wheel(0, 100)
    found.page.wait_for_function("document.querySelectorAll('.axis input')[2].value == 19")
    assert changed(before, found.canvases()) == [False, False, True] * 2
    assert found.page.evaluate("scrollY") == top


@pytest.mark.parametrize(
    ("key", "axis", "step"),
    [("ArrowRight", 2, 1), ("ArrowLeft", 2, -1), ("ArrowUp", 1, 1), ("ArrowDown", 1, -1),
     ("PageUp", 0, 1), ("Shift+PageDown", 0, -5)],
)
def test_keys_move_the_cross_and_the_slice(
    key: str, axis: int, step: int, opened: Opener
) -> None:
    found = opened()
    found.page.focus("canvas[data-map='0'][data-axis='0']")
    found.page.keyboard.press(key)
    found.settled()
    places = [int(slider.input_value()) for slider in found.page.locator(".axis input").all()]
    expected = [length // 2 for length in SHAPE]
    expected[axis] += step
    assert places == expected


def test_a_slider_takes_keys(opened: Opener) -> None:
    found = opened()
    found.page.locator(".axis input").first.press("ArrowRight")
    found.settled()
    assert f"z {SHAPE[0] // 2 + 1} of" in found.readout()


def test_a_click_moves_the_cross_and_the_button_brings_it_back(opened: Opener) -> None:
    found = opened()
    canvas = found.page.locator("canvas[data-map='0'][data-axis='0']")
    box = canvas.bounding_box()
    assert box is not None
    canvas.click(position={"x": box["width"] * 4.5 / 36, "y": box["height"] * (1 - 20.5 / 28)})
    found.settled()
    assert "y 20 of 28 (40.0 Å), x 4 of 36 (8.0 Å)" in found.readout()
    found.page.click(".centre")
    found.settled()
    assert "z 16 of 32 (32.0 Å), y 14 of 28 (28.0 Å), x 18 of 36" in found.readout()


def luminance(page: Page, selector: str, what: str) -> float:
    """Relative luminance of a colour (WCAG 2)."""
    text = page.eval_on_selector(selector, f"found => getComputedStyle(found).{what}")
    parts = np.array([float(part) for part in text[text.index("(") + 1 : -1].split(",")[:3]]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_curves_stand_out_by_day_and_by_night(scheme: str, opened: Opener) -> None:
    page = opened(color_scheme=scheme).page
    paper = luminance(page, "body", "backgroundColor")
    assert (paper < 0.02) if scheme == "dark" else (paper > 0.9)

    def contrast(ink: float) -> float:
        return (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05)

    for selector in ("body", "figcaption", "nav a", "thead th", ".verdict strong"):
        assert contrast(luminance(page, selector, "color")) >= 4.5, selector  # WCAG AA, text
    assert contrast(luminance(page, "#fsc svg text", "fill")) >= 4.5
    curve = "#fsc svg path[style*='--series-1']"
    assert contrast(luminance(page, curve, "stroke")) >= 3  # WCAG AA, graphics


def test_a_phone_shows_it_without_scrolling_sideways(opened: Opener) -> None:
    page = opened(whole=True, viewport={"width": 360, "height": 740}).page
    page.click("summary >> nth=-1")  # the longest table too
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_it_prints_with_everything_open_and_without_controls(opened: Opener) -> None:
    page = opened(whole=True, color_scheme="dark").page
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    for control in ("input[type=range]", "button", "nav", ".surface"):
        assert not page.locator(control).first.is_visible(), control
    assert page.locator("#surface figure svg").is_visible()
    assert luminance(page, "body", "backgroundColor") == pytest.approx(1)
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
    pdf = page.pdf(format="A4", print_background=True)
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 100_000  # the pictures are in it


def test_without_webgl_the_stills_show_the_surface(opened: Opener) -> None:
    found = opened("--disable-gpu", "--disable-3d-apis", whole=True)
    assert not found.page.locator(".surface").is_visible()
    assert found.page.locator("#surface figure svg").is_visible()
    assert found.errors == []


def test_without_javascript_the_pictures_are_there(opened: Opener) -> None:
    page = opened(whole=True, java_script_enabled=False).page
    assert page.locator("#slices svg").first.is_visible()
    assert page.locator(".viewer-missing").is_visible()
    assert not page.locator(".viewer").is_visible()


def test_an_old_browser_is_told_that_the_viewer_needs_a_newer_one(
    browser: Callable[..., Browser], pages: Pages
) -> None:
    page = browser(*SOFTWARE).new_page()
    page.add_init_script("delete globalThis.DecompressionStream")
    page.goto(pages.short.as_uri())
    assert page.locator(".viewer-missing").is_visible()
    assert not page.locator(".viewer").is_visible()
    page.close()


def test_every_picture_and_control_has_a_name(opened: Opener) -> None:
    page = opened(whole=True).page
    for element in page.locator("[role=img], img, canvas[tabindex], input, [role=region]").all():
        name = element.evaluate(
            "e => e.getAttribute('aria-label') || e.alt || (e.labels && e.labels[0].textContent)"
        )
        assert name
        assert name.strip()


def test_headings_follow_one_another(opened: Opener) -> None:
    levels = opened().page.eval_on_selector_all("h1, h2, h3", "all => all.map(h => h.tagName)")
    assert levels[0] == "H1"
    assert set(levels[1:]) == {"H2"}
