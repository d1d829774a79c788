"""``relion_python_blush``: what RELION 5 calls for ``--blush``.

RELION reads everything the program prints on its standard output and takes any
word but ``success`` for a failure; it does not look at the exit status.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from typing import Any

import click

from blush_onnx.cli.failures import run_guarded
from blush_onnx.cli.relion.job_options import JobCommand, job_options, run_logged, star_of
from blush_onnx.cli.signals import Terminated

SUCCESS = "success"


@click.command(
    cls=JobCommand,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="RELION passes the words of RELION_BLUSH_ARGS on to this command, for instance "
    'export RELION_BLUSH_ARGS="--provider cpu".',
)
@click.argument("star", nargs=-1, metavar="[STAR]")
@job_options
def relion_python_blush(star: tuple[str, ...], **options: Any) -> None:
    """Do the Blush regularisation of one RELION 5 job, in place of RELION's own program.

    Without a STAR file the installation and the model are checked. With one, the only
    thing printed is the word success; everything else is in the .log beside it.
    """
    if not any(star):
        _check(options["model"])
        return
    from blush_onnx.sharing.cores import CoreShare

    answer = _only_for_the_answer()
    with CoreShare() as cores:
        run_logged(star_of(star), cores, options, _host_is_there(answer))
    os.write(answer, f"{SUCCESS}\n".encode())


def main(arguments: list[str] | None = None) -> Any:
    """Entry point of ``relion_python_blush``."""
    return run_guarded(
        relion_python_blush, arguments, "relion_python_blush", for_host=True
    )


def _check(name: str | None) -> None:
    from blush_onnx import models
    from blush_onnx.hosts.relion.star import star_reader

    star_reader()
    model = models.load_model(name)
    click.echo(f"The model {model.config.name} is in place and undamaged: {model.path}")
    if name is None and model.config.name != models.OFFICIAL_MODEL:
        click.echo(f"For the official weights: blush-onnx models fetch {models.OFFICIAL_MODEL}")
    click.echo("No job was given: nothing to denoise.")


def _only_for_the_answer() -> int:
    """A descriptor of the standard output, where what libraries print no longer arrives."""
    if sys.stdout is not None:
        sys.stdout.flush()
    answer = os.dup(1)
    os.dup2(2, 1)
    return answer


def _host_is_there(answer: int) -> Callable[[], None]:
    """A check that ends the work when RELION, which reads our answer, has gone."""
    poll = select.poll()
    poll.register(answer, 0)  # an end of the pipe that closed is told in any case

    def check() -> None:
        if any(event & select.POLLERR for _, event in poll.poll(0)):
            raise Terminated

    return check


if __name__ == "__main__":
    main()
