from __future__ import annotations

import subprocess
import sys

import pytest

from blush_onnx import OutOfMemoryError, machine
from blush_onnx.engines.base import BYTES_OF_PATCH
from blush_onnx.grids import (
    BYTES_A_VOXEL_AT_MODEL_SIZE,
    BYTES_A_VOXEL_IN,
    BYTES_OF_NETWORK,
)


def test_the_available_memory_is_known_here_and_sensible() -> None:
    available = machine.available_bytes()
    assert available is not None
    assert 1 << 20 < available < 1 << 50


def test_what_fits_passes_and_what_does_not_is_refused_with_both_figures() -> None:
    machine.require_memory(1, "a byte")
    with pytest.raises(OutOfMemoryError, match=r"a lot needs about .* GiB .* are available"):
        machine.require_memory(1 << 60, "a lot")


PEAK = """
import resource, sys
import numpy as np
from blush_onnx import Denoiser, regularise
model, box, voxel_size = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
denoiser = Denoiser.load(model, provider="cpu", threads=1)
rng = np.random.default_rng(0)
halves = [rng.standard_normal((box,) * 3, dtype=np.float32) for _ in range(2)]
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
regularise(*halves, voxel_size, denoiser=denoiser, stride=43)
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("box", "voxel_size", "side"), [(240, 0.8, 128), (128, 2.6, 222)])
def test_the_estimate_covers_what_two_halves_take(
    box: int, voxel_size: float, side: int, tiny_model: object
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tiny_model), str(box), str(voxel_size)],
        capture_output=True, text=True, check=True, timeout=600,
    )
    taken = int(done.stdout)
    estimate = BYTES_A_VOXEL_IN * box**3 + BYTES_A_VOXEL_AT_MODEL_SIZE * side**3
    print(f"box {box}, side {side}: taken {taken / 2**20:.0f} MiB, "
          f"estimated {estimate / 2**20:.0f} MiB and {BYTES_OF_NETWORK / 2**20:.0f} MiB")
    assert taken < estimate + BYTES_OF_NETWORK + BYTES_OF_PATCH


ENGINE = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from blush_onnx import Denoiser, models, self_test
peak = lambda: 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = models.bundled_folder() / models.bundled_default()
import onnx, onnxruntime
start, threads = peak(), int(sys.argv[2])
engine = Denoiser.load(model, provider=sys.argv[1], threads=threads).engine
patch = [p[None] for p in self_test.synthetic_patch(64)]
with ThreadPoolExecutor(threads) as pool:
    list(pool.map(lambda _: engine.run(*patch), range(2 * threads)))
print(peak() - start)
"""


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "provider", ["cpu", pytest.param("openvino", marks=pytest.mark.openvino)]
)
def test_the_estimate_covers_what_the_network_takes(provider: str, threads: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENGINE, provider, str(threads)],
        capture_output=True, text=True, check=True, timeout=600,
    )
    taken = int(done.stdout)
    print(f"{provider}, {threads} at a time: {taken / 2**20:.0f} MiB")
    assert taken < BYTES_OF_NETWORK + threads * BYTES_OF_PATCH
