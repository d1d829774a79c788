"""``python -m benchmarks COMMAND``: a benchmark each, imported when it is called."""

from __future__ import annotations

import click

from blush_onnx.cli.lazy import LazyGroup, run_developers_group

COMMANDS = {
    "speed": (
        "benchmarks.speed.command:speed",
        "Time and memory of patches, maps, rescaling and the start.",
    ),
    "growth": (
        "benchmarks.growth:growth",
        "How the time of a map grows with box, voxel size, threads and batch.",
    ),
    "stages": (
        "benchmarks.stages:stages",
        "Where the time of a map goes, stage by stage.",
    ),
    "cards": (
        "benchmarks.cards.command:cards",
        "The network and whole maps on a card: ours, ONNX Runtime's options, PyTorch.",
    ),
    "refinement": (
        "benchmarks.refinement.command:refinement",
        "RELION refinement of simulated particles: plain, with Blush, without trailing.",
    ),
    "quality": (
        "benchmarks.quality:quality",
        "How the map changes with the distance of the patches.",
    ),
    "reconstruction": (
        "benchmarks.reconstruction:reconstruction",
        "Time and memory of one reconstruction.",
    ),
    "solvent-masks": (
        "benchmarks.solvent_masks:solvent_masks",
        "The solvent mask made from the network's own, against one made from the atoms.",
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
    """Run a command."""
    run_developers_group(group, "python -m benchmarks", "benchmarks")


if __name__ == "__main__":
    main()
