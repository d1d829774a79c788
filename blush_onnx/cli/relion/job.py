"""``blush-onnx relion STAR``: one job, for RELION_EXTERNAL_RECONSTRUCT_EXECUTABLE."""

from __future__ import annotations

import os
from typing import Any

import click

from blush_onnx.cli.relion.commands import COMMANDS
from blush_onnx.cli.relion.job_options import JobCommand, job_options, run_logged, star_of


class _Job(JobCommand):
    """Its usage also names the other commands of the group."""

    def format_usage(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Usage of the group as a whole."""
        formatter.write_usage("blush-onnx relion", "[OPTIONS] STAR")
        formatter.write_usage("blush-onnx relion", "install-wrapper DIR", prefix="       ")
        formatter.write_usage("blush-onnx relion", "external --o FOLDER …", prefix="       ")

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The other commands, then the examples."""
        with formatter.section("Commands in place of STAR"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])
        super().format_epilog(ctx, formatter)


@click.command(
    cls=_Job,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  export RELION_EXTERNAL_RECONSTRUCT_EXECUTABLE="blush-onnx relion"
  relion_refine_mpi --auto_refine --external_reconstruct …
  blush-onnx relion Refine3D/job012/run_it003_half1_class001_external_reconstruct.star
""",
)
@click.argument("star", nargs=-1, required=True, metavar="STAR")
@job_options
def job(star: tuple[str, ...], **options: Any) -> None:
    """Do one reconstruction that RELION 3.1 to 5 has written with --external_reconstruct.

    RELION calls this itself when RELION_EXTERNAL_RECONSTRUCT_EXECUTABLE names it.
    RELION 5 with --blush calls relion_python_blush in its place: see
    blush-onnx relion install-wrapper --help.

    A half-map becomes its denoised reference, cut off where the halves cease to
    agree; a 3-D class is denoised; for the last, joined iteration RELION's own map
    is the result and the denoised one lies beside it as …_denoised.mrc. What was
    done is in the .log beside the STAR file.
    """
    from blush_onnx.sharing.cores import CoreShare

    with CoreShare() as cores:
        done = run_logged(star_of(star), cores, options)
    try:
        click.echo(f"blush-onnx: {done}")
    except OSError:  # the map is there: nobody to tell of it is no failure
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
