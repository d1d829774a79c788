"""The command line: parsing and printing only, one file a command."""

from __future__ import annotations

import importlib
from typing import Any

import click

COMMANDS = {
    "denoise": "Denoise two half-maps into two references, or one map.",
    "fsc": "FSC of two half-maps, optionally solvent-corrected.",
    "relion": "Do the jobs of RELION 3.1 to 5 (--external_reconstruct, --blush, External).",
    "models": "List, fetch, import, check and remove models.",
    "doctor": "Check this installation and test every provider.",
}


class LazyGroup(click.Group):
    """Commands that are imported when they are called, so that ``--help`` is fast."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Names in the order of use."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """Import the command's module; its command has the module's name."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"blush_onnx.cli.{name}")
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from blush_onnx import __version__

        click.echo(f"blush-onnx {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: blush-onnx denoise half1.mrc half2.mrc --out denoised",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
    help="Print the version and exit.",
)
def group() -> None:
    """Blush regularisation of cryo-EM maps, without PyTorch."""


def main(arguments: list[str] | None = None) -> Any:
    """Entry point of ``blush-onnx``: runs a command and turns errors into one line."""
    from blush_onnx.cli.failures import run_guarded

    return run_guarded(group, arguments)
