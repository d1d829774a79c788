"""``blush-onnx relion``: jobs of RELION's external reconstruction, and what belongs to them."""

from __future__ import annotations

from typing import Any

import click

from blush_onnx.cli.lazy import LazyGroup
from blush_onnx.cli.relion.commands import COMMANDS, JOB


class _JobByDefault(LazyGroup):
    """A group whose first word is a command or else belongs to the job."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in COMMANDS:
            args = [JOB, *(args or ["--help"])]
        return super().parse_args(ctx, args)


@click.group(
    cls=_JobByDefault,
    lazy=COMMANDS | {JOB: (f"{__name__}.job:job", "")},
    add_help_option=False,
)
def relion(**_: Any) -> None:
    """Jobs of RELION's external reconstruction."""
