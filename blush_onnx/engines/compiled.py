"""Compiled graphs kept for the next process, where a provider takes minutes to make them."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

FOLDER_VARIABLE = "BLUSH_ONNX_CACHE"
_NAME_LENGTH = 32


@contextmanager
def kept(provider: str, graph: bytes, *details: object) -> Iterator[Path]:
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
        written, a temporary one, which goes afterwards.
    """
    from filelock import FileLock

    name = hashlib.sha256("\0".join(map(str, details)).encode())
    name.update(hashlib.sha256(graph).digest())
    folder = _home() / provider / name.hexdigest()[:_NAME_LENGTH]
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(folder / ".lock"))
        except (OSError, NotImplementedError) as error:  # the latter: no locks on that disk
            logger.warning("what %s compiles is not kept: %s", provider, error)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="blush-onnx-")))
        yield folder


def _home() -> Path:
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_path("blush-onnx"))
