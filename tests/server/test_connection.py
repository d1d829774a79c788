"""Requests over a pair of sockets: the same maps, clean errors, cancelling."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blush_onnx import (
    Denoiser,
    EngineError,
    InputError,
    regularise,
    regularise_class,
    regularise_half,
)
from blush_onnx.server.client import Client
from blush_onnx.server.connection import MOST_WAITING, Connection
from blush_onnx.server.messages import MAGIC, START
from tests.conftest import blob_and_noise

SIDE, VOXEL_SIZE = 40, 2.0
FSC = np.linspace(1, 0, SIDE // 2 + 1).tolist()


@pytest.fixture
def halves() -> list[Any]:
    return [blob_and_noise((SIDE,) * 3, seed) for seed in (1, 2)]


def test_the_server_says_what_it_is(client: Client, denoiser: Denoiser) -> None:
    assert client.server["protocol"] == 1
    assert client.server["model"] == denoiser.config.name
    assert client.server["provider"] == "cpu"
    assert client.call("describe").header["result"] == {
        key: value for key, value in client.server.items() if key != "state"
    }


def test_a_half_map_comes_back_as_from_the_function(
    client: Client, denoiser: Denoiser, halves: list[Any]
) -> None:
    expected = regularise_half(
        halves[0], VOXEL_SIZE, denoiser=denoiser, fsc=FSC, particle_diameter=60.0
    )
    answer = client.call(
        "regularise_half", {"half_map": halves[0]}, voxel_size=VOXEL_SIZE, fsc=FSC,
        particle_diameter=60,
    )
    np.testing.assert_array_equal(answer.volumes["map"], expected.map)
    np.testing.assert_array_equal(answer.volumes["solvent_mask"], expected.solvent_mask)
    result = answer.header["result"]
    assert result["cut_off"] == expected.cut_off
    assert result["cut_off_angstrom"] == pytest.approx(expected.cut_off_angstrom)
    assert result["warnings"] == list(expected.warnings)


def test_two_half_maps_a_class_and_a_volume_likewise(
    client: Client, denoiser: Denoiser, halves: list[Any]
) -> None:
    both = client.call(
        "regularise", {"half_map_1": halves[0], "half_map_2": halves[1]}, voxel_size=VOXEL_SIZE
    )
    expected = regularise(halves[0], halves[1], VOXEL_SIZE, denoiser=denoiser)
    np.testing.assert_array_equal(both.volumes["reference_2"], expected.reference_2)
    assert both.header["result"]["fsc"] == pytest.approx(expected.fsc.decisive.tolist())

    one = client.call("regularise_class", {"map": halves[0]}, voxel_size=VOXEL_SIZE)
    of_class = regularise_class(halves[0], VOXEL_SIZE, denoiser=denoiser, particle_diameter=None)
    np.testing.assert_array_equal(one.volumes["map"], of_class.map)

    plain = client.call("denoise", {"map": halves[0]}, voxel_size=VOXEL_SIZE, stride=24)
    np.testing.assert_array_equal(
        plain.volumes["map"], denoiser.denoise(halves[0], VOXEL_SIZE, stride=24).density
    )


def test_volumes_travel_through_a_file_both_ways(
    client: Client, denoiser: Denoiser, halves: list[Any], tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    room = np.zeros((2, SIDE, SIDE, SIDE), dtype="<f4")
    room[0] = halves[0]
    room.tofile(shared)
    shape, file = [SIDE] * 3, str(shared)
    client._send({
        "id": "a", "do": "denoise", "arguments": {"voxel_size": VOXEL_SIZE},
        "volumes": [{"name": "map", "shape": shape, "file": file}],
        "results": [{"name": "map", "shape": shape, "file": file, "offset": 4 * SIDE**3}],
    })
    answer = until_done(client, "a")
    assert answer.header["state"] == "done", answer.header
    assert set(answer.volumes) == {"solvent_mask"}
    result = np.fromfile(shared, dtype="<f4").reshape(room.shape)[1]
    np.testing.assert_array_equal(result, denoiser.denoise(halves[0], VOXEL_SIZE).density)


def until_done(client: Client, identity: object) -> Any:
    while True:
        message = client._receive()
        if message.header["id"] == identity and message.header["state"] != "progress":
            return message


@pytest.mark.parametrize(
    ("kind", "volumes", "arguments", "complaint"),
    [
        ("sharpen", [], {}, "unknown request 'sharpen'"),
        ("denoise", [], {"voxel_size": 2.0}, "needs the volumes map"),
        ("denoise", ["map", "half_map"], {"voxel_size": 2.0}, "no volume 'half_map'"),
        ("denoise", ["map"], {}, "needs the argument voxel_size"),
        ("denoise", ["map"], {"voxel_size": "2"}, "voxel_size must be int or float"),
        ("denoise", ["map"], {"voxel_size": True}, "voxel_size must be"),
        ("denoise", ["map"], {"voxel_size": 200.0}, "out of range"),
        ("denoise", ["map"], {"voxel_size": 2.0, "strid": 20}, "no argument 'strid'"),
        ("denoise", ["map"], {"voxel_size": 2.0, "stride": 0}, "stride"),
        ("regularise_half", ["half_map"], {"voxel_size": 2.0}, "needs the argument fsc"),
        ("regularise_half", ["half_map"], {"voxel_size": 2.0, "fsc": [1.0]}, "FSC has the shape"),
        ("evaluate", ["grid", "local_std"], {}, "expected (patches,"),
    ],
)
def test_a_wrong_request_is_an_error_and_the_next_one_works(
    client: Client, halves: list[Any], kind: str, volumes: list[str], arguments: dict[str, Any],
    complaint: str,
) -> None:
    with pytest.raises(InputError) as raised:
        client.call(kind, dict.fromkeys(volumes, halves[0]), **arguments)
    assert complaint in str(raised.value)
    assert client.call("describe").header["state"] == "done"


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ({"do": "describe"}, "needs an id"),
        ({"id": 1.5, "do": "describe"}, "needs an id"),
        ({"id": 7}, '"do"'),
        ({"id": 7, "do": "describe", "arguments": [1]}, '"arguments"'),
        ({"id": 7, "do": "describe", "argument": {}}, "no 'argument'"),
        ({"id": 7, "do": "denoise", "results": [{"name": "map", "shape": [1]}]}, "file each"),
        ({"id": 7, "do": "denoise", "arguments": {"voxel_size": 2.0},
          "volumes": [{"name": "map", "shape": [40] * 3, "file": "/nowhere"}]}, "is no file"),
        ({"id": 7, "do": "denoise", "arguments": {"voxel_size": 2.0},
          "volumes": [{"name": "map", "shape": [40] * 3, "file": __file__}]}, "ends at 256000"),
    ],
)
def test_a_wrong_header_is_an_error_and_the_next_one_works(
    client: Client, header: dict[str, Any], complaint: str
) -> None:
    client._send(header)
    answer = client._receive().header
    assert answer["state"] == "failed"
    assert answer["error"] == "InputError"
    assert complaint in answer["message"]
    assert client.call("describe").header["state"] == "done"


def test_a_map_of_nan_is_the_library_s_own_error(client: Client) -> None:
    with pytest.raises(InputError, match="NaN"):
        client.call("denoise", {"map": np.full((40,) * 3, np.nan)}, voxel_size=2.0)


def test_progress_is_told_and_raising_in_it_cancels(
    client: Client, halves: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blush_onnx.server.connection.PROGRESS_SECONDS", 0.0)
    seen: list[tuple[int, int]] = []
    client.call(
        "denoise", {"map": halves[0]}, voxel_size=VOXEL_SIZE, stride=8,
        progress=lambda done, total: seen.append((done, total)),
    )
    total = seen[0][1]
    assert [done for done, _ in seen] == list(range(1, total + 1))

    def stop(_done: int, _total: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        client.call(
            "denoise", {"map": halves[0]}, voxel_size=VOXEL_SIZE, stride=4, progress=stop
        )
    assert client.call("describe").header["state"] == "done"


class Held:
    """An engine that works on a patch for each permit, and counts."""

    def __init__(self, denoiser: Denoiser) -> None:
        self._permits = threading.Semaphore(0)
        self._run = denoiser.engine.run
        self.calls = 0
        self.started = threading.Event()
        denoiser.engine.run = self.run  # type: ignore[method-assign]

    def run(self, *patches: Any) -> Any:
        self.calls += 1
        self.started.set()
        assert self._permits.acquire(timeout=60)
        return self._run(*patches)

    def release(self, count: int = 10_000) -> None:
        self._permits.release(count)


@pytest.fixture
def held(denoiser: Denoiser) -> Iterator[Held]:
    held = Held(denoiser)
    yield held
    held.release()


def patches_of(half: Any, tiny_denoiser: Denoiser) -> int:
    return tiny_denoiser.denoise(half, VOXEL_SIZE).patches


def test_a_running_request_is_cancelled_between_two_patches(
    client: Client, halves: list[Any], held: Held, tiny_denoiser: Denoiser
) -> None:
    client._send(
        {"id": 1, "do": "denoise", "arguments": {"voxel_size": VOXEL_SIZE}}, {"map": halves[0]}
    )
    assert held.started.wait(30)
    client._send({"id": 2, "do": "cancel", "of": 1})
    assert until_done(client, 2).header["result"] == {"cancelled": True}
    held.release()
    assert until_done(client, 1).header == {"id": 1, "state": "cancelled"}
    assert held.calls <= 2 < patches_of(halves[0], tiny_denoiser)


def test_what_waits_can_be_cancelled_and_too_much_is_refused(
    client: Client, halves: list[Any], held: Held
) -> None:
    request = {"do": "denoise", "arguments": {"voxel_size": VOXEL_SIZE}}
    for number in range(MOST_WAITING):
        client._send({"id": f"r{number}", **request}, {"map": halves[0]})
    client._send({"id": "late", **request}, {"map": halves[0]})
    assert "wait already" in until_done(client, "late").header["message"]
    client._send({"id": "r0", "do": "describe"})
    assert "not done yet" in until_done(client, "r0").header["message"]
    for number in range(1, MOST_WAITING):
        client._send({"id": f"c{number}", "do": "cancel", "of": f"r{number}"})
        assert until_done(client, f"c{number}").header["result"] == {"cancelled": True}
    client._send({"id": "unknown", "do": "cancel", "of": "nobody"})
    assert until_done(client, "unknown").header["result"] == {"cancelled": False}
    held.release()
    assert until_done(client, "r0").header["state"] == "done"
    for number in range(1, MOST_WAITING):
        assert until_done(client, f"r{number}").header["state"] == "cancelled"


def test_a_client_that_leaves_ends_its_request(
    denoiser: Denoiser, halves: list[Any], tiny_denoiser: Denoiser
) -> None:
    """Its progress cannot be sent any more: no patch is worked on after that is noticed."""
    held = Held(denoiser)
    ours, theirs = socket.socketpair()
    connection = Connection(
        theirs.makefile("rb"), theirs.makefile("wb"), denoiser, threading.Lock(), 2**22
    )
    thread = threading.Thread(target=connection.serve, daemon=True)
    thread.start()
    with Client(ours.makefile("rb"), ours.makefile("wb"), ours.close) as client:
        client._send(
            {"id": 1, "do": "denoise", "arguments": {"voxel_size": VOXEL_SIZE}},
            {"map": halves[0]},
        )
        assert held.started.wait(30)
    connection.stop()  # as the server does for a broken connection
    held.release()
    thread.join(30)
    assert not thread.is_alive()
    assert held.calls < patches_of(halves[0], tiny_denoiser)
    theirs.close()


def until_broken(connection: Connection) -> None:
    with contextlib.suppress(OSError):  # the deaf client leaves with an answer unread
        connection.serve()


def test_a_client_that_does_not_listen_keeps_nobody_waiting(denoiser: Denoiser) -> None:
    turn = threading.Lock()
    pairs = [socket.socketpair() for _ in range(2)]
    threads = []
    for _, theirs in pairs:
        connection = Connection(theirs.makefile("rb"), theirs.makefile("wb"), denoiser, turn)
        threads.append(threading.Thread(target=until_broken, args=(connection,), daemon=True))
        threads[-1].start()
    deaf, other = (Client(s.makefile("rb"), s.makefile("wb"), s.close) for s, _ in pairs)
    large = np.random.default_rng(1).normal(size=(96,) * 3).astype(np.float32)  # 3.5 MB back
    deaf._send({"id": 1, "do": "denoise", "arguments": {"voxel_size": 3.0}}, {"map": large})
    pairs[1][0].settimeout(60)
    for _ in range(20):
        assert other.call("describe").header["state"] == "done"
    other.call("denoise", {"map": blob_and_noise((SIDE,) * 3, 1)}, voxel_size=VOXEL_SIZE)
    deaf.close()
    other.close()
    for thread in threads:
        thread.join(30)
    for _, theirs in pairs:
        theirs.close()


def test_odd_requests_are_answered_all_the_same(client: Client, tmp_path: Path) -> None:
    client._send({"id": 1, "do": "cancel", "of": [1]})
    assert until_done(client, 1).header["result"] == {"cancelled": False}
    text = b'{"id": "\\ud800", "do": "describe"}'
    client._outgoing.write(START.pack(MAGIC, len(text), 0) + text)
    client._outgoing.flush()
    assert client._receive().header["state"] == "failed"
    room = str(tmp_path / "room")
    (tmp_path / "room").write_bytes(bytes(100))
    for results, complaint in (
        ([{"name": "mapp", "shape": [2, 2, 2], "file": room}], "no result 'mapp'"),
        ([{"name": "map", "shape": [9, 9, 9], "file": room}], "ends at 2916"),
        ([{"name": "map", "shape": [9, 9, 9], "file": "no\0file"}], ""),
    ):
        client._send({"id": 3, "do": "denoise", "results": results})
        assert complaint in until_done(client, 3).header["message"]
    big = [{"name": "map", "shape": [1024] * 3, "file": "/dev/null"}]
    client._send({"id": 4, "do": "denoise", "arguments": {"voxel_size": 2.0}, "volumes": big})
    assert "at most 4194304" in until_done(client, 4).header["message"]
    assert client.call("describe").header["state"] == "done"


def test_volumes_beyond_the_limit_end_the_connection(client: Client) -> None:
    with contextlib.suppress(EngineError):  # it may be gone before all was sent
        client._send({"id": 1, "do": "describe"}, {"map": np.zeros((128,) * 3)})
    answer = client._receive().header
    assert answer["error"] == "ProtocolError"
    assert "at most 4194304" in answer["message"]
