"""``blush-onnx relion external``: denoise maps as a job of RELION's type External."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blush_onnx.cli.denoise import HALF_FILES, MAP_FILES, run_denoise
from blush_onnx.cli.options import (
    batch_size_option,
    card_memory_option,
    model_option,
    on_card_option,
    precision_option,
    provider_option,
    require_gpu_option,
    stride_options,
)
from blush_onnx.machine import available_cpus

if TYPE_CHECKING:
    from blush_onnx.hosts.relion.external import ExternalJob

_PATH = click.Path(path_type=Path, readable=False)
PROGRESS_SECONDS = 10.0


class _External(click.Command):
    """A command whose wrong usage RELION's pipeline gets to know of."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError:
            folder = next((b for a, b in pairwise(given) if a == "--o"), None)
            if folder is not None:
                from blush_onnx.hosts.relion.external import FAILURE, ExternalJob

                ExternalJob(Path(folder)).end(FAILURE)
            raise


@click.command(
    cls=_External,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "ignore_unknown_options": True,
        "allow_extra_args": True,
    },
    epilog="""\b
In RELION's GUI, job type External:
  External executable   blush-onnx relion external
  Input 3D reference    Refine3D/job012/run_half1_class001_unfil.mrc
  Input 3D mask         MaskCreate/job013/mask.mrc        (optional, for the FSC)
  Param1 label, value   particle_diameter, 150            (optional)
""",
)
@click.option("--o", "folder", required=True, type=_PATH, metavar="FOLDER",
              help="The job's own, External/jobNNN/; RELION gives it.")
@click.option(
    "--in_3dref", type=_PATH, metavar="MRC",
    help="One half-map, whose other half is found by its name, or a single map.",
)
@click.option("--half1", type=_PATH, metavar="MRC", help="In place of --in_3dref.")
@click.option("--half2", type=_PATH, metavar="MRC", help="Where the name does not tell it.")
@click.option(
    "--in_mask", "mask", type=_PATH, metavar="MRC",
    help="Solvent mask for the FSC only, as --mask of blush-onnx denoise.",
)
@click.option("--j", "threads", type=int, metavar="N", help="CPU threads.")
@click.option("--angpix", "voxel_size", type=float, metavar="Å", help="In place of the header's.")
@click.option(
    "--particle_diameter", "--particle-diameter", type=float, metavar="Å",
    help="Diameter of the spherical mask. Default: the largest sphere in the box.",
)
@model_option()
@stride_options()
@batch_size_option("--batch_size")
@provider_option()
@card_memory_option()
@on_card_option()
@precision_option()
@require_gpu_option()
@click.option(
    "--gpu", metavar="LIST", help="Number of the card; of several the first. [default: 0]"
)
@click.pass_context
def external(
    ctx: click.Context,
    /,
    folder: Path,
    in_3dref: Path | None,
    half1: Path | None,
    half2: Path | None,
    gpu: str | None,
    **options: Any,
) -> None:
    """Denoise a pair of half-maps, or one map, as a job of RELION's type External.

    Writes into FOLDER what blush-onnx denoise writes, and what RELION's pipeline
    needs to show it. Flags that are not known are listed and left alone.
    """
    from blush_onnx.hosts.relion.engine_choice import EngineRequest
    from blush_onnx.hosts.relion.external import (
        ABORTED,
        FAILURE,
        MAP_NODE,
        MASK_NODE,
        SUCCESS,
        Aborted,
        ExternalJob,
    )

    job = ExternalJob(folder)
    ending = FAILURE
    try:
        for name in {*HALF_FILES, *MAP_FILES}:  # of an earlier run in this folder
            (folder / name).unlink(missing_ok=True)
        if ctx.args:
            click.echo(f"Not known and left alone: {' '.join(ctx.args)}")
        if options["threads"] is not None and options["threads"] < available_cpus():
            usable = available_cpus()
            click.echo(f"{options['threads']} threads (--j), of {usable} that may be used")
        options["device"] = ((EngineRequest(gpu=gpu).card_numbers() or [0])[0],)
        options |= {"denoise_mask": None, "no_spectral_trailing": False, "cut_off": None}
        options["rotations"] = 1
        maps = _maps(half1 or in_3dref, half2)
        if len(maps) == 1 and options["mask"]:
            click.echo(f"{options['mask']} is not used: a single map has no FSC")
            options["mask"] = None
        names = run_denoise(maps, folder, options, _Lines(job), overwrite=True, table=True)
        job.write_output_nodes(
            {
                name: MASK_NODE if name == "mask.mrc" else MAP_NODE
                for name in names if name.endswith(".mrc")
            }
        )
        ending = SUCCESS
    except Aborted:
        ending = ABORTED
        raise
    finally:
        job.end(ending)


def _maps(first: Path | None, second: Path | None) -> tuple[Path, ...]:
    from blush_onnx.hosts.relion.external import other_half

    if first is None:
        raise click.UsageError("give a half-map or a map as --in_3dref (Input 3D reference)")
    other = second or other_half(first)
    return (first,) if other is None else (first, other)


class _Lines:
    """Lines of progress for the job's run.out; looks out for RELION's wish to abort."""

    def __init__(self, job: ExternalJob) -> None:
        self._job = job
        self._noted = time.monotonic()

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, done: int, total: int) -> None:
        self._job.check_abort()
        now = time.monotonic()
        if done in (0, total) or now - self._noted > PROGRESS_SECONDS:
            self._noted = now
            click.echo(f"{done} of {total} patches")
