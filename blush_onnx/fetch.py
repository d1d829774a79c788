"""Official weights: download, or take what is already on this machine, and register."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from blush_onnx import registry
from blush_onnx.conversion import import_checkpoint
from blush_onnx.errors import ModelError

LICENCE_OF_OFFICIAL = (
    "as stated at https://zenodo.org/records/10072731 (read it there: it was not checked for "
    "this package; the published code is MIT)"
)


@dataclass(frozen=True)
class RemoteModel:
    """Weights that can be downloaded.

    Attributes
    ----------
    name : str
    url : str
        Of a checkpoint in the official layout, compressed with gzip.
    sha256 : str
        Checksum of the file at `url`.
    licence, training : str
        One line each.
    """

    name: str
    url: str
    sha256: str
    licence: str
    training: str


REMOTE_MODELS = {
    "v1.0": RemoteModel(
        name="v1.0",
        url="https://zenodo.org/records/10072731/files/blush_v1.0.ckpt.gz",
        sha256="6e42a7d80231418bb77170619eeedf67b59be84078972a25a39fc3b82cd9c34e",
        licence=LICENCE_OF_OFFICIAL,
        training="the official weights: 422 pairs of half-maps from the EMDB "
        "(Kimanius et al., Nature Methods 2024)",
    )
}


@dataclass(frozen=True)
class Fetched:
    """A registered model, where its weights came from, and whether a checksum vouches for them."""

    folder: Path
    source: str
    verified: bool


def remote_model(name: str) -> RemoteModel:
    """Entry of the list of downloadable models.

    Raises
    ------
    ModelError
        Not in the list.
    """
    try:
        return REMOTE_MODELS[name]
    except KeyError:
        raise ModelError(
            f"{name!r} cannot be fetched: known are {', '.join(REMOTE_MODELS)}"
        ) from None


def fetch(
    remote: RemoteModel,
    source: str | None = None,
    *,
    overwrite: bool = False,
    progressbar: bool = False,
) -> Fetched:
    """Get weights and register them, atomically.

    Parameters
    ----------
    remote : RemoteModel
    source : str, optional
        Another address (a mirror) or a local file. By default what RELION already
        downloaded is taken, else the file is downloaded from its own address.
    overwrite : bool
        Replace a model of that name.
    progressbar : bool
        Show the download on stderr.

    Returns
    -------
    Fetched

    Raises
    ------
    ModelError
        Download failed, checksum differs, or the file is not such a checkpoint.
    InputError
        Already registered.
    """
    registry.check_free(remote.name, overwrite=overwrite)
    if source is None and (relion := relion_checkpoint(remote.name)):
        return Fetched(
            _import(relion, remote, overwrite, verified=False), str(relion), verified=False
        )
    if source is not None and "://" not in source:
        path = Path(source).expanduser()
        if not path.is_file():
            raise ModelError(f"{path} does not exist: give the file that was downloaded")
        verified = _check(path, remote)
        return Fetched(_import(path, remote, overwrite, verified), str(path), verified)
    url = source or remote.url
    with tempfile.TemporaryDirectory(prefix="blush-onnx-") as folder:
        path = _download(url, remote, Path(folder), progressbar)
        return Fetched(_import(path, remote, overwrite, verified=True), url, verified=True)


def relion_checkpoint(name: str) -> Path | None:
    """Weights that RELION 5 has unpacked in PyTorch's hub folder, if they are complete."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    torch_home = Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser()
    folder = torch_home / "hub" / "checkpoints" / "relion_blush"
    path = folder / f"{name}.ckpt"
    return path if path.is_file() and (folder / f"{name}_installed.txt").is_file() else None


def _import(path: Path, remote: RemoteModel, overwrite: bool, verified: bool) -> Path:
    training = remote.training
    if not verified:
        training = f"said to be {training}; no published checksum vouches for the file {path.name}"
    return import_checkpoint(
        path, remote.name, licence=remote.licence, training=training, overwrite=overwrite
    )


def _check(path: Path, remote: RemoteModel) -> bool:
    """Whether the published checksum vouches for a file; unpacked ones have none."""
    if path.suffix != ".gz":
        return False
    try:
        digest = _sha256(path)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    if digest != remote.sha256:
        raise ModelError(
            f"{path} has the SHA-256 {digest[:12]}…, {remote.name} has {remote.sha256[:12]}…: "
            f"it is damaged or another file; download {remote.url} again"
        )
    return True


def _download(url: str, remote: RemoteModel, folder: Path, progressbar: bool) -> Path:
    import pooch

    if shutil.disk_usage(folder).free < 1 << 28:
        raise ModelError(f"less than 256 MiB are free in {folder}: set TMPDIR to another folder")
    try:
        path = pooch.retrieve(
            url, known_hash=None, path=folder, fname=f"{remote.name}.ckpt.gz",
            progressbar=progressbar,
        )
    except Exception as error:  # whatever the network library raises
        raise ModelError(
            f"cannot download {url} ({type(error).__name__}). Without a network: download "
            f"{remote.url} elsewhere, copy it here, and run: "
            f"blush-onnx models fetch {remote.name} --from {Path(remote.url).name}"
        ) from error
    if _sha256(Path(path)) != remote.sha256:
        raise ModelError(
            f"what came from {url} is not {remote.name}: its SHA-256 differs from "
            f"{remote.sha256[:12]}…; nothing was kept"
        )
    return Path(path)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
