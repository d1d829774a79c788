from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from blush_onnx.report.text_plot import HEIGHT, MARGIN, NARROWEST, WIDEST, fsc_plot

SHELLS = 41
LENGTH = 120.0
Curve = npt.NDArray[np.float64]


def falling() -> Curve:
    return np.linspace(1, 0, SHELLS)


def canvas(plot: str) -> list[str]:
    """Rows between the axis and the right edge, top first."""
    return [line[MARGIN + 1 :] for line in plot.split("\n")[:HEIGHT]]


@pytest.mark.parametrize("width", [40, 79, 110])
@pytest.mark.parametrize("unicode", [True, False])
def test_no_line_is_longer_than_the_terminal(width: int, unicode: bool) -> None:
    curves = {name: falling() for name in ("solvent_corrected", "unmasked", "map_to_model")}
    plot = fsc_plot(curves, LENGTH, width=width, unicode=unicode)
    assert max(map(len, plot.split("\n"))) <= width


@pytest.mark.parametrize(("width", "used"), [(1, NARROWEST), (1000, WIDEST)])
def test_absurd_widths_are_not_followed(width: int, used: int) -> None:
    plot = fsc_plot({"unmasked": falling()}, LENGTH, width=width)
    assert max(map(len, plot.split("\n"))) == used


def test_without_unicode_every_character_is_ascii() -> None:
    curves = {name: falling() for name in "abcdef"}
    assert fsc_plot(curves, LENGTH, unicode=False).isascii()


def test_a_falling_curve_goes_from_the_upper_left_to_the_lower_right() -> None:
    rows = canvas(fsc_plot({"unmasked": falling()}, LENGTH, unicode=False, thresholds=()))
    assert rows[0].startswith("*")
    assert rows[-1].endswith("*")
    first = [row.index("*") for row in rows]
    assert first == sorted(first)


def test_a_constant_curve_lies_on_its_value() -> None:
    for value, row in ((1.0, 0), (0.2, 12), (0.0, HEIGHT - 1)):
        curve = np.full(SHELLS, value)
        rows = canvas(fsc_plot({"unmasked": curve}, LENGTH, unicode=False, thresholds=()))
        assert [i for i, text in enumerate(rows) if "*" in text] == [row]
        assert set(rows[row]) == {"*"}


def test_negative_correlation_is_drawn_on_the_floor() -> None:
    curve = np.full(SHELLS, -0.7)
    rows = canvas(fsc_plot({"unmasked": curve}, LENGTH, unicode=False))
    assert set(rows[-1]) == {"*"}


def test_the_first_curve_lies_on_top() -> None:
    plot = fsc_plot({"corrected": falling(), "masked": falling()}, LENGTH, unicode=False)
    assert "o" not in "".join(canvas(plot))


def test_thresholds_are_drawn_and_named() -> None:
    lines = fsc_plot({"unmasked": np.zeros(SHELLS)}, LENGTH, unicode=False).split("\n")
    for name in ("0.143", "0.5"):
        (line,) = [text for text in lines if text.strip().startswith(f"{name} ")]
        assert set(line[MARGIN + 1 :]) == {"."}


def test_the_axis_names_the_resolution_under_its_tick() -> None:
    """A curve that falls at one shell falls where the axis says that shell's resolution."""
    lines = fsc_plot({"unmasked": falling()}, LENGTH, width=110, unicode=False).split("\n")
    ticks, names = lines[HEIGHT][MARGIN + 1 :], lines[HEIGHT + 1][MARGIN + 1 :]
    columns = len(ticks)
    found = 0
    for column, character in enumerate(ticks):
        if character != "+":
            continue
        word = next(w for w in names.split() if abs(names.index(w) + len(w) // 2 - column) == 0)
        shell = 1 + (SHELLS - 2) * column / (columns - 1)
        assert float(word) == pytest.approx(LENGTH / shell, rel=0.01)
        found += 1
    assert found >= 5
    assert names.endswith("A")


def test_the_legend_names_every_curve() -> None:
    names = ["solvent_corrected", "unmasked", "masked", "phase_randomised", "map_to_model"]
    plot = fsc_plot({name: falling() for name in names}, LENGTH, width=60)
    for mark, name in zip("●○×+◆", names, strict=True):
        assert f"{mark} {name.replace('_', ' ')}" in plot
