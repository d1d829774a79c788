"""The specification for other languages, docs/embedding.md, says what the code does."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path

import pytest

from blush_onnx import InputError, boxes, masks, model_config, patches
from blush_onnx.denoiser import STANDARD_DEVIATION_FLOOR

ROOT = Path(__file__).parent.parent


def constants_of_the_page() -> dict[str, str]:
    page = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
    rows = page.split("### The constants")[1].split("\n### ")[0]
    return dict(re.findall(r"^\| ([^|]+?) \| (\d[^|]*?) \|", rows, re.M))


def test_the_constants_of_the_specification_are_those_of_the_package() -> None:
    stated = {name: float(value) for name, value in constants_of_the_page().items()}
    soft_edge = inspect.signature(masks.default_mask).parameters["edge"].default
    assert stated == {
        "schema version": model_config.SCHEMA_VERSION,
        "smallest side": boxes.SMALLEST_SIDE,
        "smallest maximum of a mask": boxes.SMALLEST_MASK_MAXIMUM,
        "soft edge of the default mask": soft_edge,
        "taps of the local window": masks.LOCAL_STD_TAPS,
        "extent of the local window": masks.LOCAL_STD_EXTENT,
        "floor of the standard deviation": STANDARD_DEVIATION_FLOOR,
        "default stride": patches.STRIDES["reference"],
        "margin of the window": patches.WINDOW_MARGIN,
        "floor of the window": patches.WINDOW_FLOOR,
        "smallest mean of the mask": patches.MINIMUM_MASK_MEAN,
        "smallest summed weight": patches.MINIMUM_WEIGHT,
        "means that count as the same": patches.TIE,
    }
    patches.check_stride(64 - 21, 64)
    with pytest.raises(InputError, match="1 to 43"):
        patches.check_stride(64 - 20, 64)


def test_the_checks_by_hand_of_the_specification_hold() -> None:
    """The numbers that the page gives to those who start without any code."""
    page = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
    window = patches.blending_window(64)
    by_name = {
        "R(40, 17, 6) at (20, 20, 20), (20, 20, 3), (20, 20, 2), (0, 0, 0)": [
            float(masks.radial_mask(40, 17.0, 6)[place])
            for place in ((20, 20, 20), (20, 20, 3), (20, 20, 2), (0, 0, 0))
        ],
        "w at (32, 32, 32), (32, 32, 10), (9, 32, 32), (32, 32, 8)": [
            float(window[place]) for place in ((32, 32, 32), (32, 32, 10), (9, 32, 32), (32, 32, 8))
        ],
        "origins of 90, P = 64, s = 20": [float(o) for o in patches.axis_origins(90, 64, 20)],
    }
    for name, values in by_name.items():
        row = re.search(rf"^\| {re.escape(name)} +\| ([^|]+?) +\|", page, re.M)
        assert row, name
        stated = [float(v.replace("−", "-")) for v in row[1].split(", ")]
        assert len(stated) == len(values)
        for ours, theirs in zip(stated, values, strict=True):
            assert math.isclose(ours, theirs, rel_tol=1e-4, abs_tol=1e-7), (name, values)
