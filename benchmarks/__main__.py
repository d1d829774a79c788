"""``python -m benchmarks COMMAND``: a benchmark each, imported when it is called."""

from __future__ import annotations

import importlib

import click

from blush_onnx.errors import BlushError

COMMANDS = {
    "refinement": (
        "benchmarks.refinement.command",
        "RELION refinement of simulated particles: plain, with Blush, without trailing.",
    ),
    "reconstruction": (
        "benchmarks.reconstruction",
        "Time and memory of one reconstruction.",
    ),
}
"""Command to its module, which holds a click command of that name, and its help."""


class LazyGroup(click.Group):
    """Commands that are imported when they are called."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Names in the order of use."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """Import the command's module."""
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[name][0]), name)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def group() -> None:
    """Benchmarks of blush-onnx."""


def main() -> None:
    """Run a benchmark; an error that was foreseen is one line, any other a traceback."""
    try:
        group(prog_name="python -m benchmarks")
    except BlushError as error:
        raise SystemExit(f"Error: {error}") from None


if __name__ == "__main__":
    main()
