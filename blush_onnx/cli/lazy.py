"""Groups of commands that are imported when they are called, so that ``--help`` is fast."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from blush_onnx.errors import BlushError

OWN = ("blush_onnx", "benchmarks", "export", "training")


class LazyGroup(click.Group):
    """A group that knows its commands by name and help alone.

    Parameters
    ----------
    lazy : mapping
        Name of a command to the place where it is, ``module:name``, and its help, in
        the order of use.
    """

    def __init__(
        self, *args: Any, lazy: Mapping[str, tuple[str, str]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy or {})

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Names in the order of use."""
        return list(self.lazy)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """Import the command's module."""
        if name not in self.lazy:
            return None
        module, _, attribute = self.lazy[name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.lazy.items()])


def run_developers_group(group: click.Group, name: str, extra: str) -> None:
    """Run a group of a program for developers: a foreseen error is one line, any other a traceback.

    Parameters
    ----------
    group : click.Group
    name : str
        As the user typed it, for the usage line.
    extra : str
        What to install where a package is missing.
    """
    try:
        group(prog_name=name)
    except BlushError as error:
        raise SystemExit(f"Error: {error}") from None
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing in OWN:
            raise
        raise SystemExit(
            f"Error: {name} needs {missing}: pip install -e '.[{extra},cpu]' in the checkout"
        ) from None
