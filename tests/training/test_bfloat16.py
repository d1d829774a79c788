"""Gradients in bfloat16 on a CPU are gradients, whatever lay in the memory before."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from export.network import Down  # noqa: E402

pytestmark = pytest.mark.torch


def test_the_coarsest_levels_gradients_do_not_depend_on_what_memory_held() -> None:
    """Volumes of 2³: PyTorch's own kernel reads what nobody wrote in half of such steps."""
    torch.manual_seed(0)
    block = Down(256, 256)
    x = torch.randn(4, 256, 4, 4, 4)
    largest = []
    for _ in range(25):
        garbage = [torch.full((256 * 256 * 27,), 1e30), torch.full((1 << 20,), 1e30)]
        del garbage
        with torch.autocast("cpu", torch.bfloat16):
            y = block(x.bfloat16())
        block.zero_grad()
        (y.float() * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).sum().backward()
        largest.append(max(float(p.grad.abs().max()) for p in block.parameters()))
    assert max(largest) == pytest.approx(min(largest), rel=1e-3)
