"""``blush-onnx relion``: jobs of RELION's external reconstruction, and what belongs to them."""

from __future__ import annotations

import importlib
from typing import Any

import click

from blush_onnx.cli.relion.commands import COMMANDS

_JOB = "job"


class _JobByDefault(click.Group):
    """A group whose first word is a command or else belongs to the job."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        module = _JOB if name == _JOB else COMMANDS[name][0]
        command: click.Command = getattr(
            importlib.import_module(f"blush_onnx.cli.relion.{module}"), module
        )
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in COMMANDS:
            args = [_JOB, *(args or ["--help"])]
        return super().parse_args(ctx, args)


@click.group(cls=_JobByDefault, add_help_option=False)
def relion(**_: Any) -> None:
    """Jobs of RELION's external reconstruction."""
