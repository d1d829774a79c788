"""What a provider compiles is kept under all that it depends on, by one process at a time."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest

from blush_onnx.engines import session as ort_session
from blush_onnx.engines.compiled import FOLDER_VARIABLE, kept


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def folder_of(graph: bytes, *details: object) -> Path:
    with kept("tensorrt", graph, *details) as folder:
        return folder


def test_the_same_is_found_again(cache: Path) -> None:
    with kept("tensorrt", b"graph", "1.32", "float16") as folder:
        (folder / "engine").write_bytes(b"compiled")
    assert cache in folder.parents
    assert (folder_of(b"graph", "1.32", "float16") / "engine").read_bytes() == b"compiled"


def test_another_graph_version_precision_or_card_has_a_folder_of_its_own() -> None:
    cases = [
        (b"graph", "1.32", "float16", "card a"), (b"other", "1.32", "float16", "card a"),
        (b"graph", "1.33", "float16", "card a"), (b"graph", "1.32", "float32", "card a"),
        (b"graph", "1.32", "float16", "card b"), (b"graph", "1.3", "2float16", "card a"),
    ]
    assert len({folder_of(*case) for case in cases}) == len(cases)


def test_who_comes_meanwhile_waits_and_finds_it_done() -> None:
    entered, found = threading.Event(), []

    def second() -> None:
        entered.wait(10)
        with kept("tensorrt", b"graph") as folder:
            found.append((folder / "engine").read_bytes())

    other = threading.Thread(target=second)
    other.start()
    with kept("tensorrt", b"graph") as folder:
        entered.set()
        time.sleep(0.2)
        assert not found
        (folder / "engine").write_bytes(b"whole")
    other.join(10)
    assert found == [b"whole"]


def test_where_nothing_can_be_kept_it_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING), kept("tensorrt", b"graph") as folder:
        assert folder.is_dir()
    assert not folder.exists()
    assert "what tensorrt compiles is not kept" in caplog.text


def test_tensorrt_is_told_the_folder_and_every_batch_up_to_the_default(tmp_path: Path) -> None:
    options = ort_session._keeping(tmp_path, 64)
    assert options["trt_engine_cache_path"] == str(tmp_path)
    assert options["trt_profile_min_shapes"] == "grid:1x64x64x64,local_std:1x64x64x64"
    assert options["trt_profile_max_shapes"] == "grid:8x64x64x64,local_std:8x64x64x64"
