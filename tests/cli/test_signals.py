"""What a command does when it is told to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.helpers import Options, assert_unwritten, listing, start_cli
from tests.conftest import blob_and_noise, write_mrc

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of this kind are POSIX")


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def long_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map that takes the tiny model many seconds."""
    folder = tmp_path_factory.mktemp("long")
    return write_mrc(folder / "map.mrc", blob_and_noise((150, 150, 150), 1), 1.5)


def stopped_by(number: signal.Signals, long_work: Path, out: Path, tiny: Options) -> str:
    """Stop a run half-way; what it said."""
    process = start_cli("denoise", long_work, "--out", out, *tiny, "--stride", "10")
    try:
        wait_for(lambda: any(name.startswith(".") for name in listing(out)))
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(number)
        printed, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert printed == ""
    assert process.returncode == {signal.SIGINT: 1, signal.SIGTERM: 143}[number]
    return said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_nothing(
    number: signal.Signals, long_work: Path, out: Path, tiny: Options
) -> None:
    said = stopped_by(number, long_work, out, tiny)
    word = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}[number]
    assert len(said.splitlines()) == 1, said
    assert said.startswith(f"Error: {word}")
    assert_unwritten(out)


def test_a_stopped_run_leaves_the_old_results(
    long_work: Path, tmp_path: Path, tiny: Options
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "denoised.mrc").write_text("old")
    stopped_by(signal.SIGTERM, long_work, out, (*tiny, "--overwrite"))
    assert listing(out) == ["denoised.mrc"]
    assert (out / "denoised.mrc").read_text() == "old"


ASKED_TO_END_AMID_AN_IMPORT = """
import sys, time
import blush_onnx.cli.signals as signals
signals.LONGEST_WAITS = int(sys.argv[1])
signals.end_tidily()
try:
    import asked_to_end
    print("imported", flush=True)
    time.sleep(60)
except (signals.Terminated, KeyboardInterrupt) as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("waits", "first"), [(200, ["imported"]), (0, [])])
def test_an_import_is_finished_first_unless_it_takes_too_long(
    number: signal.Signals, waits: int, first: list[str], tmp_path: Path
) -> None:
    (tmp_path / "asked_to_end.py").write_text(
        f"import os, time\nos.kill(os.getpid(), {int(number)})\ntime.sleep(0.2)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", ASKED_TO_END_AMID_AN_IMPORT, str(waits)], timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(tmp_path)])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        capture_output=True, text=True,
    )
    error = {signal.SIGINT: "KeyboardInterrupt", signal.SIGTERM: "Terminated"}[number]
    assert done.stdout.split() == [*first, error], done.stderr
    assert done.stderr == ""
