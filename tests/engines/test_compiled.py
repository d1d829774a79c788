"""What is compiled is kept under all that it depends on, and found whole or not at all."""

from __future__ import annotations

import hashlib
import logging
import os
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from blush_onnx import Denoiser, planes
from blush_onnx.engines import onnxruntime as ort_engine
from blush_onnx.engines import session as ort_session
from blush_onnx.engines.compiled import (
    FOLDER_VARIABLE,
    MOST_FILES,
    OFF,
    KeptFile,
    kept_bytes,
    kept_folder,
)
from tests.conftest import blob_and_noise
from tests.python_without import run_python


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def folder_of(graph: bytes, *details: object) -> Path:
    with kept_folder("tensorrt", graph, *details) as folder:
        return folder


def test_the_same_is_found_again(cache: Path) -> None:
    with kept_folder("tensorrt", b"graph", "1.32", "float16") as folder:
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
        with kept_folder("tensorrt", b"graph") as folder:
            found.append((folder / "engine").read_bytes())

    other = threading.Thread(target=second)
    other.start()
    with kept_folder("tensorrt", b"graph") as folder:
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
    with caplog.at_level(logging.WARNING), kept_folder("tensorrt", b"graph") as folder:
        assert folder.is_dir()
    assert not folder.exists()
    assert "what tensorrt compiles is not kept" in caplog.text


def test_tensorrt_is_told_the_folder_and_every_batch_up_to_the_default(tmp_path: Path) -> None:
    options = ort_session._keeping(tmp_path, 64)
    assert options["trt_engine_cache_path"] == str(tmp_path)
    assert options["trt_profile_min_shapes"] == "grid:1x64x64x64,local_std:1x64x64x64"
    assert options["trt_profile_max_shapes"] == "grid:8x64x64x64,local_std:8x64x64x64"


def a_file(*details: object) -> KeptFile:
    return KeptFile("onnxruntime", b"graph", *details)


def writing(content: bytes) -> Callable[[Path], None]:
    return lambda path: None if path.write_bytes(content) else None


def test_a_file_is_found_again_under_the_same_details(cache: Path) -> None:
    a_file("1.32").store(writing(b"compiled"))
    found = a_file("1.32").find()
    assert found is not None
    assert found.read_bytes() == b"compiled"
    assert cache in found.parents
    assert a_file("1.33").find() is None


def test_whoever_comes_while_it_is_written_finds_nothing_and_then_all_of_it() -> None:
    seen: list[Path | None] = []

    def write(path: Path) -> None:
        path.write_bytes(b"comp")
        seen.append(a_file().find())
        path.write_bytes(b"compiled")

    a_file().store(write)
    assert seen == [None]
    assert a_file().find() is not None


def test_many_at_once_leave_one_good_file(cache: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: a_file().store(writing(b"compiled")), range(32)))
    assert len(list((cache / "onnxruntime").iterdir())) == 1
    assert a_file().find() is not None


def test_one_file_stays_where_each_writer_has_other_bytes(cache: Path) -> None:
    """As ONNX Runtime does: the same graph is written with another order of its fields."""
    for k in range(3):
        a_file().store(writing(b"%d" % k))
    (path,) = (cache / "onnxruntime").iterdir()
    assert a_file().find() == path


def test_files_of_others_in_that_folder_stay(cache: Path) -> None:
    folder = cache / "onnxruntime"
    (folder / "src").mkdir(parents=True)
    names = ["requirements-dev.txt", "my-notes.md", "a-b.graph", f"{'0' * 32}-{'g' * 32}.part"]
    for name in names:
        (folder / name).write_bytes(b"")
        os.utime(folder / name, (1000, 1000))
    for k in range(MOST_FILES + 2):
        a_file(k).store(writing(b"compiled"))
    assert {p.name for p in folder.iterdir()} > {"src", *names}


@pytest.mark.parametrize("folder", ["x" * 300, "~nobody-of-that-name/cache"])
def test_a_folder_that_cannot_be_had_is_done_without(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(FOLDER_VARIABLE, folder)
    assert a_file().find() is None
    a_file().store(writing(b"compiled"))
    assert kept_bytes() >= 0


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may go anywhere")
def test_so_is_a_folder_that_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "closed" / "cache"))
    (tmp_path / "closed").mkdir(mode=0o000)
    assert a_file().find() is None
    a_file().store(writing(b"compiled"))
    assert kept_bytes() == 0


def test_nothing_is_made_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file"))
    made: list[Path] = []
    a_file().store(made.append)
    assert made == []


def test_a_file_that_was_damaged_is_not_used_and_goes(cache: Path) -> None:
    a_file().store(writing(b"compiled"))
    (path,) = (cache / "onnxruntime").iterdir()
    path.write_bytes(b"compilex")
    assert a_file().find() is None
    assert not path.exists()


def test_what_fails_while_it_is_written_leaves_nothing(cache: Path) -> None:
    def write(path: Path) -> None:
        path.write_bytes(b"comp")
        raise OSError(28, "No space left on device")

    a_file().store(write)
    assert list((cache / "onnxruntime").iterdir()) == []


def test_the_file_that_was_not_used_for_longest_goes_first(cache: Path) -> None:
    for k in range(MOST_FILES):
        a_file(k).store(writing(b"%d" % k))
        (path,) = (p for p in (cache / "onnxruntime").iterdir() if p.read_bytes() == b"%d" % k)
        os.utime(path, (1000 + k, 1000 + k))
    assert a_file(0).find() is not None  # used now
    a_file("new").store(writing(b"new"))
    assert a_file(0).find() is not None
    assert a_file(1).find() is None
    assert all(a_file(k).find() for k in (*range(2, MOST_FILES), "new"))


def test_what_a_killed_process_left_goes_after_a_day(cache: Path) -> None:
    folder = cache / "onnxruntime"
    folder.mkdir(parents=True)
    old, new = (f"{digit * 32}-{digit * 32}.part" for digit in "ab")
    for name, age in ((old, 90_000), (new, 60)):
        (folder / name).write_bytes(b"")
        os.utime(folder / name, (time.time() - age,) * 2)
    a_file().store(writing(b"compiled"))
    assert [p.name for p in folder.glob("*.part")] == [new]


def test_nothing_is_kept_where_that_is_turned_off(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, OFF)
    a_file().store(writing(b"compiled"))
    assert a_file().find() is None
    assert not cache.exists()
    assert not Path(OFF).exists()


def test_the_kept_graph_gives_the_same_map_to_the_bit(
    cache: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = blob_and_noise((70, 70, 70), 1)

    def denoised() -> np.ndarray:
        return Denoiser.load(tiny_model, provider="cpu").denoise(volume, 1.5).density

    monkeypatch.setenv(FOLDER_VARIABLE, OFF)
    without = denoised()
    monkeypatch.setenv(FOLDER_VARIABLE, str(cache))
    first = denoised()
    assert len(list((cache / "onnxruntime").glob("*.graph"))) == 1
    monkeypatch.setattr(planes, "of_model", None)  # nobody writes it again
    np.testing.assert_array_equal(first, without)
    np.testing.assert_array_equal(denoised(), without)


def test_a_kept_graph_that_onnx_runtime_refuses_goes_and_is_written_anew(
    cache: Path, tiny_model: Path
) -> None:
    folder = cache / "onnxruntime"
    Denoiser.load(tiny_model, provider="cpu")
    (path,) = folder.iterdir()
    key = path.name.partition("-")[0]
    path.unlink()
    refused = folder / f"{key}-{hashlib.sha256(b'no graph').hexdigest()[:32]}.graph"
    refused.write_bytes(b"no graph")
    assert Denoiser.load(tiny_model, provider="cpu").engine.description.provider == "cpu"
    (path,) = folder.iterdir()
    assert path != refused


def test_nothing_is_kept_for_a_processor_that_is_not_known(
    cache: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort_engine, "processor", lambda: None)
    Denoiser.load(tiny_model, provider="cpu")
    assert not cache.exists()


def test_a_second_start_needs_neither_onnx_nor_the_writing_of_the_graph(
    tiny_model: Path,
) -> None:
    code = textwrap.dedent(f"""
        import sys
        from blush_onnx import Denoiser
        Denoiser.load({str(tiny_model)!r}, provider="cpu")
        print("onnx" in sys.modules)
    """)
    assert [run_python(code).stdout.split()[-1] for _ in range(2)] == ["True", "False"]
