"""The options of a RELION job, which two commands share, and how a job is run and logged."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import re
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blush_onnx.cli.failures import in_one_line
from blush_onnx.cli.options import (
    batch_size_option,
    card_memory_option,
    model_option,
    precision_option,
    provider_option,
    require_gpu_option,
    stride_options,
    threads_option,
)

if TYPE_CHECKING:
    from blush_onnx.hosts.relion.run import JobRequest
    from blush_onnx.sharing.cores import CoreShare

PROGRESS_SECONDS = 10.0
_OPTIONS = (
    model_option("-m", "--model_name"),
    stride_options("-s", "--strides"),
    batch_size_option("-b", "--batch_size"),
    click.option(
        "-g", "--gpu", multiple=True, metavar="LIST",
        help="Cards to take one of, as RELION gives them: 0 or 0,1, … A list needs an engine for "
        "cards. -1, an empty one or none: a card if one is there, else the CPU.",
    ),
    click.option(
        "--device-timeout", "--device_timeout", type=float, default=1200, show_default=True,
        metavar="SECONDS",
        help="Give up when no card of the list has changed hands for so long.",
    ),
    provider_option(),
    card_memory_option(),
    precision_option(),
    require_gpu_option(),
    threads_option("this job's share of the processors it may use"),
    click.option(
        "--server", type=click.Path(path_type=Path, readable=False), metavar="PATH",
        help="Let a running blush-onnx serve --socket PATH evaluate the network, in place of an "
        "engine of this process.",
    ),
    click.option(
        "--skip-spectral-trailing", is_flag=True,
        help="Keep the denoised map beyond where the half-maps agree: risks overfitting.",
    ),
    click.option(
        "--smoothing-mask", type=click.Path(path_type=Path, readable=False), metavar="MRC",
        help="Blur the result by 5 Å where this mask is 0 (for amyloids).",
    ),
    click.option(
        "--pixel-size", type=float, metavar="Å",
        help="In place of the job's. RELION 3.1 and 4.0.0 do not write it; it is then looked up in "
        "the run's model file.",
    ),
    click.option(
        "--particle-diameter", type=float, metavar="Å",
        help="In place of the job's; looked up in the run's optimiser file likewise.",
    ),
    click.option(
        "--debug", is_flag=True, help="Write both reconstructions beside the result."
    ),
)


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """All options of a job."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


class JobCommand(click.Command):
    """A command that takes ``--gpu`` with and without a value, as RELION writes it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give each ``--gpu`` its value."""
        return super().parse_args(ctx, _with_gpu_values(args))


def star_of(words: Sequence[str]) -> Path:
    """The STAR file; RELION does not quote it, so that one with blanks comes in pieces."""
    whole = Path(" ".join(words))
    if not whole.name:
        raise click.UsageError("the name of the STAR file is empty")
    if len(words) > 1 and not whole.exists():
        raise click.UsageError(f"one STAR file is expected, not {len(words)}: {', '.join(words)}")
    return whole


def run_logged(
    star: Path, cores: CoreShare, options: dict[str, Any],
    check: Callable[[], None] = lambda: None,
) -> str:
    """Do a job, with everything there is to say in the log beside its STAR file.

    Parameters
    ----------
    star : Path
    cores : CoreShare
        Entered already.
    options : dict
        Of :func:`job_options`.
    check : callable
        Called now and then; whatever it raises ends the work.

    Returns
    -------
    str
        What was done, in one line.

    Raises
    ------
    click.ClickException
        It failed; its message is one line and names the log, which has the traceback.
    """
    if not star.is_file():
        raise click.ClickException(f"{star} does not exist (the current folder is {Path.cwd()})")
    logger = logging.getLogger("blush_onnx.cli.relion")
    log = star.with_suffix(".log")
    with _log_file(log) as written:
        try:
            _log_circumstances(logger)
            from blush_onnx.hosts.relion.run import run_job

            return run_job(
                star, job_request(options), cores, progress=_Progress(logger, check), check=check
            )
        except click.ClickException:
            raise
        except Exception as error:
            logger.exception("failed; the current folder is %s", Path.cwd())
            where = f" (more in {log})" if written else ""
            raise click.ClickException(in_one_line(error, "the log shows where") + where) from error
        except BaseException as error:
            logger.error("stopped: %s", type(error).__name__)
            raise


def job_request(options: dict[str, Any]) -> JobRequest:
    """What the options of :func:`job_options` ask for.

    Raises
    ------
    InputError
        One of them makes no sense.
    """
    from blush_onnx.hosts.relion.engine_choice import EngineRequest
    from blush_onnx.hosts.relion.run import JobRequest

    requests = [EngineRequest(gpu=text) for text in options["gpu"]]
    # RELION adds its own --gpu last, and -1 where it knows of no card: a list counts more.
    listed = [request.gpu for request in requests if request.card_numbers()]
    return JobRequest(
        engine=EngineRequest(
            provider=options["provider"], gpu=listed[-1] if listed else None,
            require_gpu=options["require_gpu"], threads=options["threads"],
            precision=options["precision"],
            card_memory=options["card_memory"],
            batch_size=options["batch_size"], device_timeout=options["device_timeout"],
            server=options["server"],
        ),
        model=options["model"], stride=options["stride"],
        spectral_trailing=not options["skip_spectral_trailing"],
        pixel_size=options["pixel_size"], particle_diameter=options["particle_diameter"],
        smoothing_mask=options["smoothing_mask"], debug=options["debug"],
    )


def _with_gpu_values(args: list[str]) -> list[str]:
    """``--gpu`` may stand alone, and its value may be empty, -1, or end with a comma."""
    given: list[str] = []
    words = iter(args)
    pending = next(words, None)
    while pending is not None:
        following = next(words, None)
        if pending in ("-g", "--gpu"):
            if following is not None and _is_value(following):
                given.append(f"--gpu={following.strip()}")
                following = next(words, None)
            else:
                given.append("--gpu=")
        else:
            given.append(pending)
        pending = following
    return given


def _is_value(word: str) -> bool:
    """Whether what follows ``--gpu`` is its value, not the STAR file or the next option."""
    return bool(re.match(r"-?\d", word)) or not (word.startswith("-") or word.endswith(".star"))


class _LogFile(logging.FileHandler):
    """A log that never stands in the way of the work, be the disk full."""

    def handleError(self, _record: logging.LogRecord) -> None:  # noqa: N802
        """Give up on the file and say so once."""
        logging.getLogger("blush_onnx").removeHandler(self)
        click.echo(f"Warning: cannot write the log {self.baseFilename}", err=True)

    def close(self) -> None:
        """Close the file, whatever is left to be written."""
        with contextlib.suppress(OSError):
            super().close()


@contextmanager
def _log_file(path: Path) -> Iterator[bool]:
    """The package's log in a file, what a user must not miss on stderr; whether there is a file."""
    package = logging.getLogger("blush_onnx")
    try:
        handler: logging.Handler = _LogFile(path, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    except OSError as error:  # closed to us; what is loud must be heard all the same
        handler = logging.StreamHandler(sys.stderr)
        handler.setLevel(logging.WARNING)
        handler.setFormatter(logging.Formatter("Warning: %(message)s"))
        click.echo(f"Warning: no log {path}: {error.strerror}", err=True)
    differing = logging.getLogger("blush_onnx.hosts.relion.treatment")
    loud = logging.StreamHandler(sys.stderr)
    loud.setFormatter(logging.Formatter("Warning: %(message)s"))
    package.setLevel(logging.INFO)
    package.addHandler(handler)
    if isinstance(handler, _LogFile):
        differing.addHandler(loud)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            yield isinstance(handler, _LogFile)
    finally:
        for logger, its in ((package, handler), (logging.getLogger("py.warnings"), handler),
                            (differing, loud)):
            logger.removeHandler(its)
        logging.captureWarnings(False)
        handler.close()


def _log_circumstances(logger: logging.Logger) -> None:
    from blush_onnx.diagnostics import versions

    logger.info("command: %s", shlex.join(sys.argv))
    found = ", ".join(f"{name} {version}" for name, version in versions().items())
    logger.info("process %d on %s: %s", os.getpid(), platform.node(), found)
    set_here = {k: v for k, v in os.environ.items() if k.startswith(("BLUSH_ONNX", "CUDA_VISIBLE"))}
    if set_here:
        logger.info("environment: %s", " ".join(f"{k}={v}" for k, v in set_here.items()))


class _Progress:
    """Notes in the log how far the network is, every few seconds."""

    def __init__(self, logger: logging.Logger, check: Callable[[], None]) -> None:
        self._logger = logger
        self._check = check
        self._start = self._noted = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        self._check()
        now = time.monotonic()
        if done == 0:
            self._start = self._noted = now
        elif done == total:
            seconds = now - self._start
            self._logger.info(
                "network: %d patches in %.1f s, %.3f s each", total, seconds, seconds / total
            )
        elif now - self._noted > PROGRESS_SECONDS:
            self._noted = now
            self._logger.info("network: %d of %d patches", done, total)
