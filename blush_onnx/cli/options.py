"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from blush_onnx.engines import PROVIDER_NAMES
from blush_onnx.engines.base import PRECISIONS
from blush_onnx.patches import STRIDES
from blush_onnx.rotations import MOST_ORIENTATIONS

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def denoising_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How a map is denoised, but for its masks: model, particle, patches, orientations, engine."""
    return _all(
        model_option(),
        click.option(
            "--voxel-size", type=float, metavar="Å", help="In place of the files' headers."
        ),
        click.option(
            "--particle-diameter", type=float, metavar="Å",
            help="Diameter of the spherical mask. Default: the largest sphere in the box.",
        ),
        stride_options(),
        rotations_option(),
        engine_options,
    )(command)


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What evaluates the network, and how."""
    return _all(
        batch_size_option(),
        threads_option("the processors this process may use"),
        provider_option(),
        device_option(),
        card_memory_option(),
        on_card_option(),
        precision_option(),
        require_gpu_option(),
    )(command)


def _all(*options: Decorator) -> Decorator:
    """Several options as one decorator, in the order in which they are listed."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def like_relion_option() -> Decorator:
    """``--like-relion``."""
    return click.option(
        "--like-relion", is_flag=True,
        help="Count voxels and randomise phases exactly as relion_postprocess does.",
    )


def model_option(*names: str) -> Decorator:
    """``--model``; `names` are other spellings of it."""
    return click.option(
        "--model", *names, "model", metavar="NAME|PATH",
        help="A registered name, a model folder or an .onnx file. Default: $BLUSH_ONNX_MODEL, else "
        "v1.0 when it is registered, else the bundled model.",
    )


def stride_options(*names: str) -> Decorator:
    """``--quality`` and ``--stride``; `names` are other spellings of the latter."""
    quality = click.option(
        "--quality", type=click.Choice(tuple(STRIDES)), default="reference", show_default=True,
        is_eager=True,
        help="How densely the network's patches lie. reference: as in the published program; "
        "balanced takes a quarter to two fifths of its patches, fast a fifth to a third, the "
        "fewer the larger the box. docs/performance.md says how much the map changes.",
    )
    stride = click.option(
        "--stride", *names, "stride", type=int, callback=_stride, metavar="VOXELS",
        help="Distance of the patches itself, 1 to 43, in place of --quality. [default: 20]",
    )
    return lambda command: quality(stride(command))


def _stride(ctx: click.Context, _param: click.Parameter, value: int | None) -> int:
    if value is None:
        return STRIDES[ctx.params["quality"]]
    if ctx.get_parameter_source("quality") is click.core.ParameterSource.COMMANDLINE:
        raise click.BadParameter("give it or --quality, not both")
    return value


def batch_size_option(*names: str) -> Decorator:
    """``--batch-size``; `names` are other spellings of it."""
    return click.option(
        "--batch-size", *names, "batch_size", type=int, metavar="N",
        help="Patches given to a card at a time; the CPU takes them one by one. [default: 8]",
    )


def threads_option(default: str) -> Decorator:
    """``--threads``, with what its default is in words."""
    return click.option(
        "--threads", type=int, metavar="N", help=f"CPU threads. [default: {default}]"
    )


def rotations_option() -> Decorator:
    """``--rotations``."""
    return click.option(
        "--rotations", type=click.IntRange(1, MOST_ORIENTATIONS), default=1, show_default=True,
        metavar="N",
        help="Average over N orientations of the map, up to 24 rotations of the cube and 24 more "
        "with a mirror, and write spread.mrc, the standard deviation over them: where it is high, "
        "the answer depends on how one looks. Takes N times the time.",
    )


def provider_option() -> Decorator:
    """``--provider``."""
    return click.option(
        "--provider", type=click.Choice(PROVIDER_NAMES), default="auto", show_default=True,
        help="What evaluates the network. auto takes the first that works and says which and why.",
    )


def require_gpu_option() -> Decorator:
    """``--require-gpu``."""
    return click.option("--require-gpu", is_flag=True, help="Fail rather than run on the CPU.")


def precision_option() -> Decorator:
    """``--precision``."""
    return click.option(
        "--precision", type=click.Choice(PRECISIONS), default="float32", show_default=True,
        help="What the network computes in. Less is faster where the engine and the machine have "
        "it, and an error where not; docs/performance.md says what it does to the map.",
    )


def device_option() -> Decorator:
    """``--device``: numbers of cards, as a tuple."""
    return click.option(
        "--device", callback=_card_numbers, default="0", show_default=True, metavar="N[,N…]",
        help="Number of the card; several share the patches.",
    )


def card_memory_option() -> Decorator:
    """``--card-memory``."""
    return click.option(
        "--card-memory", type=click.FloatRange(0, min_open=True), metavar="GIB",
        help="The most that CUDA may take of a card's memory for patches, where others need it "
        "too; batches that do not fit are halved. [default: all there is]",
    )


def on_card_option() -> Decorator:
    """``--on-card``."""
    return click.option(
        "--on-card", is_flag=True,
        help="Keep the map, its patches and their sum on the card, rather than patches going "
        "there and back; CUDA and one card. Off by default: it was tried on processors alone.",
    )


def _card_numbers(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r}: give numbers, such as 0 or 0,1") from None
