"""relion_python_blush, called as RELION 5 calls it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

PROGRAM = f"{shlex.quote(sys.executable)} -m blush_onnx.cli.relion.python_blush"
"""In place of the name that RELION looks up on PATH."""


def call_as_relion(
    arguments: str, folder: Path, **env: str
) -> subprocess.CompletedProcess[str]:
    """What RELION 5 does: a line for the shell, with its own working folder, all stdout read."""
    return subprocess.run(
        f"{PROGRAM} {arguments}", shell=True, cwd=folder, capture_output=True, text=True,
        env={**os.environ, **env}, timeout=120,
    )


def accepted(done: subprocess.CompletedProcess[str]) -> bool:
    """RELION's own test: the trimmed stdout; the exit status is thrown away."""
    return done.stdout.strip() == "success"


def log_of(star: Path) -> str:
    return star.with_suffix(".log").read_text(encoding="utf-8")
