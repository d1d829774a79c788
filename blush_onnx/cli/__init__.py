"""The command line: parsing and printing only, one file a command."""

from __future__ import annotations

from typing import Any

import click

from blush_onnx.cli.lazy import LazyGroup

COMMANDS = {
    name: (f"blush_onnx.cli.{name}:{name}", text)
    for name, text in (
        ("denoise", "Denoise two half-maps into two references, or one map."),
        ("fsc", "FSC of two half-maps, optionally solvent-corrected."),
        ("validate", "Test two half-maps and their denoising, and write a report to look at."),
        ("relion", "Do the jobs of RELION 3.1 to 5 (--external_reconstruct, --blush, External)."),
        ("cryosparc", "Denoise half-maps of cryoSPARC 4.7 or 5 as External jobs, and in rounds."),
        ("serve", "Keep a model loaded and denoise for programs in other languages."),
        ("models", "List, fetch, import, check and remove models."),
        ("doctor", "Check this installation and test every provider."),
    )
}


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from blush_onnx import __version__

        click.echo(f"blush-onnx {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
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
