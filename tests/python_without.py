"""Python processes in which some packages are not installed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Sequence

_HIDE = """
import importlib.machinery, sys
class Hidden(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            return None
        return super().find_spec(name, path, target)
sys.meta_path[:] = [
    Hidden if f is importlib.machinery.PathFinder else f for f in sys.meta_path
]
"""


def run_python(
    code: str, without: Sequence[str] = (), arguments: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run code in a new process that cannot find the named packages."""
    hide = textwrap.dedent(_HIDE).format(names=set(without)) if without else ""
    return subprocess.run(
        [sys.executable, "-c", hide + code, *arguments],
        capture_output=True, text=True, timeout=300, check=False,
    )
