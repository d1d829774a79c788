"""``python -m training COMMAND``: each imported when it is called."""

from __future__ import annotations

import logging

import click

from blush_onnx.cli.lazy import LazyGroup, run_developers_group

COMMANDS = {
    "prepare": (
        "training.prepare.command:prepare",
        "Half-maps, real or simulated from structures, to training volumes.",
    ),
    "train": ("training.train:train", "Train a model as a configuration file says."),
    "calibrate": (
        "training.calibrate:calibrate",
        "Put the border of a model's solvent mask where it agrees best with validation volumes.",
    ),
    "evaluate": (
        "training.evaluate.command:evaluate",
        "Judge a model on held-out structures, against filters and other models.",
    ),
    "finetune": (
        "training.finetune.command:finetune",
        "Train a model further on the two half-maps of one's own data.",
    ),
}


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def group() -> None:
    """Training of Blush models (docs/training.md)."""


def main() -> None:
    """Run a command."""
    logging.basicConfig(format="%(message)s")
    run_developers_group(group, "python -m training", "training")


if __name__ == "__main__":
    main()
