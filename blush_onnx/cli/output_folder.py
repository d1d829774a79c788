"""A folder of results that appear together or not at all."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from blush_onnx.errors import OutputError


class OutputFolder:
    """Context that stages files next to their place and moves them there on success.

    Parameters
    ----------
    folder : Path
        Made if it does not exist, and removed again when nothing gets into it.
    names : sequence of str
        Files that will be written.
    overwrite : bool
        Whether existing files of these names may be replaced.
    replaces : sequence of str
        Files of an earlier run that would belong to nothing: removed when these appear.
    """

    def __init__(
        self, folder: Path, names: Sequence[str], overwrite: bool, replaces: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self.names = list(names)
        self._overwrite = overwrite
        self._replaces = tuple(replaces)
        self._made: list[Path] = []
        self._staging: Path | None = None

    def __enter__(self) -> OutputFolder:
        folders = [name for name in self.names if (self.folder / name).is_dir()]
        if folders:
            raise OutputError(
                f"{self.folder / folders[0]} is a folder: choose another --out, or remove it"
            )
        existing = [name for name in self.names if (self.folder / name).exists()]
        if existing and not self._overwrite:
            raise OutputError(
                f"{self.folder / existing[0]} exists already: choose another --out, or replace "
                "it with --overwrite"
            )
        self._made = [p for p in (self.folder, *self.folder.parents) if not p.exists()]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._staging = Path(tempfile.mkdtemp(prefix=".blush-onnx-", dir=self.folder))
        except OSError as error:
            self._clean()
            raise OutputError(
                f"cannot write to the folder {self.folder}: {error.strerror or error}"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._move()
        finally:
            with _signals_held():
                self._clean()

    def require_space(self, needed: int) -> None:
        """Refuse to start what would not fit on the disk.

        Raises
        ------
        OutputError
            Less than `needed` bytes are free.
        """
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise OutputError(
                f"the results need {needed / 2**20:.0f} MiB, and {free / 2**20:.0f} MiB are free "
                f"in {self.folder}"
            )

    def require_other_than(self, inputs: Sequence[Path]) -> None:
        """Refuse to replace or remove a file that the results are made from.

        Raises
        ------
        OutputError
            An output would take an input's place, or an input would go with an earlier run's.
        """
        for name in dict.fromkeys((*self.names, *self._replaces)):
            for path in inputs:
                target = self.folder / name
                if target.exists() and path.exists() and target.samefile(path):
                    raise OutputError(
                        f"{path} is an input and would be replaced: choose another --out"
                    )

    def write_text(self, name: str, text: str) -> None:
        """Write one of the files, as text.

        Raises
        ------
        OutputError
            It cannot be written.
        """
        try:
            # File names that are not Unicode come back from the system with lone surrogates.
            self.path(name).write_text(text, encoding="utf-8", errors="replace")
        except OSError as error:
            raise OutputError(
                f"cannot write {self.folder / name}: {error.strerror or error}"
            ) from error

    def withdraw(self, name: str) -> None:
        """Do without one of the files after all."""
        self.path(name).unlink(missing_ok=True)
        self.names.remove(name)

    def path(self, name: str) -> Path:
        """Where to write one of the files for now."""
        if self._staging is None or name not in self.names:
            raise ValueError(f"{name} was not announced")
        return self._staging / name

    def _move(self) -> None:
        with _signals_held():
            try:
                for name in self.names:
                    self.path(name).replace(self.folder / name)
                for name in set(self._replaces if self._overwrite else ()) - set(self.names):
                    (self.folder / name).unlink(missing_ok=True)
            except OSError as error:
                raise OutputError(
                    f"cannot write to the folder {self.folder}: {error.strerror or error}"
                ) from error

    def _clean(self) -> None:
        if self._staging is not None:
            shutil.rmtree(self._staging, ignore_errors=True)
        for folder in self._made:  # deepest first
            try:
                folder.rmdir()
            except OSError:  # not empty: it holds the results
                break


@contextmanager
def _signals_held() -> Iterator[None]:
    """Keep Ctrl-C and SIGTERM from stopping half-way through a move of files."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    held = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
