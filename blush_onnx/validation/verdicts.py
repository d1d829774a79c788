"""What each test came to, in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from blush_onnx.boxes import EvenCube
from blush_onnx.results import Regularised
from blush_onnx.validation.account import LARGEST_SHARE_BEYOND, ShellAccount
from blush_onnx.validation.overfitting import RandomisationTest
from blush_onnx.validation.repeats import Repeats
from blush_onnx.validation.symptoms import CurveSymptoms, SolventCorrelation

NO_NETWORK = "it tests the denoiser, and no network was to run"


@dataclass(frozen=True)
class Verdict:
    """What a test came to.

    Attributes
    ----------
    test : str
        Its name.
    outcome : {"passed", "flagged", "not run"}
    text : str
        In plain words, with the numbers.
    """

    test: str
    outcome: Literal["passed", "flagged", "not run"]
    text: str


def of_symptoms(found: CurveSymptoms) -> Verdict:
    """Whether the FSC stays near 0 beyond where it fell."""
    if not found.judged:
        return Verdict(
            "FSC beyond its fall", "not run",
            "the curve falls so near its end that too few shells are left to judge",
        )
    text = "; ".join(found.findings) or "beyond where it falls the curve stays near 0"
    return Verdict("FSC beyond its fall", "flagged" if found.flagged else "passed", text)


def of_solvent(found: SolventCorrelation | str) -> Verdict:
    """Whether the halves agree where there is no molecule; a text says why there is no telling."""
    test = "Agreement of the solvent"
    if isinstance(found, str):
        return Verdict(test, "not run", found)
    if not found.judged:
        return Verdict(
            test, "not run", "the halves hold nothing in the solvent: they were masked already"
        )
    return _of(test, not found.flagged, found.verdict)


def of_accounts(
    accounts: tuple[ShellAccount, ...], regularised: Regularised, trailing: bool
) -> Verdict:
    """With spectral trailing next to nothing may lie where the halves do not agree."""
    test = "Nothing beyond the resolution"
    if not trailing:
        return Verdict(test, "not run", "spectral trailing was switched off")
    if regularised.beyond_network:
        return Verdict(
            test, "not run", "the halves agree further than the network reaches: nothing is cut off"
        )
    if not EvenCube.around(regularised.average.shape).is_box:
        return Verdict(
            test, "not run", "the box is no even cube: to cut it out of one smears every shell"
        )
    largest = max(account.share_beyond_rho or 0.0 for account in accounts)
    return _of(
        test, all(account.keeps_to_rho for account in accounts),
        f"of the denoised halves' energy {largest:.1e} lies at {regularised.rho_angstrom:.2f} Å "
        f"and beyond (at most {LARGEST_SHARE_BEYOND:g})",
    )


def of_randomisation(
    found: RandomisationTest | None, networked: bool, trailing: bool
) -> Verdict:
    """Whether the denoiser, as it was used, makes halves agree that do not."""
    test = "Phase randomisation"
    if found is None:
        return Verdict(test, "not run", "give --phase-randomise Å" if networked else NO_NETWORK)
    judged = found.with_trailing if trailing else found.without_trailing
    return _of(test, not judged.flagged, found.verdict)


def of_repeats(found: Repeats | str | None, networked: bool) -> Verdict:
    """Whether denoising comes to rest; a text says why there is no telling."""
    if found is None:
        return Verdict("Repeats", "not run", "give --repeats" if networked else NO_NETWORK)
    if isinstance(found, str):
        return Verdict("Repeats", "not run", found)
    return _of("Repeats", found.stable, found.verdict)


def _of(test: str, passed: bool, text: str) -> Verdict:
    for word in ("passed: ", "flagged: "):
        text = text.removeprefix(word)
    return Verdict(test, "passed" if passed else "flagged", text)
