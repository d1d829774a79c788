from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from blush_onnx import EngineError
from blush_onnx.sharing.cards import Card, cuda_cards, one_of

ONE = [Card(0, "GPU-one")]
TWO = [*ONE, Card(1, "GPU-two")]
HOLD = (
    "import sys\nfrom blush_onnx.sharing.cards import Card, one_of\n"
    "with one_of([Card(0, 'GPU-one')], 60, 'half 1'):\n    print('in', flush=True)\n"
    "    sys.stdin.read()"
)
DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return 0; }
int cuDeviceGetCount(int *n) { *n = 2; return 0; }
int cuDeviceGet(int *device, int n) { *device = 40 + n; return 0; }
int cuDeviceGetUuid_v2(unsigned char *uuid, int device) { memset(uuid, device, 16); return 0; }
"""


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLUSH_ONNX_LOCKS", str(tmp_path))


@pytest.fixture
def holder() -> subprocess.Popen[str]:
    """Another process that holds card 0 until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    return process


def test_a_card_is_held_by_one_job_at_a_time(holder: subprocess.Popen[str]) -> None:
    with holder:
        with one_of(TWO, 60, "half 2") as card:
            assert card == TWO[1]
        threading.Timer(0.5, holder.stdin.close).start()
        start = time.monotonic()
        with one_of(ONE, 60, "half 2") as card:
            assert card == TWO[0]
        assert time.monotonic() - start > 0.3


def test_a_wait_in_vain_ends_by_the_clock_and_says_who_holds_the_card(
    holder: subprocess.Popen[str],
) -> None:
    with holder:
        start = time.monotonic()
        expected = rf"card 0 is held by process {holder.pid} \(half 1\).*--device-timeout"
        with pytest.raises(EngineError, match=expected), one_of(ONE, 1, "half 2"):
            pass
        assert 0.9 < time.monotonic() - start < 3
        holder.communicate("")


def test_the_card_of_a_job_that_died_is_free_at_once(holder: subprocess.Popen[str]) -> None:
    with holder:
        holder.kill()
        holder.wait()
        start = time.monotonic()
        with one_of(ONE, 60, "half 2"):
            assert time.monotonic() - start < 1


def test_whoever_waits_longest_is_next(holder: subprocess.Popen[str]) -> None:
    order: list[int] = []

    def wait(number: int) -> None:
        with one_of(ONE, 60, str(number)):
            order.append(number)
            time.sleep(0.05)

    waiting = [threading.Thread(target=wait, args=[number]) for number in range(4)]
    with holder:
        for thread in waiting:
            thread.start()
            time.sleep(0.1)
        holder.communicate("")
        for thread in waiting:
            thread.join()
    assert order == [0, 1, 2, 3]


def test_a_queue_that_moves_is_no_reason_to_give_up(holder: subprocess.Popen[str]) -> None:
    def hold(seconds: float) -> None:
        with one_of(ONE, 60, "before"):
            time.sleep(seconds)

    with holder:
        before = [threading.Thread(target=hold, args=[0.8]) for _ in range(3)]
        for thread in before:
            thread.start()
            time.sleep(0.1)
        threading.Timer(0.5, holder.stdin.close).start()
        start = time.monotonic()
        with one_of(ONE, 1.4, "last"):
            assert time.monotonic() - start > 2
        for thread in before:
            thread.join()


def test_those_who_wait_for_other_cards_do_not_hold_up(holder: subprocess.Popen[str]) -> None:
    with holder:
        first = threading.Thread(target=lambda: one_of(ONE, 60, "a").__enter__())
        first.start()
        time.sleep(0.3)
        start = time.monotonic()
        with one_of(TWO, 60, "b") as card:
            assert card == TWO[1]
        assert time.monotonic() - start < 0.5
        holder.communicate("")
        first.join()


def test_a_queue_that_was_cleared_away_is_joined_again(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    with holder:
        def clear_and_end() -> None:
            shutil.rmtree(tmp_path / "blush-onnx" / "cards" / "queue")
            time.sleep(0.5)
            holder.stdin.close()

        threading.Timer(0.3, clear_and_end).start()
        with one_of(ONE, 60, "half 2") as card:
            assert card == ONE[0]


def test_a_wait_ends_when_its_check_says_so(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    def check() -> None:
        raise InterruptedError("the host has gone")

    with holder:
        with pytest.raises(InterruptedError), one_of(ONE, 60, "half 2", check):
            pass
        assert list((tmp_path / "blush-onnx" / "cards").glob("queue/*")) == []
        holder.communicate("")


def test_no_driver_means_no_cards() -> None:
    assert cuda_cards("libno-such-driver.so") == []


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_cards_are_known_by_the_drivers_uuid(tmp_path: Path) -> None:
    source, library = tmp_path / "driver.c", tmp_path / "driver.so"
    source.write_text(DRIVER)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    assert cuda_cards(str(library)) == [
        Card(0, "GPU-28282828-2828-2828-2828-282828282828"),
        Card(1, "GPU-29292929-2929-2929-2929-292929292929"),
    ]


@pytest.mark.gpu
def test_the_cards_of_this_machine_have_names() -> None:
    cards = cuda_cards()
    assert [card.number for card in cards] == list(range(len(cards)))
    assert len({card.key for card in cards}) == len(cards) > 0
