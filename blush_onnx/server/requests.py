"""What may be asked of the server: the functions of the package, their arguments checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blush_onnx import __version__
from blush_onnx.denoiser import Denoiser, Progress
from blush_onnx.errors import InputError
from blush_onnx.regularise import regularise, regularise_class, regularise_half
from blush_onnx.server.messages import PROTOCOL

Array = npt.NDArray[np.float32]
Volumes = Mapping[str, Array]


@dataclass(frozen=True)
class Answer:
    """What a request gives: numbers and words for the header, and volumes."""

    result: dict[str, Any]
    volumes: dict[str, Array]


@dataclass(frozen=True)
class Request:
    """A kind of request.

    Attributes
    ----------
    work : callable
        (denoiser, volumes, arguments, progress) to :class:`Answer`.
    volumes, optional_volumes : tuple of str
        Names of the volumes that it needs, and of those that it may have.
    arguments : mapping of str to tuple of types
        Names of the arguments that it may have.
    results : tuple of str
        Names of the volumes that it gives.
    """

    work: Callable[[Denoiser, Volumes, dict[str, Any], Progress], Answer]
    volumes: tuple[str, ...]
    optional_volumes: tuple[str, ...]
    arguments: Mapping[str, tuple[type, ...]]
    results: tuple[str, ...]


_NUMBER = (int, float)
_COMMON: dict[str, tuple[type, ...]] = {"voxel_size": _NUMBER, "stride": (int,)}
_MODES = _COMMON | {"particle_diameter": _NUMBER, "cut_off": _NUMBER}


def answer(
    kind: str, denoiser: Denoiser, volumes: Volumes, arguments: Mapping[str, Any],
    progress: Progress,
) -> Answer:
    """Do what is asked.

    Parameters
    ----------
    kind : str
        A key of :data:`REQUESTS`.
    denoiser : Denoiser
    volumes : mapping of str to array
    arguments : mapping
    progress : callable
        Called with (done, total) patches; whatever it raises ends the work.

    Returns
    -------
    Answer

    Raises
    ------
    InputError
        The request is unknown, or has not what it needs or something it has no use for.
    BlushError
        As the function that it stands for.
    """
    request = request_of(kind)
    missing = [name for name in request.volumes if name not in volumes]
    if missing:
        raise InputError(f"{kind} needs the volumes {', '.join(request.volumes)}")
    known = {*request.volumes, *request.optional_volumes}
    for name in volumes:
        if name not in known:
            raise InputError(f"{kind} has no volume {name!r}: {', '.join(sorted(known))}")
    return request.work(denoiser, volumes, _checked(kind, request, arguments), progress)


def request_of(kind: str) -> Request:
    """The kind of request of a name.

    Raises
    ------
    InputError
        There is none.
    """
    if kind not in REQUESTS:
        raise InputError(f"unknown request {kind!r}: there are {', '.join(REQUESTS)}, cancel")
    return REQUESTS[kind]


def _checked(kind: str, request: Request, arguments: Mapping[str, Any]) -> dict[str, Any]:
    given = {}
    for name, value in arguments.items():
        if name not in request.arguments:
            raise InputError(
                f"{kind} has no argument {name!r}: {', '.join(sorted(request.arguments)) or 'none'}"
            )
        types = request.arguments[name]
        if value is None:  # as if it were not there
            continue
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            wanted = " or ".join(t.__name__ for t in types)
            raise InputError(f"{name} must be {wanted}, not {value!r}")
        given[name] = value
    if "voxel_size" in request.arguments and "voxel_size" not in given:
        raise InputError(f"{kind} needs the argument voxel_size, Å")
    return given


def _describe(
    denoiser: Denoiser, _volumes: Volumes, _arguments: dict[str, Any], _progress: Progress
) -> Answer:
    return Answer(describe(denoiser), {})


def describe(denoiser: Denoiser) -> dict[str, Any]:
    """What a server has: protocol, version, model and engine."""
    engine, config = denoiser.engine.description, denoiser.config
    return {
        "protocol": PROTOCOL,
        "version": __version__,
        "model": config.name,
        "model_sha256": config.sha256,
        "model_voxel_size": config.voxel_size,
        "patch_size": config.patch_size,
        "provider": engine.provider,
        "library": engine.library,
        "precision": engine.precision,
        "threads": engine.threads,
        "batch_size": denoiser.batch_size,
        "requests": [*REQUESTS, "cancel"],
    }


def _evaluate(
    denoiser: Denoiser, volumes: Volumes, _arguments: dict[str, Any], _progress: Progress
) -> Answer:
    grid, local_std = volumes["grid"], volumes["local_std"]
    size = denoiser.config.patch_size
    if grid.ndim != 4 or grid.shape != local_std.shape or grid.shape[1:] != (size,) * 3:
        raise InputError(
            f"grid and local_std have the shapes {grid.shape} and {local_std.shape}, expected "
            f"(patches, {size}, {size}, {size}) of both"
        )
    density, logit = denoiser.engine.run(grid, local_std)
    return Answer({}, {"density": density} | ({} if logit is None else {"mask_logit": logit}))


def _denoise(
    denoiser: Denoiser, volumes: Volumes, arguments: dict[str, Any], progress: Progress
) -> Answer:
    done = denoiser.denoise(
        volumes["map"], mask=volumes.get("mask"), progress=progress, **arguments
    )
    result = {"patches": done.patches, "warnings": list(done.warnings)}
    return Answer(result, {"map": done.density, "solvent_mask": done.mask})


def _regularise_half(
    denoiser: Denoiser, volumes: Volumes, arguments: dict[str, Any], progress: Progress
) -> Answer:
    if "fsc" not in arguments:
        raise InputError("regularise_half needs the argument fsc, one value a shell")
    arguments.setdefault("particle_diameter", None)
    done = regularise_half(
        volumes["half_map"], denoiser=denoiser, regularised=volumes.get("regularised"),
        mask=volumes.get("mask"), progress=progress, **arguments,
    )
    result = {
        "rho_angstrom": done.rho_angstrom, "cut_off": done.cut_off,
        "cut_off_angstrom": done.cut_off_angstrom, "beyond_network": done.beyond_network,
        "warnings": list(done.warnings),
    }
    return Answer(result, {"map": done.map, "solvent_mask": done.solvent_mask})


def _regularise_class(
    denoiser: Denoiser, volumes: Volumes, arguments: dict[str, Any], progress: Progress
) -> Answer:
    arguments.setdefault("particle_diameter", None)
    done = regularise_class(
        volumes["map"], denoiser=denoiser, mask=volumes.get("mask"), progress=progress, **arguments
    )
    result = {
        "cut_off": done.cut_off, "cut_off_angstrom": done.cut_off_angstrom,
        "warnings": list(done.warnings),
    }
    return Answer(result, {"map": done.map, "solvent_mask": done.solvent_mask})


def _regularise(
    denoiser: Denoiser, volumes: Volumes, arguments: dict[str, Any], progress: Progress
) -> Answer:
    done = regularise(
        volumes["half_map_1"], volumes["half_map_2"], denoiser=denoiser,
        mask=volumes.get("mask"), fsc_mask=volumes.get("fsc_mask"), progress=progress, **arguments,
    )
    result = {
        "fsc": done.fsc.decisive.tolist(), "resolution_angstrom": done.fsc.resolution(),
        "rho_angstrom": done.rho_angstrom, "cut_off": done.cut_off,
        "cut_off_angstrom": done.cut_off_angstrom, "beyond_network": done.beyond_network,
        "warnings": list(done.warnings),
    }
    return Answer(
        result,
        {"reference_1": done.reference_1, "reference_2": done.reference_2,
         "solvent_mask": done.solvent_mask},
    )


_MAPS = ("map", "solvent_mask")

REQUESTS = {
    "describe": Request(_describe, (), (), {}, ()),
    "evaluate": Request(
        _evaluate, ("grid", "local_std"), (), {}, ("density", "mask_logit")
    ),
    "denoise": Request(_denoise, ("map",), ("mask",), _COMMON, _MAPS),
    "regularise_half": Request(
        _regularise_half, ("half_map",), ("regularised", "mask"),
        _MODES | {"fsc": (list,), "spectral_trailing": (bool,)}, _MAPS,
    ),
    "regularise_class": Request(_regularise_class, ("map",), ("mask",), _MODES, _MAPS),
    "regularise": Request(
        _regularise, ("half_map_1", "half_map_2"), ("mask", "fsc_mask"),
        _MODES | {"fsc": (list,), "spectral_trailing": (bool,)},
        ("reference_1", "reference_2", "solvent_mask"),
    ),
}
"""By name; ``cancel`` is the connection's own matter."""
