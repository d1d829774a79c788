"""Which refinements the benchmark consists of, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blush_onnx.errors import InputError

LEVELS = {"hard": 0.012, "middle": 0.015, "easy": 0.02}
"""Signal-to-noise ratio of the images at each noise level, the most telling first.

The hardest is about the noisiest at which refinement without help still improves poses
that start 10° off; below it both arms lose them, and compare nothing.
"""


@dataclass(frozen=True)
class Arm:
    """A way of refining.

    Attributes
    ----------
    name : str
    blush : bool
        Whether Blush makes the references, or RELION's own reconstruction.
    trailing : bool
        Whether Blush's references follow the FSC (spectral trailing).
    randomised : bool
        Whether the particles' phases are random beyond some resolution.
    """

    name: str
    blush: bool = False
    trailing: bool = True
    randomised: bool = False


ARMS = {
    arm.name: arm
    for arm in (
        Arm("plain"),
        Arm("blush", blush=True),
        Arm("blush-no-trailing", blush=True, trailing=False),
        Arm("randomised-plain", randomised=True),
        Arm("randomised-blush", blush=True, randomised=True),
        Arm("randomised-blush-no-trailing", blush=True, trailing=False, randomised=True),
    )
}


@dataclass(frozen=True)
class Run:
    """One refinement to be done."""

    level: str
    snr: float
    seed: int
    arm: Arm

    @property
    def name(self) -> str:
        """For folders and files."""
        return f"{self.level}_seed{self.seed}_{self.arm.name}"


def planned(
    levels: Sequence[str], seeds: Sequence[int], arms: Sequence[str], randomised_level: str
) -> list[Run]:
    """Refinements in the order in which they tell most.

    One seed after the other; within a seed the levels as given, each with all
    its arms, those with randomised phases after the first level.

    Parameters
    ----------
    levels : sequence of str
        Names of LEVELS, or signal-to-noise ratios.
    seeds : sequence of int
    arms : sequence of str
        Names of ARMS; all where empty.
    randomised_level : str
        Level of the arms with randomised phases.

    Returns
    -------
    list of Run

    Raises
    ------
    InputError
        An unknown level.
    """
    wanted = [arm for arm in ARMS.values() if not arms or arm.name in arms]
    runs = []
    for seed in seeds:
        for place, level in enumerate(levels):
            runs += [
                Run(level, snr_of(level), seed, arm) for arm in wanted if not arm.randomised
            ]
            if place == 0:
                runs += [
                    Run(randomised_level, snr_of(randomised_level), seed, arm)
                    for arm in wanted
                    if arm.randomised
                ]
    return runs


def snr_of(level: str) -> float:
    """Signal-to-noise ratio of a level by name, or of a number given as one."""
    if level in LEVELS:
        return LEVELS[level]
    try:
        snr = float(level)
    except ValueError:
        snr = 0.0
    if not 0 < snr < float("inf"):
        raise InputError(
            f"{level} is no noise level: give {', '.join(LEVELS)} or a signal-to-noise ratio"
        )
    return snr
