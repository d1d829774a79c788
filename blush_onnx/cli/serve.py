"""``blush-onnx serve``: one warm process for hosts in other languages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from blush_onnx.cli.failures import debug_option
from blush_onnx.cli.options import (
    batch_size_option,
    device_option,
    model_option,
    precision_option,
    provider_option,
    require_gpu_option,
    threads_option,
)


@click.command(
    epilog="""\b
Examples:
  blush-onnx serve --stdio                          (started by the host itself)
  blush-onnx serve --socket /tmp/blush-onnx.sock    (for several; stop it with Ctrl-C)
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
@batch_size_option()
@threads_option("the processors this process may use")
@provider_option()
@device_option()
@precision_option()
@require_gpu_option()
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
    from blush_onnx import Denoiser
    from blush_onnx.errors import EngineError
    from blush_onnx.server.serve import own_stdio, serve_socket, serve_stdio

    def load() -> Denoiser:
        denoiser = Denoiser.load(
            options["model"], provider=options["provider"], device=options["device"],
            threads=options["threads"], precision=options["precision"],
            batch_size=options["batch_size"],
        )
        engine = denoiser.engine.description
        if options["require_gpu"] and not engine.is_gpu:
            raise EngineError(f"--require-gpu, but {engine.provider} was taken ({engine.reason})")
        return denoiser

    limit = int(largest_message * 2**30)
    if socket is None:
        with own_stdio() as (incoming, outgoing):
            serve_stdio(incoming, outgoing, load(), limit)
        return
    denoiser = load()
    engine = denoiser.engine.description.in_words()
    serve_socket(
        socket, denoiser, limit,
        lambda: click.echo(f"{denoiser.config.name} on {engine}, at {socket}", err=True),
    )
