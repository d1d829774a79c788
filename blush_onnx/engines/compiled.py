"""What an engine makes of a graph before it can compute, kept for the next process.

TensorRT compiles for minutes, into a folder of its own (:func:`kept_folder`). What ONNX
Runtime makes of the graph for a CPU takes a third of a start: one file (:class:`KeptFile`).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

FOLDER_VARIABLE = "BLUSH_ONNX_CACHE"
OFF = "off"
"""Value of the variable with which nothing is kept."""
PROVIDERS = ("onnxruntime", "tensorrt")
"""Whose folders there are."""
MOST_FILES = 6
"""Files of a provider that are kept; the one that was not used for longest goes first."""
_NAME_LENGTH = 32
_BLOCK = 1 << 20
_FINISHED, _UNFINISHED = ".graph", ".part"
_NAME = re.compile(r"[0-9a-f]{32}-[0-9a-f]{32}\.(graph|part)")
_GIVEN_UP_AFTER = 24 * 3600
"""Seconds after which an unfinished file is that of a process that was killed."""


@contextmanager
def kept_folder(provider: str, graph: bytes, *details: object) -> Iterator[Path]:
    """Context with the folder of what a provider compiles from a graph; one process at a time.

    Whoever comes while another compiles the same waits, and finds it done.

    Parameters
    ----------
    provider : str
        Short name.
    graph : bytes
        The ONNX graph that is compiled.
    *details : object
        Whatever else the result depends on: versions, precision, card, shapes.

    Yields
    ------
    Path
        Below ``$BLUSH_ONNX_CACHE``, else the user's cache folder; where neither can be
        written, or the variable is ``off``, a temporary one, which goes afterwards.
    """
    from filelock import FileLock

    cache = cache_folder()
    with ExitStack() as stack:
        try:
            if cache is None:
                raise OSError(f"{FOLDER_VARIABLE} is {OFF}")
            folder = cache / provider / _key(graph, *details)
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(folder / ".lock"))
        except (OSError, NotImplementedError) as error:  # the latter: no locks on that disk
            logger.warning("what %s compiles is not kept: %s", provider, error)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="blush-onnx-")))
        yield folder


class KeptFile:
    """The file that a provider made of a graph.

    Written under another name and then renamed, so that whoever comes meanwhile finds all of
    it or nothing, and needs no lock; its checksum is part of its name. Whatever goes wrong with
    the folder, one does without.

    Parameters
    ----------
    provider, graph, *details
        As for :func:`kept_folder`.
    """

    def __init__(self, provider: str, graph: bytes, *details: object) -> None:
        cache = cache_folder()
        self._folder = None if cache is None else cache / provider
        self._key = _key(graph, *details)

    def find(self) -> Path | None:
        """The file, if it is there and as it was written."""
        if self._folder is None:
            return None
        with contextlib.suppress(OSError):
            for path in self._folder.glob(f"{self._key}-*{_FINISHED}"):
                if path.stem.endswith(_checksum(path)):
                    with contextlib.suppress(OSError):  # the folder may be another's
                        os.utime(path)
                    return path
                discard(path)
        return None

    def store(self, write: Callable[[Path], None]) -> None:
        """Keep what `write` puts into the path it is given; where that fails, do without."""
        if self._folder is None:
            return
        unfinished = self._folder / f"{self._key}-{uuid.uuid4().hex}{_UNFINISHED}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            unfinished.touch(exist_ok=False)  # before all the work, where that is in vain
            write(unfinished)
            name = f"{self._key}-{_checksum(unfinished)}{_FINISHED}"
            unfinished.replace(self._folder / name)
            _tidy(self._folder)
        except Exception as error:  # a full disk shows itself in whatever way `write` has
            logger.info("%s's graph is not kept: %s", self._folder.name, error)
            discard(unfinished)


def discard(path: Path) -> None:
    """Remove a file, if it is there and may be removed."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def kept_bytes() -> int:
    """What all that is kept takes on the disk."""
    cache, total = cache_folder(), 0
    for folder in [] if cache is None else [cache / provider for provider in PROVIDERS]:
        with contextlib.suppress(OSError):  # others write and remove meanwhile
            for path in folder.rglob("*"):
                total += path.stat().st_size
    return total


def _tidy(folder: Path) -> None:
    """Leave one file for each graph, of the graphs that were used last."""
    used: set[str] = set()
    for last, path in sorted(_ours(folder), reverse=True):
        key = path.stem.partition("-")[0]
        if path.suffix == _UNFINISHED:
            if time.time() - last > _GIVEN_UP_AFTER:
                discard(path)
        elif key in used or len(used) == MOST_FILES:
            discard(path)
        else:
            used.add(key)


def _ours(folder: Path) -> Iterator[tuple[float, Path]]:
    """When each file was used last; what others have there is left alone."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # another process tidies as well
            if _NAME.fullmatch(path.name):
                yield path.stat().st_mtime, path


def _key(graph: bytes, *details: object) -> str:
    name = hashlib.sha256("\0".join(map(str, details)).encode())
    name.update(hashlib.sha256(graph).digest())
    return name.hexdigest()[:_NAME_LENGTH]


def _checksum(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()[:_NAME_LENGTH]


def cache_folder() -> Path | None:
    """``$BLUSH_ONNX_CACHE``, else a folder in the user's cache; None where it is ``off``."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen == OFF:
        return None
    if chosen:
        with contextlib.suppress(RuntimeError):  # of a user that is not known
            return Path(chosen).expanduser()
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_cache_path("blush-onnx"))
