"""Contents of a page, made up for the tests, and a reader of pages."""

from __future__ import annotations

import base64
from html.parser import HTMLParser

import numpy as np

from blush_onnx.report import curves
from blush_onnx.report.content import Figure, ReportContent, Section
from tests.conftest import Volume

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
