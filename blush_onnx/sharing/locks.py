"""Locked files in a folder that only this machine sees.

The system releases the lock of a process that dies, so that none is ever stale.
Shared folders of a cluster are avoided: locks on NFS hang, or do not hold.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where RELION does not run
    fcntl = None  # type: ignore[assignment]

from blush_onnx.errors import BlushError

FOLDER_NAME = "blush-onnx"
_ROOTS = ("/dev/shm", "/run/lock")  # noqa: S108 - memory of this machine alone


def machine_folder(*parts: str) -> Path:
    """A folder for all users of this machine, made where it is not there yet.

    Parameters
    ----------
    *parts : str
        Names below it.

    Returns
    -------
    Path
        Below ``$BLUSH_ONNX_LOCKS``, else below /dev/shm, /run/lock or the system's
        folder for temporary files, the first that can be written to.

    Raises
    ------
    BlushError
        None can be.
    """
    chosen = os.environ.get("BLUSH_ONNX_LOCKS")
    tried = []
    for root in [chosen] if chosen else [*_ROOTS, ""]:
        root = root or tempfile.gettempdir()
        tried.append(root)
        folder = Path(root, FOLDER_NAME)
        try:
            if not Path(root).is_dir():
                continue
            for place in (folder, *(folder.joinpath(*parts[: i + 1]) for i in range(len(parts)))):
                _make_folder(place)
        except OSError:
            continue
        return folder.joinpath(*parts)
    raise BlushError(
        f"no folder for locks: {', '.join(tried)} cannot be written to; name one of this "
        "machine's own disk in BLUSH_ONNX_LOCKS"
    )


def _make_folder(folder: Path) -> None:
    """A folder anyone may add to, and only the owner of a file remove it from."""
    try:
        folder.mkdir()
        folder.chmod(0o1777)
    except FileExistsError:
        if not stat.S_ISDIR(folder.lstat().st_mode) or not os.access(folder, os.W_OK):
            raise


class LockedFile:
    """A file that is locked as long as this process lives or until it is released.

    Attributes
    ----------
    path : Path
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def attempt(cls, path: Path) -> LockedFile | None:
        """Lock a file, which is made where there is none; None where another process has it."""
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Somebody may have cleared the folder meanwhile: a lock that none can find is none.
            found = os.path.samestat(os.fstat(descriptor), path.stat())
        except OSError:
            found = False
        if not found:
            os.close(descriptor)
            return None
        return cls(path, descriptor)

    @classmethod
    def announced(cls, path: Path, text: str) -> LockedFile:
        """A new file with a text, locked before anybody can see it."""
        hidden = path.with_name(f".{path.name}")
        held = cls.attempt(hidden)
        if held is None:
            raise BlushError(f"{hidden} is locked by another process")
        held.write(text)
        hidden.rename(path)
        held.path = path
        return held

    def write(self, text: str) -> None:
        """Replace the file's text; one that belongs to another user is left as it is."""
        if self._descriptor is None:
            return
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, text.encode(), 0)
        except OSError:
            return

    def release(self, *, remove: bool = False) -> None:
        """Let go; a second time does nothing."""
        if self._descriptor is None:
            return
        if remove:
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None


def living(folder: Path) -> Iterator[Path]:
    """Files of a folder that a living process has locked, in the order of their names.

    What the dead left behind is removed on the way.
    """
    try:
        paths = sorted(folder.iterdir())
    except OSError:  # cleared away: a log-out can do that
        return
    for path in paths:
        if path.name.startswith("."):
            continue
        try:
            held = LockedFile.attempt(path)
        except OSError:  # gone meanwhile
            continue
        if held is None:
            yield path
            continue
        try:
            held.release(remove=True)
        except OSError:  # another user's: it does no harm
            held.release()


def _open(path: Path) -> int:
    """Open for locking, whoever made the file.

    A file of another user in a folder like /tmp may not be opened with O_CREAT.
    """
    for _ in range(3):
        try:
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except PermissionError:
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            pass
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o666)
        except FileExistsError:  # made by another process between the two
            continue
        os.fchmod(descriptor, 0o666)
        return descriptor
    raise FileNotFoundError(path)
