"""The same maps as the published implementation; goldens are described in tests/data/README.md.

Tolerances: 1e-4 of the reference for the network and for rescaling, 5e-4 of the
correction (reference − input) for maps; the goldens are rounded to 1e-5. Where they are held
against another provider, BLUSH_TEST_PROVIDER=cuda for one, the same tolerances hold.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from blush_onnx import (
    Denoiser,
    conversion,
    fourier,
    masks,
    patches,
    regularise_class,
    regularise_half,
)
from blush_onnx.fsc import cut_off_shell
from tests.conftest import DATA, PROVIDER

Arrays = dict[str, npt.NDArray[np.float32]]
Golden = Callable[[str], Arrays]


def relative(ours: npt.NDArray[Any], reference: npt.NDArray[Any]) -> float:
    return float(np.linalg.norm(ours - reference) / np.linalg.norm(reference))


def of_correction(
    ours: npt.NDArray[Any], reference: npt.NDArray[Any], start: npt.NDArray[Any]
) -> float:
    error = float(np.linalg.norm(ours - reference) / np.linalg.norm(reference - start))
    print(f"  {error:.1e} of the correction")  # shown with pytest -s
    return error


def assert_network(denoiser: Denoiser, case: Arrays) -> None:
    density, logit = denoiser.engine.run(case["grid"], case["local_std"])
    assert logit is not None
    assert relative(density, case["density"]) < 1e-4
    assert relative(logit, case["mask_logit"]) < 1e-4


def assert_denoised(denoiser: Denoiser, case: Arrays) -> None:
    found = denoiser.denoise_at_model_voxel_size(
        case["volume"], case["mask"], stride=int(case["stride"])
    )
    assert of_correction(found.density, case["density"], case["volume"]) < 5e-4
    assert relative(found.density, case["density"]) < 1e-4
    assert relative(found.mask, case["solvent_mask"]) < 1e-4


def assert_rescaled(case: Arrays) -> None:
    volume, voxel_size = case["volume"], float(case["voxel_size"])
    side = fourier.rescaled_side(volume.shape[0], voxel_size, 1.5)
    assert side == case["rescaled"].shape[0]
    rescaled = fourier.rescale(volume, side)
    assert relative(rescaled, case["rescaled"]) < 1e-4
    assert relative(fourier.rescale(rescaled, volume.shape[0]), case["back"]) < 1e-4


def assert_mode(denoiser: Denoiser, case: Arrays) -> None:
    voxel_size, diameter = float(case["voxel_size"]), float(case["particle_diameter"])
    if np.any(case["fsc"]):
        found = regularise_half(
            case["unfiltered"], voxel_size, denoiser=denoiser, fsc=case["fsc"],
            particle_diameter=diameter, regularised=case["regularised"],
        ).map
        start = case["unfiltered"]
    else:
        found = regularise_class(
            case["regularised"], voxel_size, denoiser=denoiser, particle_diameter=diameter
        ).map
        start = case["regularised"]
    assert of_correction(found, case["x"], start) < 5e-4
    assert relative(found, case["x"]) < 1e-4


def test_network(seeded_denoiser: Denoiser, golden: Golden) -> None:
    assert_network(seeded_denoiser, golden("network"))


@pytest.mark.openvino
def test_network_on_openvino(
    seeded_denoiser: Denoiser, seeded_checkpoint: Any, golden: Golden
) -> None:
    from blush_onnx.engines import openvino
    from blush_onnx.engines.base import EngineSettings

    _, content = conversion.build_model(seeded_checkpoint, "seeded")
    engine = openvino.create(content, EngineSettings(), patch_size=64, reason="test")
    assert_network(Denoiser(seeded_denoiser.config, engine), golden("network"))
    assert_denoised(Denoiser(seeded_denoiser.config, engine), golden("denoise_box66"))


def test_denoising_at_the_models_voxel_size(seeded_denoiser: Denoiser, golden: Golden) -> None:
    assert_denoised(seeded_denoiser, golden("denoise_box66"))


@pytest.mark.parametrize("case", ["rescale_50_1.3", "rescale_32_3.1"])
def test_rescaling_down_and_up(case: str, golden: Golden) -> None:
    assert_rescaled(golden(case))


@pytest.mark.parametrize("case", ["refine_trailing", "refine_beyond_network", "refine_final",
                                  "classification"])
def test_modes(case: str, seeded_denoiser: Denoiser, golden: Golden) -> None:
    assert_mode(seeded_denoiser, golden(f"mode_{case}"))


def test_masks_window_and_local_standard_deviation(golden: Golden) -> None:
    case = golden("masks")
    for name in (key for key in case if key.startswith("r")):
        side, radius, edge = name[1:].split("_")
        ours = masks.radial_mask(int(side), float(radius), float(edge))
        np.testing.assert_allclose(ours, case[name], atol=2e-5)
    np.testing.assert_allclose(patches.blending_window(64)[32], case["window"], atol=2e-5)
    local_std = masks.local_std(case["lstd_in"])
    assert relative(local_std / local_std.mean(), case["lstd_out"]) < 1e-4


def test_crossover(golden: Golden) -> None:
    frequency = np.fft.fftfreq(48, 1 / 48)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    for name, plane in golden("crossover").items():
        ours = fourier.crossover(radius, int(name[1:]), 48)
        np.testing.assert_allclose(ours, plane, atol=2e-5)


def test_cut_off() -> None:
    for case in json.loads((DATA / "cut_off.json").read_text()):
        assert cut_off_shell(case["fsc"])[1] == case["cut_off"]


def imported(checkpoint: Path, folder: Path) -> Path:
    """Model folder by way of `blush-onnx models import`, without PyTorch."""
    return conversion.import_checkpoint(checkpoint, folder.name)


def exported(checkpoint: Path, folder: Path) -> Path:
    """Model folder by way of `python -m export`, with PyTorch."""
    subprocess.run(
        [sys.executable, "-m", "export", str(checkpoint), "--output", str(folder)],
        check=True, cwd=DATA.parent.parent, stdout=subprocess.DEVNULL,
    )
    return folder


@pytest.mark.external_data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "provider"),
    [
        (imported, PROVIDER),
        pytest.param(exported, PROVIDER, marks=pytest.mark.torch),
        pytest.param(imported, "openvino", marks=pytest.mark.openvino),
    ],
)
def test_every_stored_case_with_trained_weights(
    made: Callable[[Path, Path], Path], provider: str, external_data: Path, tmp_path: Path
) -> None:
    folder = made(external_data / "models" / "starter.ckpt", tmp_path / "starter")
    denoiser = Denoiser.load(folder, provider=provider)
    checks: dict[str, Callable[[Arrays], None]] = {
        "network": lambda case: assert_network(denoiser, case),
        "denoise": lambda case: assert_denoised(denoiser, case),
        "rescale": assert_rescaled,
        "mode": lambda case: assert_mode(denoiser, case),
    }
    files = sorted((external_data / "parity").glob("*.npz"))
    seen = 0
    for path in files:
        kind = path.stem.split("_")[0]
        if kind in checks:
            print(path.stem)
            with np.load(path) as stored:
                checks[kind]({key: stored[key] for key in stored})
            seen += 1
    assert seen == len(files) - 2  # masks and crossover have tests of their own
