"""Signals that end the process become exceptions, so that it can tidy up."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

WAIT_SECONDS = 0.05
"""Until a signal that came amid an import is looked at again."""
LONGEST_WAITS = 200
ENDING = {"SIGTERM": signal.SIG_DFL, "SIGHUP": signal.SIG_DFL, "SIGINT": signal.default_int_handler}
"""Name to the handler that is replaced; another one, or being ignored (nohup), is left alone."""


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived; passes every handler of errors on its way out."""


def end_tidily() -> None:
    """Raise :class:`Terminated`, or KeyboardInterrupt, where such a signal arrives."""
    for name, replaced in ENDING.items():
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == replaced:
            error = KeyboardInterrupt if name == "SIGINT" else Terminated
            signal.signal(number, _Handler(error))


class _Handler:
    """Raises, though never amid an import.

    Compiled modules call Python while they are imported, and abort the process with a
    traceback of their own when such a call fails.
    """

    def __init__(self, error: type[BaseException]) -> None:
        self._error = error
        self._waits = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if _importing(frame) and self._waits < LONGEST_WAITS:
            self._waits += 1
            again = threading.Timer(WAIT_SECONDS, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        raise self._error


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
