"""``blush-onnx relion install-wrapper``: put our program where RELION finds it first."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import click

from blush_onnx.cli.failures import debug_option


@click.command(
    epilog="Example: blush-onnx relion install-wrapper /opt/blush-onnx/relion",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@click.option("--overwrite", is_flag=True, help="Replace programs that are not ours.")
@debug_option
def wrapper(folder: Path, overwrite: bool) -> None:
    """Write relion_python_blush and relion_blush_external into DIR.

    Both pin this environment, so that they work whatever Python, conda environment
    or module is active when RELION calls them. Put DIR in front of RELION's own
    folder on PATH, in the module file or in the job script.
    """
    from blush_onnx.hosts.relion.wrapper import install_wrappers

    if not folder.name and folder == Path():
        raise click.UsageError("name a folder, such as /opt/blush-onnx/relion")
    paths = install_wrappers(folder, overwrite=overwrite)
    for path in paths:
        click.echo(f"Wrote {path}")
    place = folder.absolute()
    first = shutil.which(paths[0].name)
    if first is None or Path(first).resolve() != paths[0].resolve():
        click.echo("Now put it in front of RELION on PATH:")
        click.echo(f"  export PATH={shlex.quote(str(place))}:$PATH")
    click.echo("For RELION 3.1 and 4, or --external_reconstruct in 5:")
    # RELION puts the text in front of the STAR file's name and gives both to a shell.
    command = shlex.quote(shlex.quote(str(paths[1])))
    click.echo(f"  export RELION_EXTERNAL_RECONSTRUCT_EXECUTABLE={command}")
