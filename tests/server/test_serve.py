"""``blush-onnx serve`` as its users start it: over stdio, on a socket, from C."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from blush_onnx import Denoiser, EngineError, regularise_half
from blush_onnx.engines.remote import RemoteEngine
from blush_onnx.server.client import Client
from tests.cli.helpers import COMMAND, DATA_STARTS, assert_fails, run_cli, start_cli
from tests.conftest import blob_and_noise
from tests.test_examples import ROOT, load

SIDE, VOXEL_SIZE = 40, 2.0
FSC = np.linspace(1, 0, SIDE // 2 + 1)


def answers(path: Path) -> None:
    """Wait until a server does: the socket is there before anybody listens."""
    until = time.monotonic() + 60
    while True:
        try:
            Client.connect(path).close()
            return
        except EngineError:
            assert time.monotonic() < until, f"no server answers at {path}"
            time.sleep(0.1)


@pytest.fixture
def served(short_folder: Path, tiny_model: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """Path of a socket and the server's process."""
    path = short_folder / "s"
    process = start_cli(
        "serve", "--socket", path, "--model", tiny_model, "--provider", "cpu", "--threads", "1"
    )
    answers(path)
    yield path, process
    process.kill()
    process.communicate()


def test_a_host_starts_its_own_server_over_stdio(tiny_model: Path, denoiser: Denoiser) -> None:
    half = blob_and_noise((SIDE,) * 3, 1)
    with Client.start(
        ["--model", str(tiny_model), "--provider", "cpu", "--threads", "1"]
    ) as client:
        answer = client.call(
            "regularise_half", {"half_map": half}, voxel_size=VOXEL_SIZE, fsc=FSC.tolist()
        )
    expected = regularise_half(
        half, VOXEL_SIZE, denoiser=denoiser, fsc=FSC, particle_diameter=None
    )
    np.testing.assert_array_equal(answer.volumes["map"], expected.map)


def test_the_socket_is_its_user_s_alone_and_goes_with_the_server(
    served: tuple[Path, subprocess.Popen[str]]
) -> None:
    path, process = served
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with Client.connect(path) as first, Client.connect(path) as second:
        assert first.server["model"] == second.server["model"] == "tiny"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert not path.exists()


TOLD_IN_ANOTHER_THREAD = """
import signal, sys, threading, time
from pathlib import Path
from blush_onnx.server.serve import serve_socket

def told():
    time.sleep(0.5)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

serve_socket(Path(sys.argv[1]), None, ready=lambda: threading.Thread(target=told).start())
"""


def test_a_signal_that_another_thread_gets_ends_the_server_too(short_folder: Path) -> None:
    path = short_folder / "s"
    done = subprocess.run(
        [sys.executable, "-c", TOLD_IN_ANOTHER_THREAD, path], timeout=30,
        capture_output=True, text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not path.exists()


def test_a_server_does_not_take_another_s_place_but_a_dead_one_s(
    served: tuple[Path, subprocess.Popen[str]], tiny_model: Path, short_folder: Path
) -> None:
    path, _ = served
    assert_fails(run_cli("serve", "--socket", path, "--model", tiny_model), "another server")
    stale = short_folder / "stale"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(stale))
    process = start_cli("serve", "--socket", stale, "--model", tiny_model, "--provider", "cpu")
    try:
        answers(stale)
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_wrong_ways_to_serve_are_refused(tmp_path: Path, tiny_model: Path) -> None:
    both = run_cli("serve", "--stdio", "--socket", "x")
    neither = run_cli("serve")
    for done in (both, neither):
        assert done.returncode == 2
        assert "one of the two" in done.stderr
    (tmp_path / "file").write_text("mine")
    done = run_cli("serve", "--socket", tmp_path / "file", "--model", tiny_model)
    assert_fails(done, "is no socket")
    assert (tmp_path / "file").read_text() == "mine"
    done = run_cli("serve", "--socket", tmp_path / ("x" * 120), "--model", tiny_model)
    assert_fails(done, "too long")


def test_what_is_no_message_ends_the_server_on_stdio_with_one_line(tiny_model: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "serve", "--stdio", "--model", tiny_model, "--provider", "cpu"],
        input=b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", capture_output=True, timeout=120,
    )
    assert done.returncode == 1
    assert b"a message starts with" in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert b'"error": "ProtocolError"' in done.stdout


def test_the_network_alone_can_be_served(
    served: tuple[Path, subprocess.Popen[str]], denoiser: Denoiser
) -> None:
    path, _ = served
    volume = blob_and_noise((SIDE,) * 3, 3)
    engine = RemoteEngine(path, denoiser.config.sha256)
    remote = Denoiser(denoiser.config, engine)
    np.testing.assert_array_equal(
        remote.denoise(volume, VOXEL_SIZE).density, denoiser.denoise(volume, VOXEL_SIZE).density
    )
    engine.close()
    with pytest.raises(EngineError, match="has the model tiny, not the one asked for"):
        RemoteEngine(path, "0" * 64)
    with pytest.raises(EngineError, match="no server answers"):
        RemoteEngine(path.with_name("nobody"), None)


def test_another_user_s_server_is_not_trusted(
    served: tuple[Path, subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = served
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    with pytest.raises(EngineError, match="belongs to another user"):
        Client.connect(path)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_client_in_c_gets_the_same_map(
    served: tuple[Path, subprocess.Popen[str]], denoiser: Denoiser, tmp_path: Path
) -> None:
    path, _ = served
    source = ROOT / "examples" / "c" / "denoise_client.c"
    assert len(source.read_text().splitlines()) < 200
    program = tmp_path / "denoise_client"
    subprocess.run(
        ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True
    )
    half = blob_and_noise((SIDE,) * 3, 1)
    half.tofile(tmp_path / "half.raw")
    np.savetxt(tmp_path / "fsc.txt", FSC, "%.6f")
    done = subprocess.run(
        [program, path, tmp_path / "half.raw", str(SIDE), str(VOXEL_SIZE), tmp_path / "fsc.txt",
         tmp_path / "out.raw"],
        capture_output=True, text=True, timeout=120,
    )
    assert done.returncode == 0, done.stderr
    expected = regularise_half(
        half, VOXEL_SIZE, denoiser=denoiser, fsc=np.round(FSC, 6), particle_diameter=None
    )
    result = np.fromfile(tmp_path / "out.raw", dtype="<f4").reshape(half.shape)
    np.testing.assert_array_equal(result, expected.map)
    wrong = subprocess.run(
        [program, path, tmp_path / "half.raw", str(SIDE), "50", tmp_path / "fsc.txt",
         tmp_path / "out.raw"],
        capture_output=True, text=True, timeout=120,
    )
    assert wrong.returncode == 1
    assert "out of range" in wrong.stderr


def test_the_python_example_denoises(tiny_model: Path) -> None:
    ratios = load(ROOT / "examples" / "python" / "served_denoiser.py").main(
        ("--model", str(tiny_model), "--provider", "cpu")
    )
    assert len(ratios) == 3
    assert max(ratios) < 1  # the sphere alone takes noise away


def test_a_relion_job_uses_the_server_when_told_to(
    served: tuple[Path, subprocess.Popen[str]], tiny_model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("gemmi", reason="gemmi reads the STAR files")
    from tests.hosts.test_relion import made_up_job

    path, process = served
    star = made_up_job(tmp_path, "_half1")
    result = star.with_suffix(".mrc")

    def work(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return run_cli("relion", star.name, "--model", tiny_model, *arguments, cwd=tmp_path)

    there = work("--server", path, "--gpu", "0")  # RELION adds a list of cards by itself
    assert there.returncode == 0, there.stderr
    from_there = values(result.read_bytes())
    assert f"served at {path}" in star.with_suffix(".log").read_text(encoding="utf-8")
    here = work("--provider", "cpu", "--threads", "1")
    assert here.returncode == 0, here.stderr
    assert from_there == values(result.read_bytes())
    process.kill()
    process.wait()
    gone = work("--server", path)
    assert gone.returncode == 1
    assert "no server answers" in gone.stderr


def values(mrc: bytes) -> bytes:
    """What stands after the header, which has the time."""
    return mrc[DATA_STARTS:]
