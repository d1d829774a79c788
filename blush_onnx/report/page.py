"""One page of HTML that holds all it needs and asks nothing of any network."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import itertools
import json
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

from blush_onnx.errors import BlushError, InputError
from blush_onnx.report.content import Figure, Orthoslices, ReportContent, Section, number_text
from blush_onnx.report.pictures import nice_length
from blush_onnx.report.svg import ID_PREFIX
from blush_onnx.report.viewer import as_base64

PACKAGES = ("jinja2", "matplotlib", "plotly", "scipy", "skimage")
MARKS = {"ok": "✓", "warning": "⚠", "failed": "✗"}
WORDS = {"ok": "Passed.", "warning": "Look closely.", "failed": "Failed."}
_ID = re.compile(r"[a-z][a-z0-9-]*")
_RESERVED = {"summary", "warnings"}


def require_packages() -> None:
    """Refuse to begin what could not be finished.

    Raises
    ------
    BlushError
        A package that a page needs is not installed.
    """
    for name in PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise BlushError(f"a report needs {name}: pip install 'blush-onnx[report]'")


def write_page(content: ReportContent) -> str:
    """A page as the text of its file, to be written as UTF-8.

    Scripts and pictures stand inside it; a content security policy allows these scripts, by
    their checksums, and forbids every request. Plotly's script comes along only where there
    is a surface to turn.

    Parameters
    ----------
    content : ReportContent

    Returns
    -------
    str

    Raises
    ------
    BlushError
        A package is not installed.
    InputError
        Ids of sections that are not unique, or not as they should be.
    """
    require_packages()
    import jinja2
    from markupsafe import Markup

    _check_ids(content.sections)
    scripts = [_own("viewer.js")]
    if any(section.surface for section in content.sections):
        scripts += [_plotly(), _own("surface.js")]
    numbers = itertools.count(1)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        keep_trailing_newline=True,
    )
    page: str = environment.from_string(_own("page.html.j2")).render(
        content=content,
        sections=[_prepared(section, Markup, numbers) for section in content.sections],
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - ours and Plotly's
        style=Markup(_own("style.css")),  # noqa: S704
        policy=_policy(scripts),
        marks=MARKS,
        words=WORDS,
    )
    # What is no character, such as half a surrogate pair in a file's name, has no place in UTF-8.
    return page.encode("utf-8", "replace").decode("utf-8")


def _policy(scripts: list[str]) -> str:
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _check_ids(sections: Any) -> None:
    seen = set(_RESERVED)
    for section in sections:
        if section.id in seen or not _ID.fullmatch(section.id):
            raise InputError(
                f"the section id {section.id!r} is taken or not made of small letters, digits "
                "and hyphens: give each section another"
            )
        seen.add(section.id)


def _prepared(section: Section, markup: Any, numbers: Iterator[int]) -> dict[str, Any]:
    """A section as the template takes it: what is markup is marked as such."""
    view, surface = section.orthoslices, section.surface
    return {
        "id": section.id, "title": section.title, "text": section.text,
        "verdict": section.verdict, "verdict_text": section.verdict_text,
        "tables": section.tables,
        "figures": [_figure(figure, markup, next(numbers)) for figure in section.figures],
        "orthoslices": None if view is None else _viewer(view, markup),
        "surface": None if surface is None else {
            "label": surface.label, "plot": markup(_inside_script(surface.plot)),
            "still": _figure(surface.still, markup, next(numbers)),
        },
    }


def _figure(figure: Figure, markup: Any, number: int) -> dict[str, Any]:
    svg = png = None
    if isinstance(figure.image, str):
        svg = markup(figure.image.replace(ID_PREFIX, f"f{number}-"))
    else:
        png = "data:image/png;base64," + base64.b64encode(figure.image).decode("ascii")
    return {
        "svg": svg, "png": png, "alt": figure.alt, "caption": figure.caption, "wide": figure.wide
    }


def _viewer(view: Orthoslices, markup: Any) -> dict[str, Any]:
    settings = {
        "shape": view.volumes[0].shape, "full_shape": view.shape, "voxel_size": view.voxel_size,
        "low": view.low, "high": view.high, "labels": view.labels,
        "bar": nice_length(view.volumes[0].shape[2] * view.voxel_size[2] / 3),
    }
    shown = " × ".join(str(length) for length in view.volumes[0].shape[::-1])
    coarser = "" if view.volumes[0].shape == view.shape else (
        f" Shown are {shown} voxels of {view.voxel_size[2]:.2f} Å: the maps were rescaled in "
        "Fourier space to keep this page small."
    )
    return {
        "labels": view.labels,
        "settings": markup(_inside_script(json.dumps(settings))),
        "data": [markup(as_base64(volume)) for volume in view.volumes],
        "scale": f"One grey scale for both maps: black is {number_text(view.low)}, white "
        f"{number_text(view.high)}, in 256 steps.{coarser}",
    }


def _inside_script(text: str) -> str:
    """JSON that cannot end the element it stands in."""
    return text.replace("<", "\\u003c")


def _own(name: str) -> str:
    folder = resources.files("blush_onnx.report") / "templates"
    return (folder / name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs().replace("\r\n", "\n")
    return script.replace("</script", "<\\/script")
