"""What this package knows of a server and of its jobs, whatever the version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

COMPLETED, FAILED, KILLED = "completed", "failed", "killed"


@dataclass(frozen=True)
class Access:
    """Where cryoSPARC is, and who asks.

    Attributes
    ----------
    url : str
        As in the browser, ``http://host:39000``.
    email, password : str or None
        Version 5 does without them after ``python -m cryosparc.tools login``.
    licence : str or None
        Version 4 alone asks for it.
    timeout : int
        s, after which a request that is not answered has failed.
    """

    url: str
    email: str | None
    password: str | None
    licence: str | None
    timeout: int


@dataclass(frozen=True)
class Connection:
    """What an input of a job is connected to.

    Attributes
    ----------
    job, output : str
    replaced : tuple of (slot, job, output, result)
        Slots that were connected to another output than the rest, one by one.
    """

    job: str
    output: str
    replaced: tuple[tuple[str, str, str, str], ...] = ()


@dataclass(frozen=True)
class Output:
    """An output of a job.

    Attributes
    ----------
    type : str
        ``volume``, ``mask``, ``particle`` …
    slots : mapping
        Name of a result, such as ``map_half_A``, to its data type.
    """

    type: str
    slots: Mapping[str, str]


@dataclass(frozen=True)
class JobFacts:
    """What the server's database says of a job.

    Attributes
    ----------
    uid, type, status : str
    workspaces : tuple of str
    outputs : mapping
        Name to :class:`Output`.
    inputs : mapping
        Name to what is connected to it.
    parameters : mapping
        Those that were set.
    """

    uid: str
    type: str
    status: str
    workspaces: tuple[str, ...]
    outputs: Mapping[str, Output]
    inputs: Mapping[str, tuple[Connection, ...]]
    parameters: Mapping[str, Any]
