"""FSC curves drawn with characters, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from blush_onnx.fsc import Curve

THRESHOLDS = (0.143, 0.5)
HEIGHT = 16
"""Rows from 1 down to 0, these two among them."""
MARGIN = 7
NARROWEST, WIDEST = 40, 110
UNICODE, ASCII = "●○×+◆▲", "*ox+#@"
"""Marks of the curves, the one that decides first."""
LINES = {True: ("│", "└", "─", "┄", "┬"), False: ("|", "+", "-", ".", "+")}
TICK_SPACING = 10


def fsc_plot(
    curves: Mapping[str, Curve],
    box_length: float,
    *,
    width: int = 80,
    unicode: bool = True,
    thresholds: Sequence[float] = THRESHOLDS,
) -> str:
    """Curves over spatial frequency, the axis marked with resolutions.

    Parameters
    ----------
    curves : mapping
        Name to values, (shells,); the first lies on top of the others. Six at most.
    box_length : float
        Side of the even cube, Å.
    width : int
        Of the terminal, characters; from 40 to 110 are used.
    unicode : bool
        False: ASCII characters alone, apart from the unit Å, which becomes A.
    thresholds : sequence of float
        Drawn as dotted lines.

    Returns
    -------
    str
        Lines without a newline at the end.
    """
    columns = min(max(width, NARROWEST), WIDEST) - MARGIN - 1
    upright, corner, level, dotted, tick = LINES[unicode]
    marks = (UNICODE if unicode else ASCII)[: len(curves)]
    canvas = [[" "] * columns for _ in range(HEIGHT)]
    for threshold in thresholds:
        canvas[_row(threshold)] = [dotted] * columns
    for mark, curve in reversed(list(zip(marks, curves.values(), strict=True))):
        shells = np.linspace(1, len(curve) - 1, columns)
        for column, value in enumerate(np.interp(shells, np.arange(len(curve)), curve)):
            canvas[_row(value)][column] = mark
    labels = {_row(1.0): "1.0", _row(0.0): "0.0"} | {_row(t): f"{t:g}" for t in thresholds}
    text = [
        f"{labels.get(row, ''):>{MARGIN - 1}} {upright}{''.join(cells)}".rstrip()
        for row, cells in enumerate(canvas)
    ]
    last = len(next(iter(curves.values()))) - 1
    axis, names = _axis(columns, last, box_length, (level, tick), "Å" if unicode else "A")
    text += [f"{'':>{MARGIN}}{corner}{axis}", f"{'':>{MARGIN + 1}}{names}".rstrip()]
    legend = [f"{mark} {name.replace('_', ' ')}" for mark, name in zip(marks, curves, strict=True)]
    per_line = 5 if len("   ".join(legend)) <= columns else 2
    for start in range(0, len(legend), per_line):
        text.append(f"{'':>{MARGIN + 1}}{'   '.join(legend[start : start + per_line])}")
    return "\n".join(text)


def _row(value: float) -> int:
    """Row of a value; what lies outside 0…1 is drawn on the edge."""
    return round((1 - min(max(float(value), 0.0), 1.0)) * (HEIGHT - 1))


def _axis(
    columns: int, last: int, box_length: float, characters: tuple[str, str], unit: str
) -> tuple[str, str]:
    """The line below the plot, and the resolutions under its ticks."""
    level, tick = characters
    line, names = [level] * columns, [" "] * columns
    for column in range(TICK_SPACING // 2, columns - TICK_SPACING // 2 + 1, TICK_SPACING):
        shell = 1 + (last - 1) * column / (columns - 1)
        line[column] = tick
        name = f"{box_length / shell:.3g}"
        start = column - len(name) // 2
        names[start : start + len(name)] = name
    names[-2:] = [" ", unit]
    return "".join(line), "".join(names)
