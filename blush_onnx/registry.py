"""Adding models to the user's registry and removing them, whole or not at all."""

from __future__ import annotations

import re
import shutil
import uuid
from pathlib import Path

from blush_onnx import models
from blush_onnx.errors import InputError, ModelError, OutputError


def check_name(name: str) -> str:
    """Refuse names that could not be a folder of the registry.

    Parameters
    ----------
    name : str

    Returns
    -------
    str
        The same.

    Raises
    ------
    InputError
        Other characters than letters, digits, dot, dash and underscore.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise InputError(
            f"{name!r} cannot be a model's name: use letters, digits, dots, dashes, underscores"
        )
    return name


def check_free(name: str, *, overwrite: bool) -> None:
    """Refuse a name that is unfit, or taken in the user's registry unless it may be replaced.

    Parameters
    ----------
    name : str
    overwrite : bool

    Raises
    ------
    InputError
        Unfit or taken.
    """
    if (models.home() / check_name(name)).exists() and not overwrite:
        raise InputError(
            f"a model {name!r} is registered already in {models.home()}: remove it first, or "
            "replace it with --overwrite"
        )


def install(folder: Path, name: str, *, overwrite: bool = False) -> Path:
    """Move a finished model folder into the user's registry, whole or not at all.

    Parameters
    ----------
    folder : Path
        A folder on the registry's file system, see :func:`staging_folder`.
    name : str
    overwrite : bool
        Replace a model of that name.

    Returns
    -------
    Path
        The model's folder in the registry.

    Raises
    ------
    InputError
        The name is taken.
    OutputError
        The registry cannot be written.
    """
    from filelock import FileLock

    target = models.home() / name
    try:
        with FileLock(models.home() / ".lock"):
            check_free(name, overwrite=overwrite)
            replace_folder(target, folder)
    except OSError as error:
        raise unwritable(error) from error
    return target


def staging_folder() -> Path:
    """New hidden folder in the user's registry, for a model in the making.

    Raises
    ------
    OutputError
        The registry cannot be written; the message names the variable that moves it.
    """
    folder = models.home() / f".staging-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True)  # readable to others as the user's umask says
        return folder
    except OSError as error:
        raise unwritable(error) from error


def replace_folder(target: Path, new: Path | None) -> None:
    """Put a finished folder in another's place, or nothing: by renaming, so never half of one.

    Parameters
    ----------
    target : Path
        May not exist yet.
    new : Path or None
        A folder on the same file system; None removes the target.
    """
    old = target.with_name(f".old-{uuid.uuid4().hex}")
    if target.exists():
        target.rename(old)
    try:
        if new is not None:
            new.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    if old.exists():
        shutil.rmtree(old)


def remove(name: str) -> Path:
    """Delete a model from the user's registry.

    Returns
    -------
    Path
        The folder that is gone.

    Raises
    ------
    ModelError
        No such model, or one that is shared or bundled.
    """
    for entry in models.registered_models():
        if entry.name == name:
            if entry.origin != "user":
                raise ModelError(f"{name} is {entry.origin} ({entry.folder}): not yours to remove")
            from filelock import FileLock

            try:
                with FileLock(models.home() / ".lock"):
                    replace_folder(entry.folder, None)
            except OSError as error:
                raise unwritable(error) from error
            return entry.folder
    models.find_model(name)
    raise ModelError(f"{name!r} is a path, not a name in the registry: delete it yourself")


def unwritable(error: OSError) -> OutputError:
    """The error of a registry that cannot be written."""
    if isinstance(error, OutputError):
        return error
    return OutputError(
        f"cannot write to the model registry {models.home()} ({error.strerror or error}): "
        "set BLUSH_ONNX_HOME to a folder you can write to"
    )
