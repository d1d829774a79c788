from __future__ import annotations

import csv
import io
import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from blush_onnx.fsc import FscCurves
from blush_onnx.report.fsc_files import as_csv, as_emdb_xml, curve_rows, named_curves

SHELLS = 5
LENGTH = 8 * 1.5


def curves(*, masked: bool) -> FscCurves:
    values = np.array([1, 0.9, 0.5, 0.1, -0.02])
    if not masked:
        return FscCurves(8, 1.5, unmasked=values)
    return FscCurves(
        8, 1.5, values, values + 0.05, np.linspace(1, 0, SHELLS), values + 0.02, 2, 7
    )


def test_only_the_curves_that_there_are_are_named() -> None:
    assert list(named_curves(curves(masked=False))) == ["unmasked"]
    assert list(named_curves(curves(masked=True), np.zeros(SHELLS))) == [
        "unmasked", "masked", "phase_randomised", "solvent_corrected", "map_to_model",
    ]


def test_a_row_holds_a_shell_its_resolution_and_each_curve() -> None:
    named = named_curves(curves(masked=True))
    columns, rows = curve_rows(named, LENGTH)
    assert columns == ["shell", "resolution_angstrom", *named]
    assert rows[0][:2] == [0, math.inf]
    assert rows[3][:2] == [3, 4.0]
    np.testing.assert_allclose(np.array(rows)[:, 2:], np.array(list(named.values())).T)


def test_the_csv_reads_back() -> None:
    columns, rows = curve_rows(named_curves(curves(masked=True)), LENGTH)
    found = list(csv.reader(io.StringIO(as_csv(columns, rows))))
    assert found[0] == columns
    np.testing.assert_allclose(np.array(found[1:], dtype=float), rows, rtol=1e-5)


def coordinates(text: str) -> tuple[ElementTree.Element, np.ndarray]:
    root = ElementTree.fromstring(text.encode())  # noqa: S314 - our own file
    pairs = [[float(str(c.findtext(axis))) for axis in "xy"] for c in root.findall("coordinate")]
    return root, np.array(pairs)


def test_the_xml_has_the_elements_that_emdb_expects() -> None:
    root, _ = coordinates(as_emdb_xml(curves(masked=False)))
    assert root.tag == "fsc"
    assert root.attrib["xaxis"] == "Resolution (A-1)"
    assert root.attrib["yaxis"] == "Correlation Coefficient"
    assert {child.tag for child in root} == {"coordinate"}
    assert [leaf.tag for leaf in root[0]] == ["x", "y"]


@pytest.mark.parametrize(("masked", "kind"), [(False, "unmasked"), (True, "solvent-corrected")])
def test_the_xml_holds_the_curve_that_decides(masked: bool, kind: str) -> None:
    given = curves(masked=masked)
    root, pairs = coordinates(as_emdb_xml(given))
    assert kind in root.attrib["title"]
    np.testing.assert_allclose(pairs[:, 0], np.arange(SHELLS) / LENGTH, atol=1e-6)
    np.testing.assert_allclose(pairs[:, 1], given.decisive, atol=1e-6)
