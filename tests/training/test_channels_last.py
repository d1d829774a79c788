from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from export.network import BlushNetwork  # noqa: E402
from training.channels_last import ChannelsLast  # noqa: E402

pytestmark = pytest.mark.torch


def gradients(network: BlushNetwork, called: object) -> tuple[object, dict[str, object]]:
    generator = torch.Generator().manual_seed(2)
    place = network.outc.weight
    grid = torch.randn((2, 32, 32, 32), generator=generator).to(place.dtype)
    local_std = torch.rand((2, 32, 32, 32), generator=generator).to(place.dtype)
    network.zero_grad()
    density, logit = called(grid, local_std)  # type: ignore[operator]
    slope = torch.linspace(0, 1, 32, dtype=place.dtype)
    (density.square().mean() + (logit * slope).mean()).backward()
    found = {
        key: p.grad.double() for key, p in network.named_parameters()
        # A bias before a norm changes nothing; what rounding leaves of its gradient neither.
        if not (".conv" in key and key.endswith(".bias"))
    }
    return density.detach().double(), found


def random_network() -> BlushNetwork:
    torch.manual_seed(1)
    network = BlushNetwork((8, 8, 16, 16))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return network


def test_it_is_the_same_function_with_the_same_gradients() -> None:
    network = random_network()
    exact = copy.deepcopy(network).double()
    density, expected = gradients(exact, exact)
    found, seen = gradients(network, ChannelsLast(network, 32))
    # Single against double precision.
    assert float((found - density).norm() / density.norm()) < 1e-5
    for key, value in expected.items():
        assert float((seen[key] - value).norm() / value.norm()) < 1e-3, key


def test_its_gradients_in_bfloat16_are_finite_and_near() -> None:
    network = random_network()
    exact = copy.deepcopy(network).double()
    _, expected = gradients(exact, exact)

    fast = ChannelsLast(network, 32)

    def rounded(grid: object, local_std: object) -> tuple[object, object]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            density, logit = fast(grid, local_std)
        return density.float(), logit.float()

    _, seen = gradients(network, rounded)
    for key, value in expected.items():
        assert torch.isfinite(seen[key]).all(), key
        assert float((seen[key] - value).norm() / value.norm()) < 0.5, key
