"""Models: names, folders, checksums, loading; registry.py adds and removes them.

A model is a folder with ``model.onnx`` and ``config.json``. Names are looked up
in the user's registry (``$BLUSH_ONNX_HOME``, else the platform's user data
folder), in read-only shared folders (``$BLUSH_ONNX_PATH``) and among the models
that come with the package, in this order. docs/models.md describes the files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from blush_onnx.errors import ModelError
from blush_onnx.model_config import ModelConfig

MODEL_FILE = "model.onnx"
CONFIG_FILE = "config.json"
OFFICIAL_MODEL = "v1.0"


@dataclass(frozen=True)
class Model:
    """A model found, read and checked.

    Attributes
    ----------
    config : ModelConfig
    content : bytes
        The ONNX file.
    path : Path
        Where the ONNX file lies.
    sha256 : str
        Checksum of `content`.
    """

    config: ModelConfig
    content: bytes
    path: Path
    sha256: str


@dataclass(frozen=True)
class RegisteredModel:
    """A model in one of the registry's folders; `origin` is user, shared or bundled."""

    name: str
    folder: Path
    origin: str


def home() -> Path:
    """The user's own registry folder; it may not exist yet."""
    chosen = os.environ.get("BLUSH_ONNX_HOME")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_path("blush-onnx")) / "models"


def bundled_folder() -> Path:
    """Folder of the models that come with the package."""
    here = Path(__file__).resolve().parent
    installed = here / "bundled_models"
    return installed if installed.is_dir() else here.parent / "models"


def bundled_default() -> str:
    """Name of the bundled model that is used when no other is chosen."""
    marker = bundled_folder() / "default"
    try:
        return marker.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ModelError(
            f"this installation carries no default model ({marker} is missing): "
            "give one with --model"
        ) from error


def registered_models() -> list[RegisteredModel]:
    """All models that can be named, in the order of their look-up.

    Returns
    -------
    list of RegisteredModel
        A name that stands in several folders is listed once, as it is found first.
    """
    shared = [Path(p) for p in os.environ.get("BLUSH_ONNX_PATH", "").split(os.pathsep) if p]
    found: dict[str, RegisteredModel] = {}
    for origin, root in (
        ("user", home()), *(("shared", p) for p in shared), ("bundled", bundled_folder())
    ):
        for folder in _folders_in(root):
            found.setdefault(folder.name, RegisteredModel(folder.name, folder, origin))
    return list(found.values())


def _folders_in(root: Path) -> list[Path]:
    """Model folders of one registry; none where it is missing or closed to this user."""
    try:
        folders = sorted(f for f in root.iterdir() if not f.name.startswith("."))
    except OSError:
        return []
    return [folder for folder in folders if _is_model(folder)]


def _is_model(folder: Path) -> bool:
    try:
        return (folder / CONFIG_FILE).is_file()
    except OSError:  # a folder closed to this user
        return False


def find_model(model: str | os.PathLike[str] | None = None) -> Path:
    """Folder or .onnx file of a model.

    Parameters
    ----------
    model : str or path, optional
        A name in the registry, a model folder or an .onnx file. None stands for
        ``$BLUSH_ONNX_MODEL``, else the official v1.0 when it is registered, else
        the bundled default.

    Returns
    -------
    Path

    Raises
    ------
    ModelError
        No such model; the message lists the known names.
    """
    known = {entry.name: entry.folder for entry in registered_models()}
    chosen = model or os.environ.get("BLUSH_ONNX_MODEL") or None
    if chosen is None:
        chosen = OFFICIAL_MODEL if OFFICIAL_MODEL in known else bundled_default()
    if str(chosen) in known:
        return known[str(chosen)]
    path = _expanded(chosen)
    if (path.is_file() and path.suffix == ".onnx") or (path / CONFIG_FILE).is_file():
        return path
    hint = ""
    if str(chosen) == OFFICIAL_MODEL:
        hint = "; get the official weights with: blush-onnx models fetch v1.0"
    elif path.is_file():
        hint = "; make a checkpoint a model with: blush-onnx models import CHECKPOINT --name NAME"
    raise ModelError(
        f"unknown model {str(chosen)!r}: neither a registered name ({', '.join(known) or 'none'}) "
        f"nor a model folder nor an .onnx file{hint}"
    )


def load_model(model: str | os.PathLike[str] | None = None) -> Model:
    """Find a model, read it and check its checksum.

    Parameters
    ----------
    model : str or path, optional
        As in :func:`find_model`.

    Returns
    -------
    Model

    Raises
    ------
    ModelError
        Unknown, unreadable, or the checksum differs from the one in config.json.
    """
    place = find_model(model)
    path = place if place.is_file() else place / MODEL_FILE
    description = path.parent / CONFIG_FILE
    described = path.name == MODEL_FILE and description.is_file()
    try:
        content = path.read_bytes()
        config = (
            ModelConfig.from_dict(json.loads(description.read_bytes()), str(description))
            if described
            else _config_of_graph(content, path)
        )
    except OSError as error:
        raise ModelError(f"cannot read the model {path}: {error.strerror or error}") from error
    except ValueError as error:  # JSON, or the text it is written in
        raise ModelError(f"{description} is not valid JSON: {error}") from error
    digest = hashlib.sha256(content).hexdigest()
    if config.sha256 is None and described:
        raise ModelError(
            f"{description} lacks the checksum of {path.name}: fetch, import or install the model "
            "again"
        )
    if config.sha256 is not None and digest != config.sha256:
        raise ModelError(
            f"{path} has the SHA-256 {digest[:12]}…, its config.json says {config.sha256[:12]}…: "
            "the file is damaged or was changed; fetch, import or install the model again"
        )
    return Model(dataclasses.replace(config, sha256=digest), content, path, digest)


def _expanded(path: str | os.PathLike[str]) -> Path:
    """Path with ~ and ~user expanded; as it is where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _config_of_graph(content: bytes, path: Path) -> ModelConfig:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ModelError(f"{path} is not an ONNX model: {error}") from error
    return ModelConfig.from_graph({p.key: p.value for p in graph.metadata_props}, str(path))
