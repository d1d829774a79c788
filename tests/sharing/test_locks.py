from __future__ import annotations

import stat
from pathlib import Path

import pytest

from blush_onnx import BlushError
from blush_onnx.sharing.locks import LockedFile, living, machine_folder


def test_folders_are_open_to_all_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLUSH_ONNX_LOCKS", str(tmp_path))
    folder = machine_folder("cards", "queue")
    assert folder == tmp_path / "blush-onnx" / "cards" / "queue"
    for place in (folder, *folder.parents[:2]):
        assert stat.S_IMODE(place.stat().st_mode) == 0o1777
    held = LockedFile.attempt(folder / "lock")
    assert held is not None
    assert stat.S_IMODE(held.path.stat().st_mode) == 0o666
    held.release()


def test_by_default_they_are_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLUSH_ONNX_LOCKS", raising=False)
    assert machine_folder().parts[1] in ("dev", "run", "tmp", "var")


def test_no_folder_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLUSH_ONNX_LOCKS", str(tmp_path / "none"))
    with pytest.raises(BlushError, match="BLUSH_ONNX_LOCKS"):
        machine_folder()


def test_links_are_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLUSH_ONNX_LOCKS", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "blush-onnx").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BlushError):
        machine_folder()
    (tmp_path / "target").touch()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(OSError):
        LockedFile.attempt(tmp_path / "link")


def test_a_lock_is_held_once_until_released(tmp_path: Path) -> None:
    held = LockedFile.attempt(tmp_path / "lock")
    assert held is not None
    assert LockedFile.attempt(tmp_path / "lock") is None
    held.release()
    held.release()
    again = LockedFile.attempt(tmp_path / "lock")
    assert again is not None
    again.release(remove=True)
    assert not (tmp_path / "lock").exists()


def test_what_nobody_holds_is_cleared_away(tmp_path: Path) -> None:
    held = LockedFile.announced(tmp_path / "b", "mine")
    (tmp_path / "a").write_text("left behind")
    assert list(living(tmp_path)) == [tmp_path / "b"]
    assert held.path.read_text() == "mine"
    assert not (tmp_path / "a").exists()
    held.release(remove=True)
