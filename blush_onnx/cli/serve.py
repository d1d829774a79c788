"""``blush-onnx serve``: one warm process for hosts in other languages."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from blush_onnx.cli.failures import debug_option
from blush_onnx.cli.options import engine_options, model_option


@click.command(
    epilog="""\b
Examples:
  blush-onnx serve --stdio                          (started by the host itself)
  blush-onnx serve --socket ~/.blush-onnx.sock      (for several; stop it with Ctrl-C)
"""
)
@click.option("--stdio", is_flag=True, help="Serve the process that started this one, on stdin "
              "and stdout.")
@click.option(
    "--socket", type=click.Path(path_type=Path), metavar="PATH",
    help="Serve programs of the same user on this machine, on a socket in the file system "
    "(mode 0600).",
)
@model_option()
@engine_options
@click.option(
    "--largest-message", type=click.FloatRange(0.001, 1024), default=4.0, show_default=True,
    metavar="GIB", help="Refuse volumes larger than this in one message.",
)
@debug_option
def serve(
    stdio: bool, socket: Path | None, largest_message: float, **options: Any
) -> None:
    """Keep a model loaded and denoise for other programs, in any language.

    The protocol is in docs/serving.md: a JSON header and raw float32 volumes, inline
    or in shared memory. There is no network socket.
    """
    if stdio == (socket is not None):
        raise click.UsageError("give --stdio or --socket PATH, one of the two.")
    from blush_onnx.cli.loading import load_denoiser
    from blush_onnx.server.serve import own_stdio, serve_socket, serve_stdio

    if math.isnan(largest_message):
        raise click.UsageError("--largest-message must be a number.")
    limit = int(largest_message * 2**30)
    if socket is None:
        with own_stdio() as (incoming, outgoing):
            serve_stdio(incoming, outgoing, load_denoiser(options)[1], limit)
        return
    _, denoiser = load_denoiser(options)
    engine = denoiser.engine.description.in_words()
    serve_socket(
        socket, denoiser, limit,
        lambda: click.echo(f"{denoiser.config.name} on {engine}, at {socket}", err=True),
    )
