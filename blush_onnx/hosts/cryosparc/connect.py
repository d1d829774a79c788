"""A session with a cryoSPARC server, and errors of its client in plain words."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from blush_onnx.errors import BlushError
from blush_onnx.hosts.cryosparc.facts import Access
from blush_onnx.hosts.cryosparc.tools import Tools, installed_tools

REFUSED = (401, 403)
LONGEST_REASON = 400
INCOMPATIBLE = "may not be compatible"


class CryosparcError(BlushError, RuntimeError):
    """The server refused, failed or did not answer."""


@dataclass(frozen=True)
class Session:
    """A project of a server that was logged in to.

    Attributes
    ----------
    tools : Tools
    project : object
        The client's own.
    project_uid, url : str
    say : callable
        Tells the user, at the terminal, what cannot be told in a job's log.
    """

    tools: Tools
    project: Any
    project_uid: str
    url: str
    say: Callable[[str], None]

    def find_job(self, uid: str) -> Any:
        """A job of the project.

        Raises
        ------
        CryosparcError
            There is none, or the server does not answer.
        """
        with asking(f"find {self.project_uid} {uid}"):
            return self.project.find_job(uid)


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Ask the server for something; whatever the client raises becomes one line.

    The client raises errors of its own, of the HTTP library, of pydantic and assertions.

    Parameters
    ----------
    what : str
        What the server is asked to do.

    Raises
    ------
    CryosparcError
    """
    try:
        with warnings.catch_warnings():  # of the client, on each attempt; the error says it all
            warnings.simplefilter("ignore")
            yield
    except BlushError:
        raise
    except Exception as error:
        raise CryosparcError(f"cryoSPARC could not {what}: {_reason(error)}") from error


def open_session(access: Access, project_uid: str, say: Callable[[str], None]) -> Session:
    """Log in and find a project.

    Parameters
    ----------
    access : Access
    project_uid : str
        Such as P3.
    say : callable

    Returns
    -------
    Session

    Raises
    ------
    BlushError
        cryosparc-tools is not installed.
    InputError
        Something that the server needs to know was not given.
    CryosparcError
        It does not answer, refuses the login, or has no such project.
    """
    tools = installed_tools()
    with warnings.catch_warnings(record=True) as noticed:
        warnings.simplefilter("always")
        client = _log_in(tools, access)
    for warning in noticed:
        if INCOMPATIBLE in str(warning.message):
            first = " ".join(str(warning.message).split("\n\n")[0].split())
            say(f"Warning: {first.rstrip('.')}; the two must have the same version")
    with asking(f"find the project {project_uid}"):
        project = client.find_project(project_uid)
    return Session(tools, project, project_uid, access.url, say)


def _log_in(tools: Tools, access: Access) -> Any:
    # Without the original: version 4 puts the password into its messages.
    try:
        return tools.connect(access)
    except BlushError:
        raise
    except Exception as error:
        raise CryosparcError(_login_reason(error, access)) from None


def _login_reason(error: BaseException, access: Access) -> str:
    chain = list(_chain(error))
    if any(getattr(link, "code", None) in REFUSED for link in chain):
        return f"cryoSPARC at {access.url} refused the login of {access.email or 'this user'}"
    unreachable = ("connection refused", "name or service", "timed out", "timeout", "no route")
    text = " ".join(str(link) for link in chain).lower()
    if any(sign in text for sign in unreachable):
        return (
            f"cryoSPARC at {access.url} does not answer: is it the address of your browser, and "
            "can this machine reach it?"
        )
    if "authentication not provided" in text:
        return (
            "cryoSPARC needs CRYOSPARC_EMAIL and CRYOSPARC_PASSWORD in the environment, or once: "
            f"python -m cryosparc.tools login --url {access.url}"
        )
    if "authentication" in text:
        return (
            f"cryoSPARC at {access.url} refused the login of {access.email}: check "
            "CRYOSPARC_EMAIL, CRYOSPARC_PASSWORD and, for version 4, CRYOSPARC_LICENSE_ID"
        )
    return (
        f"cannot log in to cryoSPARC at {access.url} ({type(chain[-1]).__name__}): cryosparc-tools "
        "must be of the same version as cryoSPARC"
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what caused it, the first cause last."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _reason(error: BaseException) -> str:
    """The server's own words, else the first cause, in one line of reasonable length."""
    links = list(_chain(error))
    # The clients' own errors have the request in their first line, and below it the answer.
    answers = (str(link).partition("\n")[2] for link in links if hasattr(link, "data"))
    words = next(filter(None, answers), None) or str(links[-1])
    text = " ".join(words.split()) or type(links[-1]).__name__
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]} …"
