"""The EMDB's part, against a server of our own with entries laid out like its own."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from blush_onnx.errors import InputError
from tests.conftest import write_mrc
from training.prepare import emdb
from training.prepare.command import prepare
from training.prepare.dataset import Dataset, TrainingPair


class Server:
    """Files by path; remembers the ranges it was asked for, and can break off.

    A range is answered as the standard says: with the whole file where If-Range names another
    one.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges: list[str | None] = []
        self.break_after: int | None = None
        self.sends: tuple[str, ...] = ("ETag", "Last-Modified")
        self.date = "Sat, 28 Nov 2026 07:00:00 GMT"
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        content = self.files.get(request.path)
        if content is None:
            request.send_error(404)
            return
        wanted = request.headers.get("Range")
        self.ranges.append(wanted)
        versions = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "Last-Modified": self.date}
        if request.headers.get("If-Range", self.date) not in versions.values():
            wanted = None
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        request.send_response(206 if wanted else 200)
        for name in self.sends:
            request.send_header(name, versions[name])
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        end = len(content) if self.break_after is None else self.break_after
        request.wfile.write(content[start:end])


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()


def entry(resolution: str | None, files: list[str]) -> bytes:
    """An entry as the EMDB's interface gives it, as far as it is read."""
    reconstruction = {"resolution": {"valueOf_": resolution, "units": "Å"}} if resolution else {}
    return json.dumps({
        "emdb_id": "EMD-1",
        "structure_determination_list": {"structure_determination": [
            {"image_processing": [{"final_reconstruction": reconstruction}]}
        ]},
        "interpretation": {"half_map_list": {"half_map": [{"file": f} for f in files]}},
    }).encode()


def add(server: Server, number: str, resolution: str | None = "3.2", halves: int = 2) -> None:
    names = [f"emd_{number}_half_map_{k + 1}.map.gz" for k in range(halves)]
    server.files[f"/entry/{number}"] = entry(resolution, names)
    for name in names:
        server.files[f"/files/{number}/{name}"] = name.encode() * 8000


def run(
    server: Server, numbers: list[str], folder: Path, failed: list[str] | None = None
) -> list[str]:
    found = emdb.pairs(
        numbers, folder, [] if failed is None else failed,
        entry_address=server.address + "/entry/{number}",
        file_address=server.address + "/files/{number}/{file}",
    )
    return [pair.name for pair in found]


def test_pairs_are_downloaded_and_their_checksums_kept(server: Server, tmp_path: Path) -> None:
    add(server, "11638")
    assert run(server, ["11638"], tmp_path) == ["EMD-11638"]
    checksums = json.loads((tmp_path / emdb.CHECKSUMS).read_text())
    assert sorted(checksums) == [f"emd_11638_half_map_{k}.map.gz" for k in (1, 2)]
    before = len(server.ranges)
    assert run(server, ["11638"], tmp_path) == ["EMD-11638"]
    assert len(server.ranges) == before + 1  # the entry; no file again


@pytest.mark.parametrize(
    ("resolution", "halves", "why"),
    [("4.0", 2, "better than 4 Å"), (None, 2, "no resolution"), ("3.0", 1, "1 half-maps"),
     ("3.0", 0, "0 half-maps")],
)
def test_the_papers_rules(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    resolution: str | None, halves: int, why: str,
) -> None:
    add(server, "2000", resolution, halves)
    add(server, "3000")
    failed: list[str] = []
    with caplog.at_level(logging.WARNING):
        assert run(server, ["2000", "3000"], tmp_path, failed) == ["EMD-3000"]
    assert "EMD-2000 is left out: " in caplog.text
    assert why in caplog.text
    assert failed == []


@pytest.mark.parametrize("sends", [("ETag", "Last-Modified"), ("Last-Modified",)])
def test_a_broken_download_goes_on_where_it_ended(
    server: Server, tmp_path: Path, sends: tuple[str, ...]
) -> None:
    add(server, "5000")
    server.sends = sends
    server.break_after = 150_000
    failed: list[str] = []
    assert run(server, ["5000"], tmp_path, failed) == []
    assert failed == ["5000"]
    (partial,) = tmp_path.glob("*.part")
    assert partial.stat().st_size == 2 * emdb.CHUNK
    server.break_after = None
    assert run(server, ["5000"], tmp_path) == ["EMD-5000"]
    assert f"bytes={2 * emdb.CHUNK}-" in server.ranges
    name = "emd_5000_half_map_1.map.gz"
    assert (tmp_path / name).read_bytes() == server.files[f"/files/5000/{name}"]
    assert not [*tmp_path.glob("*.part"), *tmp_path.glob("*.version")]


@pytest.mark.parametrize("sends", [("ETag",), ("Last-Modified",), ()])
def test_a_part_is_not_joined_to_a_file_that_changed_meanwhile(
    server: Server, tmp_path: Path, sends: tuple[str, ...]
) -> None:
    add(server, "5000")
    server.sends = sends
    server.break_after = 150_000
    assert run(server, ["5000"], tmp_path) == []
    path = "/files/5000/emd_5000_half_map_1.map.gz"
    server.files[path] = server.files[path][::-1]
    server.break_after, server.date = None, "Sat, 28 Nov 2026 08:00:00 GMT"
    assert run(server, ["5000"], tmp_path) == ["EMD-5000"]
    assert (tmp_path / Path(path).name).read_bytes() == server.files[path]


def test_a_file_that_changed_on_the_server_is_not_taken(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add(server, "6000")
    run(server, ["6000"], tmp_path)
    path = tmp_path / "emd_6000_half_map_2.map.gz"
    path.write_bytes(b"damaged")  # here, so that it is fetched again
    server.files[f"/files/6000/{path.name}"] = b"another map"
    with caplog.at_level(logging.WARNING):
        assert run(server, ["6000"], tmp_path) == []
    assert "it changed on the server" in caplog.text
    assert not path.exists()


def test_an_unknown_entry_fails_and_the_others_come(server: Server, tmp_path: Path) -> None:
    add(server, "7000")
    failed: list[str] = []
    assert run(server, ["9999", "7000"], tmp_path, failed) == ["EMD-7000"]
    assert failed == ["9999"]


def test_the_command_writes_what_came_and_says_what_did_not(
    server: Server, toy_pair: TrainingPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add(server, "7000")
    for k, half in enumerate((toy_pair.half_1, toy_pair.half_2), 1):
        path = write_mrc(tmp_path / "half.mrc", half, 1.5)
        server.files[f"/files/7000/emd_7000_half_map_{k}.map.gz"] = gzip.compress(path.read_bytes())
    monkeypatch.setattr(emdb, "pairs", partial(
        emdb.pairs, entry_address=server.address + "/entry/{number}",
        file_address=server.address + "/files/{number}/{file}",
    ))
    (tmp_path / "list").write_text("9999\n7000\n")
    arguments = [
        str(tmp_path / "data"), "--emdb", str(tmp_path / "list"),
        "--downloads", str(tmp_path / "downloads"),
    ]
    with pytest.raises(InputError, match="^1 download failed: run the command again to go on$"):
        prepare.main(arguments, standalone_mode=False)
    assert "1 pairs in" in capsys.readouterr().out
    (record,) = Dataset(tmp_path / "data").records
    assert (record.name, record.licence) == ("EMD-7000", emdb.LICENCE)
    server.files.clear()
    (tmp_path / "list").write_text("9999\n9998\n")
    with pytest.raises(InputError, match="no training volumes were made.*: 2 downloads failed"):
        prepare.main(arguments, standalone_mode=False)


def test_lists_have_comments_and_only_ids(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("# mine\nEMD-11638  # apoferritin\n\n30210\n")
    assert emdb.read_list(path) == ["11638", "30210"]
    path.write_text("1abc\n")
    with pytest.raises(InputError, match="'1abc' is no EMDB id"):
        emdb.read_list(path)
