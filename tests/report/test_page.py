from __future__ import annotations

import base64
import hashlib

import pytest

from blush_onnx import InputError
from blush_onnx.report import surface, viewer
from blush_onnx.report.content import Figure, ReportContent, Section, Table
from blush_onnx.report.page import write_page
from tests.conftest import blob_and_noise
from tests.report.page_parts import PNG, Parts, content, plain_plot


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
