"""How a command ends that does not end well: one line, an exit status, no traceback."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import click

from blush_onnx.cli.signals import Terminated, end_tidily

FAILED = 1
TERMINATED = 128 + signal.SIGTERM


def debug_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--debug``, which every command has."""

    def remember(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        if value:
            ctx.find_root().obj = {"debug": True}

    return click.option(
        "--debug", is_flag=True, expose_value=False, callback=remember,
        help="Show the whole traceback of an error.",
    )(command)


def run_guarded(
    command: click.Command,
    arguments: list[str] | None,
    name: str = "blush-onnx",
    *,
    for_host: bool = False,
) -> Any:
    """Run a command; exit with 0, 1 (failed), 2 (wrong usage) or 143 (SIGTERM).

    Parameters
    ----------
    command : click.Command
    arguments : list of str, optional
        The process's own by default.
    name : str
        Of the program.
    for_host : bool
        Whether another program calls it, whose users see one line at most: no
        traceback, no usage.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    end_tidily()
    obj: dict[str, bool] = {}
    try:
        with command.make_context(name, list(arguments), obj=obj) as ctx:
            command.invoke(ctx)
    except click.exceptions.Exit as finished:
        sys.exit(finished.exit_code)
    except click.ClickException as error:
        if for_host:
            _fail(error.format_message(), error.exit_code)
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _leave("interrupted; what was not complete has been removed")
    except Terminated:
        _leave("terminated; what was not complete has been removed", TERMINATED)
    except BrokenPipeError:
        # Whoever read our output has gone; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:
        if not for_host and "--debug" in arguments:
            raise
        _fail(in_one_line(error, "--debug shows where"))


def in_one_line(error: Exception, hint: str) -> str:
    """What went wrong; `hint` tells where to look after an error that should not happen."""
    from blush_onnx.errors import BlushError

    text = " ".join(str(error).split())
    if isinstance(error, BlushError):
        return text
    if isinstance(error, MemoryError):
        return f"out of memory: {text or 'bin or crop the map, or use a machine with more'}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"{type(error).__name__}: {text} (a defect of blush-onnx; {hint})"


def _fail(message: str, status: int = FAILED) -> None:
    click.echo(f"Error: {message}", err=True)
    sys.exit(status)


def _leave(message: str, status: int = FAILED) -> None:
    """Fail at once: threads that still compute would abort the interpreter's own end."""
    click.echo(f"Error: {message}", err=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
