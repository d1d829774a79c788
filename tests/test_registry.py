from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from blush_onnx import OutputError, models, registry


def staged(tiny_model: Path) -> Path:
    folder = registry.staging_folder()
    shutil.copytree(tiny_model, folder, dirs_exist_ok=True)
    return folder


def test_many_writers_of_one_name_leave_one_whole_model(tiny_model: Path) -> None:
    folders = [staged(tiny_model) for _ in range(6)]
    failures: list[Exception] = []

    def work(folder: Path) -> None:
        try:
            registry.install(folder, "mine", overwrite=True)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert models.load_model("mine").config.name == "tiny"
    assert [p.name for p in models.home().iterdir() if p.is_dir()] == ["mine"]


def test_a_replacement_that_fails_leaves_the_old_model(tiny_model: Path) -> None:
    registry.install(staged(tiny_model), "mine")
    with pytest.raises(OutputError):
        registry.install(models.home() / "nowhere", "mine", overwrite=True)
    assert models.load_model("mine").config.name == "tiny"


def test_a_registered_model_can_be_read_by_others(tiny_model: Path) -> None:
    folder = registry.install(staged(tiny_model), "mine")
    ordinary = models.home() / "ordinary"
    ordinary.mkdir()
    assert folder.stat().st_mode == ordinary.stat().st_mode  # as the user's umask says
