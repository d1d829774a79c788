"""``python -m benchmarks COMMAND``: a benchmark each, imported when it is called."""

from __future__ import annotations

import click

from blush_onnx.cli.lazy import LazyGroup
from blush_onnx.errors import BlushError

COMMANDS = {
    "refinement": (
        "benchmarks.refinement.command:refinement",
        "RELION refinement of simulated particles: plain, with Blush, without trailing.",
    ),
    "reconstruction": (
        "benchmarks.reconstruction:reconstruction",
        "Time and memory of one reconstruction.",
    ),
}


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def group() -> None:
    """Benchmarks of blush-onnx."""


def main() -> None:
    """Run a benchmark; an error that was foreseen is one line, any other a traceback."""
    try:
        group(prog_name="python -m benchmarks")
    except BlushError as error:
        raise SystemExit(f"Error: {error}") from None


if __name__ == "__main__":
    main()
