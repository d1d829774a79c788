"""What a training is to do, read from a TOML file and checked before anything starts."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blush_onnx.errors import InputError
from training.config_rules import complaints

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OFFICIAL_WIDTHS = (16, 32, 64, 128, 256, 256)


@dataclass(frozen=True)
class Model:
    """``[model]``.

    Attributes
    ----------
    widths : tuple of int
        Channels of each level, finest first; the official network's by default.
    patch_size : int
        Voxels, a multiple of 2 to the number of steps down.
    dropout : float
        Share of the coarsest level's channels, 0…0.9.
    start_from : str
        Model to take the first weights from: a registered name, a folder, an .onnx file or
        a checkpoint; empty: random, last layer zero.
    """

    widths: tuple[int, ...] = OFFICIAL_WIDTHS
    patch_size: int = 64
    dropout: float = 0.5
    start_from: str = ""


@dataclass(frozen=True)
class Augmentation:
    """``[augmentation]``: how a patch is drawn from a volume. Ranges are (lowest, highest).

    Attributes
    ----------
    resolution_angstrom : (float, float)
        Where the FSC of two such inputs falls to 0.143; even in 1/Å.
    excess_noise : float
        Up to this many times more noise, in every third case.
    empty : float
        Share of the simulated cases in which the map holds nothing but noise.
    stored_noise : float
        Share of the cases in which the noise is the prepared one, turned, in place of new.
    noise_slope : (float, float)
        Exponent of the power of new noise over frequency.
    filter_shares : mapping of str to float
        How often the input is: unfiltered, sharp (cut some shells beyond the resolution),
        gaussian, wiener.
    sharpened : float
        Share of the filtered cases in which input and target are sharpened besides.
    sharpening : (float, float)
        How far: ln of the factor on the amplitudes at the resolution d, where each unit is
        a B factor of −4·d².
    anisotropy : float
        Largest ratio, less one, by which the input's filter is narrower along one
        direction than the target's.
    target_anisotropy : float
        The same for the target's filter; never more than the input's.
    sphere : float
        Share of the cases under the soft sphere of a refinement.
    rotation : str
        any (interpolated) or cube (the 24 turns of the cube, exact and fast).
    outside_resolution_angstrom : float
        To which the target is low-passed outside the mask.
    """

    resolution_angstrom: tuple[float, float] = (3.0, 14.0)
    excess_noise: float = 2.0
    empty: float = 0.05
    stored_noise: float = 0.6
    noise_slope: tuple[float, float] = (-2.0, 2.0)
    filter_shares: dict[str, float] = field(
        default_factory=lambda: {"unfiltered": 0.3, "sharp": 0.3, "gaussian": 0.25, "wiener": 0.15}
    )
    sharpened: float = 0.3
    sharpening: tuple[float, float] = (0.0, 2.5)
    anisotropy: float = 1.0
    target_anisotropy: float = 0.2
    sphere: float = 0.5
    rotation: str = "cube"
    outside_resolution_angstrom: float = 15.0


@dataclass(frozen=True)
class Loss:
    """``[loss]``.

    Attributes
    ----------
    inside_weight : float
        Weight of the mask's inside over that of the solvent.
    error_floor : float
        The squared error is divided by what is easily had (the input's own error or the
        target's variance, whichever is less) plus this share of the variance.
    low_frequency_weight : float
        Extra weight of the error at low frequencies (means over 12 Å), where poses are
        decided, relative to the input's own there.
    mask_weight : float
        Of the mask's cross-entropy.
    recycled : float
        Share of the steps in which the network first runs on its own output; with 5/6 and
        5 times at most all depths from 0 on are as frequent.
    deepest_recycling : int
        It then does so 1 to this many times.
    teacher : str
        Model whose answers are learnt: a registered name, a folder, an .onnx file or a
        checkpoint; empty: none.
    teaching : float
        Share of the target that is the teacher's answer; the rest is the truth.
    """

    inside_weight: float = 4.0
    error_floor: float = 0.02
    low_frequency_weight: float = 1.0
    mask_weight: float = 0.05
    recycled: float = 5 / 6
    deepest_recycling: int = 5
    teacher: str = ""
    teaching: float = 0.8


@dataclass(frozen=True)
class Optimiser:
    """``[optimiser]``: AdamW, warm-up, cosine.

    Attributes
    ----------
    steps : int
        In all; 0: as many as the budget has room for.
    budget_minutes : float
        Wall-clock time of all calls together after which the schedule ends; 0: none.
    volumes : int
        A step and process.
    patches : int
        Of each volume, each in both halves.
    learning_rate, last_learning_rate : float
    warm_up_steps : int
    weight_decay : float
    averaging : float
        Decay of the weights' moving average, which is what is kept.
    clip : float
        Largest norm of the gradient.
    """

    steps: int = 0
    budget_minutes: float = 0.0
    volumes: int = 4
    patches: int = 2
    learning_rate: float = 1e-3
    last_learning_rate: float = 1e-5
    warm_up_steps: int = 200
    weight_decay: float = 1e-3
    averaging: float = 0.999
    clip: float = 1.0


@dataclass(frozen=True)
class Run:
    """``[run]``.

    Attributes
    ----------
    data : str
        Folder of prepared volumes.
    seed : int
    precision : str
        bfloat16 or float32.
    compile : bool
        Let torch.compile join the network's small operations; on a card alone.
    validate_every, save_every : int
        Steps; 0: only at the end.
    validation_volumes : int
    threads : int
        CPU threads; 0: torch's choice.
    """

    data: str = ""
    seed: int = 1
    precision: str = "bfloat16"
    compile: bool = False
    validate_every: int = 500
    save_every: int = 500
    validation_volumes: int = 8
    threads: int = 0


@dataclass(frozen=True)
class Config:
    """A whole training."""

    model: Model = Model()
    augmentation: Augmentation = Augmentation()
    loss: Loss = Loss()
    optimiser: Optimiser = Optimiser()
    run: Run = Run()


def read_config(path: Path, data: str | None = None) -> Config:
    """Read and check a configuration file.

    Parameters
    ----------
    path : Path
        TOML; paths in it are relative to the working folder.
    data : str, optional
        Folder of prepared volumes, in place of the file's.

    Returns
    -------
    Config

    Raises
    ------
    InputError
        Not TOML, an unknown name, or a value of the wrong kind or out of its range.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} is no readable TOML file: {error}") from error
    if data and isinstance(content.setdefault("run", {}), dict):
        content["run"]["data"] = data
    return from_dict(content, str(path))


def from_dict(content: dict[str, Any], name: str) -> Config:
    """A configuration from nested dictionaries; see :func:`read_config`."""
    sections = {f.name: type(f.default) for f in dataclasses.fields(Config)}
    unknown = sorted(content.keys() - sections.keys())
    if unknown:
        raise InputError(f"{name}: unknown section [{unknown[0]}]; known: {', '.join(sections)}")
    config = Config(**{
        key: _section(kind, content.get(key, {}), f"{name}, [{key}]")
        for key, kind in sections.items()
    })
    for complaint in complaints(config):
        raise InputError(f"{name}: {complaint}")
    return config


def _section(kind: type[Any], values: Any, name: str) -> Any:
    if not isinstance(values, dict):
        raise InputError(f"{name} must be a table")
    defaults = {f.name: getattr(kind(), f.name) for f in dataclasses.fields(kind)}
    found = {}
    for key, value in values.items():
        if key not in defaults:
            raise InputError(f"{name}: unknown name {key!r}; known: {', '.join(defaults)}")
        found[key] = _like(defaults[key], value, f"{name}, {key}")
    return kind(**found)


def _like(default: Any, value: Any, name: str) -> Any:
    """The value in the default's kind; int passes for float, a list for a tuple."""
    if isinstance(default, tuple):
        if not isinstance(value, (list, tuple)) or not value:
            raise InputError(f"{name} = {value!r}: expected a list of numbers")
        return tuple(_like(default[0], v, name) for v in value)
    if isinstance(default, dict):
        if not isinstance(value, dict) or value.keys() - default.keys():
            raise InputError(f"{name} = {value!r}: expected some of {', '.join(default)}")
        return {key: _like(1.0, value.get(key, 0.0), f"{name}.{key}") for key in default}
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        raise InputError(f"{name} = {value!r}: expected {type(default).__name__}")
    return value
