from __future__ import annotations

import math

from blush_onnx.resolution import agree_to, in_angstrom, shell_to_angstrom


def test_a_shell_is_the_boxs_length_over_its_index() -> None:
    assert shell_to_angstrom(25, 100, 1.5) == 6.0
    assert shell_to_angstrom(0, 100, 1.5) == math.inf


def test_a_resolution_that_is_none_is_said_in_words() -> None:
    assert in_angstrom(4.336) == "4.34 Å"
    assert in_angstrom(math.inf) == in_angstrom(None) == "none"
    assert agree_to(4.336) == "agree to 4.34 Å"
    assert agree_to(math.inf) == "agree at no resolution"
