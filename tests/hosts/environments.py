"""Environments with the programs that blush-onnx is tested inside of."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from filelock import FileLock

from tests.conftest import need

KEPT = os.environ.get("BLUSH_TEST_ENVIRONMENTS", "")
"""Where environments are kept from run to run; made anew in each where it is not set."""


def make_environment(
    name: str, *requirements: str, temporary: pytest.TempPathFactory, above_this_one: bool = False
) -> Path:
    """A virtual environment with packages of its own.

    `above_this_one`: it also sees the packages of the running environment, and only what these
    lack or have in another version is installed. Skips where pip does not get the packages.
    Returns its interpreter.
    """
    folder = Path(KEPT) / name if KEPT else temporary.mktemp("environments") / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f"{name}.lock"):  # several processes test at a time
        return _made(folder, requirements, above_this_one=above_this_one)


def _made(folder: Path, requirements: tuple[str, ...], *, above_this_one: bool) -> Path:
    python = folder / "bin" / "python"
    done = folder / "complete"
    if done.exists():
        return python
    venv.create(folder, symlinks=True, clear=True)
    if above_this_one:
        own = next((folder / "lib").glob("python*")) / "site-packages"
        below = [sysconfig.get_path("purelib"), *site.getsitepackages()]
        lines = [f"import site; site.addsitedir({path!r})" for path in dict.fromkeys(below)]
        (own / "below.pth").write_text("\n".join(lines) + "\n")
    installed = subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *requirements],
        capture_output=True, text=True, check=False,
    )
    why = (installed.stderr.strip().splitlines() or [""])[-1]
    need("hosts", installed.returncode == 0, f"pip got no {' '.join(requirements)}: {why}")
    done.touch()
    return python
