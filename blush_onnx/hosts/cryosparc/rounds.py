"""Rounds: denoise, refine from the denoised map, and again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from blush_onnx.errors import InputError
from blush_onnx.hosts.cryosparc.connect import CryosparcError, Session, asking
from blush_onnx.hosts.cryosparc.external import DENOISED, Done, denoise_job
from blush_onnx.hosts.cryosparc.facts import COMPLETED, Connection, JobFacts
from blush_onnx.hosts.cryosparc.source import Source
from blush_onnx.hosts.cryosparc.work import Request

LOW_PASS = "refine_res_init"  # noqa: S105
"""Parameter of homogeneous and non-uniform refinements: "Initial lowpass resolution (A)"."""
VOLUME = "volume"
"""Their input for the initial volume."""
ACTIVE = ("queued", "launched", "started", "running", "waiting")
PATIENCE_SECONDS = 900.0
"""How long a server may not answer while a refinement is waited for."""


@dataclass(frozen=True)
class Plan:
    """What the refinements are.

    Attributes
    ----------
    rounds : int
    workspace : str
    lane, hostname : str or None
    gpus : tuple of int
        As for the client's ``job.queue``.
    wait_seconds : float
        The longest that one may take, queue included.
    poll_seconds : float
    """

    rounds: int
    workspace: str
    lane: str | None = None
    hostname: str | None = None
    gpus: tuple[int, ...] = ()
    wait_seconds: float = 72 * 3600.0
    poll_seconds: float = 15.0


@dataclass(frozen=True)
class Round:
    """One round that is done.

    Attributes
    ----------
    denoising : Done
        Of the half-maps that the refinement before left.
    refinement : str
        That started from it.
    """

    denoising: Done
    refinement: str


def run_rounds(
    session: Session,
    source: Source,
    plan: Plan,
    request: Request,
    next_source: Callable[[str], Source],
) -> list[Round]:
    """Denoise, refine with the denoised map as reference and its cut-off as low-pass, repeat.

    Each refinement is of the type of the first and has its parameters and connections, but
    for the initial volume and its low-pass.

    Parameters
    ----------
    session : Session
    source : Source
        The refinement to begin with.
    plan : Plan
    request : Request
    next_source : callable
        Finds the half-maps and the mask of a refinement by its UID.

    Returns
    -------
    list of Round

    Raises
    ------
    InputError
        The first job is no refinement of such a kind.
    CryosparcError
        A refinement fails, is killed or takes too long, or the server fails.
    """
    first = source.job
    _check_refinement(session, first)
    done: list[Round] = []
    for number in range(1, plan.rounds + 1):
        session.say(f"Round {number} of {plan.rounds}: denoising {source.job.uid}")
        denoising = denoise_job(session, source, plan.workspace, request)
        uid = _refine(session, first, denoising, plan, number)
        done.append(Round(denoising, uid))
        wait_for(session, uid, plan)
        if number < plan.rounds:
            source = next_source(uid)
    return done


def low_pass(cut_off_angstrom: float) -> float:
    """A cut-off as a parameter: two decimals, never finer than it is."""
    return math.ceil(cut_off_angstrom * 100 - 1e-6) / 100


def wait_for(session: Session, uid: str, plan: Plan) -> None:
    """Wait until a refinement has completed.

    Parameters
    ----------
    session : Session
    uid : str
    plan : Plan

    Raises
    ------
    CryosparcError
        It has failed, was killed or cleared, or takes too long; or the server has not
        answered for a quarter of an hour.
    """
    begin = answered = time.monotonic()
    try:
        while True:
            try:
                status = session.find_job(uid).status
                answered = time.monotonic()
            except CryosparcError:
                if time.monotonic() - answered > PATIENCE_SECONDS:
                    raise
                status = ACTIVE[0]
            if status == COMPLETED:
                return
            if status not in ACTIVE:
                raise CryosparcError(
                    f"{uid}, the refinement from the denoised map, is {status}: its log in "
                    "cryoSPARC says why; the rounds end here"
                )
            if time.monotonic() - begin > plan.wait_seconds:
                raise CryosparcError(
                    f"{uid} has not completed after {plan.wait_seconds / 3600:g} hours (--wait): "
                    f"it is {status}, and goes on in cryoSPARC"
                )
            time.sleep(plan.poll_seconds)
    except BaseException as error:
        if not isinstance(error, Exception):  # Ctrl-C or a signal
            session.say(f"{uid} goes on in cryoSPARC")
        raise


def _check_refinement(session: Session, facts: JobFacts) -> None:
    job = session.find_job(facts.uid)
    with asking(f"describe the parameters of {facts.uid}"):
        names = session.tools.parameter_names(job)
    if LOW_PASS not in names or not facts.inputs.get(VOLUME):
        raise InputError(
            f"{facts.uid} ({facts.type}) has no initial volume with an initial low-pass "
            f"(input {VOLUME}, parameter {LOW_PASS}): rounds are for homogeneous and non-uniform "
            "refinements"
        )


def _refine(
    session: Session, first: JobFacts, denoising: Done, plan: Plan, number: int
) -> str:
    connections = {
        name: [(connection.job, connection.output) for connection in connected]
        for name, connected in first.inputs.items() if connected
    }
    connections[VOLUME] = [(denoising.uid, DENOISED)]
    parameters: dict[str, Any] = {
        **first.parameters, LOW_PASS: low_pass(denoising.cut_off_angstrom)
    }
    with asking(f"create a refinement like {first.uid}"):
        job = session.project.create_job(
            plan.workspace, first.type, connections=connections, params=parameters,
            title=f"Round {number}: refinement from {denoising.uid}",
            desc=f"Both half-sets start from one denoised map, {denoising.uid}, low-pass filtered "
            f"at {parameters[LOW_PASS]:g} Å: a better FSC is no proof here.",
        )
        for name, connected in first.inputs.items():
            if name != VOLUME:
                _connect_replaced(job, name, connected)
        job.queue(lane=plan.lane, hostname=plan.hostname, gpus=list(plan.gpus))
    session.say(
        f"{session.project_uid} {job.uid}, a refinement ({first.type}) from {denoising.uid}, "
        f"initial low-pass {parameters[LOW_PASS]:g} Å: queued"
    )
    return str(job.uid)


def _connect_replaced(job: Any, name: str, connected: tuple[Connection, ...]) -> None:
    """Slots that the first refinement has from elsewhere, such as particles at another size."""
    for index, connection in enumerate(connected):
        for slot, source, output, result in connection.replaced:
            job.connect_result(name, index, slot, source, output, result)
