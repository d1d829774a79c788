"""What several commands read and load before their work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from blush_onnx.denoiser import Denoiser
    from blush_onnx.models import Model
    from blush_onnx.volume_io import MapFile

MASKS = {"fsc": "mask", "network": "denoise_mask"}
"""Role of a mask to its option."""


def load_denoiser(options: dict[str, Any]) -> tuple[Model, Denoiser]:
    """The model and the engine that the options ask for.

    Raises
    ------
    ModelError, EngineError
        One of them cannot be had, or ``--require-gpu`` and it is none.
    """
    from blush_onnx import Denoiser, models
    from blush_onnx.engines.base import EngineSettings
    from blush_onnx.errors import EngineError

    model = models.load_model(options["model"])
    settings = EngineSettings(
        options["provider"], options["device"], options["threads"], options["precision"],
        card_memory=options["card_memory"], on_card=options["on_card"],
    )
    denoiser = Denoiser.from_model(model, settings, batch_size=options["batch_size"])
    engine = denoiser.engine.description
    if options["require_gpu"] and not engine.is_gpu:
        raise EngineError(f"--require-gpu, but {engine.provider} was taken ({engine.reason})")
    return model, denoiser


def read_masks(
    options: dict[str, Any], like: MapFile
) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, tuple[str, str]]]:
    """Masks by their role, and their paths and SHA-256.

    Raises
    ------
    InputError
        One cannot be read, or does not fit the map.
    """
    from blush_onnx import volume_io

    masks, files = {}, {}
    for role, option in MASKS.items():
        if options[option]:
            masks[role], digest = volume_io.read_mask(options[option], like)
            files[role] = (str(options[option]), digest)
    return masks, files


def settings_of(options: dict[str, Any]) -> dict[str, Any]:
    """Options as a report names them: what is on rather than what is off, paths as text."""
    settings = {
        key: str(value) if isinstance(value, Path) else value for key, value in options.items()
    }
    for key in [key for key in settings if key.startswith("no_")]:
        settings[key.removeprefix("no_")] = not settings.pop(key)
    device = settings["device"]
    settings["device"] = device[0] if len(device) == 1 else list(device)
    return settings
