from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from blush_onnx.errors import InputError
from training.team import Team, find_device


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta"])
def test_a_device_that_cannot_compute_is_one_line(name: str) -> None:
    with pytest.raises(InputError, match=f"device '{name}' cannot be used: .*cpu") as caught:
        Team.join(name)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a card")
def test_cuda_without_a_card_is_one_line() -> None:
    with pytest.raises(InputError, match="device 'cuda' cannot be used"):
        find_device("cuda")


def test_the_processor_is_found_and_taken_where_no_card_is() -> None:
    assert find_device("cpu") == torch.device("cpu")
    assert find_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
