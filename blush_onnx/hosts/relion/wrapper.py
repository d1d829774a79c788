"""Small shell programs that RELION finds on its PATH and that pin this environment."""

from __future__ import annotations

import os
import shlex
import subprocess  # noqa: S404
import sys
from pathlib import Path

from blush_onnx import __version__
from blush_onnx.engines.compiled import FOLDER_VARIABLE, OFF, cache_folder
from blush_onnx.errors import BlushError, OutputError

MARK = "# Written by blush-onnx"
PROGRAMS = {
    "relion_python_blush": "blush_onnx.cli.relion.python_blush",
    "relion_blush_external": "blush_onnx relion",
}
"""What RELION 5 calls for ``--blush``, and what RELION_EXTERNAL_RECONSTRUCT_EXECUTABLE may name."""
_PINNED = ("BLUSH_ONNX_HOME", "BLUSH_ONNX_PATH", "BLUSH_ONNX_MODEL")


def install_wrappers(folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write the programs into a folder.

    Parameters
    ----------
    folder : Path
        Made if it does not exist.
    overwrite : bool
        Whether programs of these names that are not ours may be replaced.

    Returns
    -------
    list of Path

    Raises
    ------
    BlushError
        They would not work: no model, or a package is missing.
    OutputError
        A program of another origin is in the way, or the folder cannot be written to.
    """
    paths = [folder.absolute() / name for name in PROGRAMS]
    for path in paths:
        if path.exists() and not overwrite and not is_ours(path):
            raise OutputError(
                f"{path} is there already and was not written by blush-onnx: choose another "
                "folder, or replace it with --overwrite"
            )
    _try(PROGRAMS["relion_python_blush"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            staged = path.with_name(f".{path.name}.{os.getpid()}")
            staged.write_text(_script(PROGRAMS[path.name]), encoding="utf-8")
            staged.chmod(0o755)
            staged.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror or error}") from error
    return paths


def _try(module: str) -> None:
    """Run a program as the wrapper will, without a job, which checks the model."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-I", "-m", *module.split()], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BlushError(f"the program would not work: {done.stderr.strip()}")


def is_ours(path: Path) -> bool:
    """Whether a program is one of these, or the one that pip made for this package."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return MARK in text or "from blush_onnx.cli.relion.python_blush import main" in text


def _absolute(setting: str) -> str:
    """A setting whose paths lead to the same place from any folder."""
    words = (str(Path(word).absolute()) if Path(word).exists() or os.sep in word else word
             for word in setting.split(os.pathsep))
    return os.pathsep.join(words)


def _script(module: str) -> str:
    values = {name: _absolute(os.environ[name]) for name in _PINNED if os.environ.get(name)}
    if os.environ.get(FOLDER_VARIABLE):
        folder = cache_folder()
        values[FOLDER_VARIABLE] = OFF if folder is None else str(folder.absolute())
    pinned = [
        f'[ -n "${name}" ] || export {name}={shlex.quote(value)}'
        for name, value in values.items()
    ]
    # -I: no PYTHONPATH, no PYTHONHOME, no packages of the user's own, no current folder.
    lines = [
        "#!/bin/sh",
        f"{MARK} {__version__}: runs in the environment it was written from,",
        "# whatever Python, conda or module is active when RELION calls it.",
        *pinned,
        "# NumPy would start a thread for each processor, for linear algebra that jobs have not.",
        'export OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-1}"',
        f'exec {shlex.quote(sys.executable)} -I -m {module} "$@"',
    ]
    return "\n".join(lines) + "\n"
