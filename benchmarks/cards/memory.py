"""Memory of a card while something runs on it."""

from __future__ import annotations

import ctypes
import threading
from types import TracebackType


class _Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


class CardMemory:
    """Largest use of a card's memory by all processes, looked at again and again.

    Attributes
    ----------
    peak : int or None
        Bytes since the last :meth:`reset`; None where the driver does not tell.
    """

    def __init__(self, device: int, every_s: float = 0.02) -> None:
        self.peak: int | None = None
        self._every_s = every_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._library, self._handle = None, ctypes.c_void_p()
        try:
            library = ctypes.CDLL("libnvidia-ml.so.1")
            library.nvmlInit_v2()
            if not library.nvmlDeviceGetHandleByIndex_v2(device, ctypes.byref(self._handle)):
                self._library = library
        except OSError:  # no driver
            return

    def used(self) -> int | None:
        """Bytes in use now."""
        found = _Memory()
        if self._library is None or self._library.nvmlDeviceGetMemoryInfo(
            self._handle, ctypes.byref(found)
        ):
            return None
        return int(found.used)

    def reset(self) -> None:
        """Forget the peak."""
        self.peak = self.used()

    def _look(self) -> None:
        while not self._end.wait(self._every_s):
            now = self.used()
            if now is not None:
                self.peak = max(now, self.peak or 0)

    def __enter__(self) -> CardMemory:
        self.reset()
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()
