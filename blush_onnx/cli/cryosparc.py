"""``blush-onnx cryosparc``: External jobs on half-maps of cryoSPARC, and rounds of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from blush_onnx.cli.failures import debug_option
from blush_onnx.cli.loading import load_denoiser, settings_of
from blush_onnx.cli.options import (
    engine_options,
    model_option,
    rotations_option,
    stride_options,
)

if TYPE_CHECKING:
    from blush_onnx.hosts.cryosparc import Access, Done, Request, Session, Source

DEFAULT_COMMAND = "denoise"
DEFAULT_PORT = "39000"
ELSEWHERE = ("url", "email", "timeout", "workspace", "volume_output", "mask_job", "mask_output",
             "no_mask")
"""Options that are about cryoSPARC; the rest are about denoising, and are in the report."""


class _DenoiseByDefault(click.Group):
    """A group whose first word is a command or else a project."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "-h", "--help"}:
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=_DenoiseByDefault,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
blush-onnx cryosparc P3 J42 is short for blush-onnx cryosparc denoise P3 J42.
The login is in the environment: CRYOSPARC_BASE_URL, CRYOSPARC_EMAIL, CRYOSPARC_PASSWORD and,
for version 4, CRYOSPARC_LICENSE_ID.
""",
)
def cryosparc() -> None:
    """Denoise half-maps of cryoSPARC 4.7 or 5 as External jobs, and in rounds of refinements."""


def _source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed((
        click.argument("project"),
        click.argument("job"),
        click.option(
            "--workspace", metavar="W", help="For the new jobs. [default: the refinement's first]"
        ),
        click.option(
            "--volume-output", metavar="NAME", help="Where the job has several with half-maps."
        ),
        click.option(
            "--mask-job", metavar="JOB",
            help="Whose mask the FSC is taken under, corrected by phase randomisation. [default: "
            "the refinement's own, if it has one]",
        ),
        click.option("--mask-output", metavar="NAME", help="Where that job has several masks."),
        click.option("--no-mask", is_flag=True, help="Take the FSC without a mask."),
        click.option(
            "--particle-diameter", type=float, metavar="Å",
            help="Diameter of the spherical mask. Default: the largest sphere in the box.",
        ),
        click.option(
            "--cut-off", type=float, metavar="Å",
            help="Cut the denoised maps off there, in place of where the FSC says.",
        ),
        model_option(),
        stride_options(),
        rotations_option(),
        engine_options,
        click.option(
            "--url", metavar="URL",
            help="Of cryoSPARC, as in the browser. [default: $CRYOSPARC_BASE_URL, else "
            "http://$CRYOSPARC_MASTER_HOSTNAME:$CRYOSPARC_BASE_PORT]",
        ),
        click.option("--email", metavar="E-MAIL", help="Of the user. [default: $CRYOSPARC_EMAIL]"),
        click.option(
            "--timeout", type=click.IntRange(1), default=120, show_default=True, metavar="S",
            help="How long cryoSPARC may take for an answer.",
        ),
        debug_option,
    )):
        command = option(command)
    return command


@cryosparc.command(
    epilog="""\b
Examples:
  blush-onnx cryosparc P3 J42
  blush-onnx cryosparc P3 J42 --mask-job J40 --particle-diameter 160 --require-gpu
"""
)
@_source_options
def denoise(project: str, job: str, **options: Any) -> None:
    """Denoise both half-maps of the refinement JOB in PROJECT as an External job.

    Its outputs are volumes: denoised, to be the initial volume of a refinement, and
    denoised_1 and denoised_2, what became of each half-map. Progress, pictures,
    warnings and report.json are in the job. The maps are references, not half-maps.
    """
    from blush_onnx.hosts.cryosparc import denoise_job

    session = _session(project, options)
    source = _choose(session, job, options)
    done = denoise_job(session, source, _workspace(source, options), _request(options))
    _print_job(project, done)


@cryosparc.command(
    epilog="""\b
Example:
  blush-onnx cryosparc rounds P3 J42 --rounds 3 --lane gpu
"""
)
@_source_options
@click.option("--rounds", type=click.IntRange(1, 20), required=True, metavar="N", help="How many.")
@click.option("--lane", metavar="NAME", help="Where the refinements are queued.")
@click.option("--hostname", metavar="NAME", help="A machine of the lane.")
@click.option("--gpus", metavar="N[,N…]", help="Cards there.")
@click.option(
    "--wait", type=click.FloatRange(0, min_open=True), default=72.0, show_default=True,
    metavar="HOURS", help="The longest that one refinement may take, with the queue.",
)
@click.option(
    "--poll", type=click.FloatRange(0.1), default=15.0, show_default=True, metavar="S",
    help="How often to look whether it has completed.",
)
def rounds(
    project: str, job: str, rounds: int, lane: str | None, hostname: str | None,
    gpus: str | None, wait: float, poll: float, **options: Any,
) -> None:
    """Denoise the half-maps of JOB, refine from the denoised map, and repeat.

    Each refinement is like JOB, a homogeneous or non-uniform refinement, but for its
    initial volume, the denoised map, and its initial low-pass, the cut-off. Both
    half-sets then start from one reference: a better FSC between the half-maps is
    no proof of a better map. docs/cryosparc.md says what to check instead.
    """
    from blush_onnx.hosts.cryosparc import Plan, run_rounds
    from blush_onnx.resolution import in_angstrom

    cards = _numbers(gpus)
    session = _session(project, options)
    source = _choose(session, job, options)
    plan = Plan(
        rounds, _workspace(source, options), lane, hostname, cards, wait * 3600, poll
    )
    own_mask = options["mask_job"] in (None, job)

    def next_source(uid: str) -> Source:
        return _choose(session, uid, options | ({"mask_job": None} if own_mask else {}))

    done = run_rounds(session, source, plan, _request(options), next_source)
    click.echo("Round  denoised  agree to   cut-off    refinement")
    for number, each in enumerate(done, 1):
        click.echo(
            f"{number:<6} {each.denoising.uid:<9} "
            f"{in_angstrom(each.denoising.resolution_angstrom):<9}  "
            f"{in_angstrom(each.denoising.cut_off_angstrom):<9}  {each.refinement}"
        )
    click.echo(
        "Both half-sets of these refinements started from one reference: that their half-maps "
        "agree further is no proof of a better map. docs/cryosparc.md says what to check."
    )


def _session(project: str, options: dict[str, Any]) -> Session:
    from blush_onnx.hosts.cryosparc import open_session

    return open_session(_access(options), project, lambda text: click.echo(text, err=True))


def _access(options: dict[str, Any]) -> Access:
    from blush_onnx.errors import InputError
    from blush_onnx.hosts.cryosparc import Access

    given = os.environ.get
    host = given("CRYOSPARC_MASTER_HOSTNAME")
    url = options["url"] or given("CRYOSPARC_BASE_URL")
    if not url and host:
        url = f"http://{host}:{given('CRYOSPARC_BASE_PORT') or DEFAULT_PORT}"
    if not url:
        raise InputError("where is cryoSPARC? Give --url, or CRYOSPARC_BASE_URL in the environment")
    if "://" not in url:
        url = f"http://{url}"
    return Access(
        url.rstrip("/"), options["email"] or given("CRYOSPARC_EMAIL") or None,
        given("CRYOSPARC_PASSWORD") or None, given("CRYOSPARC_LICENSE_ID") or None,
        options["timeout"],
    )


def _choose(session: Session, job: str, options: dict[str, Any]) -> Source:
    from blush_onnx.hosts.cryosparc import choose_source

    if options["no_mask"] and (options["mask_job"] or options["mask_output"]):
        raise click.UsageError("--no-mask has no meaning with --mask-job or --mask-output.")
    return choose_source(
        session, job, volume_output=options["volume_output"], mask_job=options["mask_job"],
        mask_output=options["mask_output"], with_mask=not options["no_mask"],
    )


def _workspace(source: Source, options: dict[str, Any]) -> str:
    return str(options["workspace"] or source.job.workspaces[0])


def _request(options: dict[str, Any]) -> Request:
    from blush_onnx.hosts.cryosparc import Request

    own = {name: value for name, value in options.items() if name not in ELSEWHERE}
    own |= {"mask": None, "denoise_mask": None, "voxel_size": None, "no_spectral_trailing": False}
    return Request(
        lambda: load_denoiser(own), settings_of(own), own["particle_diameter"], own["cut_off"],
        own["stride"], own["rotations"],
    )


def _numbers(text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(",")) if text else ()
    except ValueError:
        raise click.BadParameter(f"{text!r}: give numbers, such as 0 or 0,1") from None


def _print_job(project: str, done: Done) -> None:
    from blush_onnx.hosts.cryosparc.external import ONE_REFERENCE
    from blush_onnx.resolution import agree_to

    for warning in done.warnings:
        click.echo(f"Warning: {warning}", err=True)
    click.echo(f"Job          {project} {done.uid}, output denoised")
    click.echo(f"Half-maps    {agree_to(done.resolution_angstrom)} (FSC 0.143)")
    click.echo(f"Cut-off      {done.cut_off_angstrom:.2f} Å")
    click.echo(ONE_REFERENCE.format(done.cut_off_angstrom))
