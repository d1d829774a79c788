"""The download is tested against a server on this machine; the real one is not contacted."""

from __future__ import annotations

import hashlib
import http.server
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from blush_onnx import InputError, ModelError, models
from blush_onnx.fetch import REMOTE_MODELS, RemoteModel, fetch, relion_checkpoint, remote_model
from tests.conftest import DATA, TINY_CHECKPOINT

COMPRESSED = DATA / "checkpoints" / "tiny.ckpt.gz"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Address of a server of one folder with the compressed checkpoint."""
    folder = tmp_path / "served"
    folder.mkdir()
    shutil.copy(COMPRESSED, folder / "tiny.ckpt.gz")
    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def remote(url: str, sha256: str | None = None) -> RemoteModel:
    digest = sha256 or hashlib.sha256(COMPRESSED.read_bytes()).hexdigest()
    return RemoteModel("tiny", url, digest, "MIT", "none to speak of")


def test_a_download_is_checked_imported_and_registered(server: str) -> None:
    done = fetch(remote(f"{server}/tiny.ckpt.gz"))
    assert done.verified
    config = models.load_model("tiny").config
    assert (config.licence, config.training) == ("MIT", "none to speak of")
    assert config.source_sha256 == hashlib.sha256(COMPRESSED.read_bytes()).hexdigest()


def test_a_mirror_serves_in_place_of_the_address(server: str) -> None:
    done = fetch(remote("http://127.0.0.1:9/never"), f"{server}/tiny.ckpt.gz")
    assert done.source == f"{server}/tiny.ckpt.gz"
    assert models.find_model("tiny") == done.folder


def test_a_wrong_checksum_keeps_nothing(server: str) -> None:
    with pytest.raises(ModelError, match="SHA-256 differs"):
        fetch(remote(f"{server}/tiny.ckpt.gz", "0" * 64))
    assert not models.home().exists()


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:9/tiny.ckpt.gz", "{server}/missing.gz", "http://", "gopher://x/y.gz"],
)
def test_without_a_network_the_error_tells_what_to_copy_where(address: str, server: str) -> None:
    with pytest.raises(ModelError, match=r"models fetch tiny --from") as caught:
        fetch(remote(address.format(server=server)))
    assert "\n" not in str(caught.value)


def test_a_local_file_needs_no_network_but_the_right_checksum(tmp_path: Path) -> None:
    assert fetch(remote("http://127.0.0.1:9/"), str(COMPRESSED)).verified
    with pytest.raises(ModelError, match="damaged or another file"):
        fetch(remote("http://127.0.0.1:9/", "0" * 64), str(COMPRESSED), overwrite=True)
    with pytest.raises(ModelError, match="does not exist"):
        fetch(remote("http://127.0.0.1:9/"), str(tmp_path / "nowhere.gz"), overwrite=True)


def test_an_unpacked_local_file_is_taken_but_not_called_verified() -> None:
    assert not fetch(remote("http://127.0.0.1:9/"), str(TINY_CHECKPOINT)).verified


def test_what_relion_downloaded_is_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "torch" / "hub" / "checkpoints" / "relion_blush"
    folder.mkdir(parents=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    shutil.copy(TINY_CHECKPOINT, folder / "tiny.ckpt")
    assert relion_checkpoint("tiny") is None  # not complete without its marker
    (folder / "tiny_installed.txt").write_text("Successfully downloaded model")
    done = fetch(remote("http://127.0.0.1:9/"))
    assert done.source == str(folder / "tiny.ckpt")
    assert not done.verified


def test_a_model_is_not_fetched_twice_unless_asked(server: str) -> None:
    fetch(remote(f"{server}/tiny.ckpt.gz"))
    with pytest.raises(InputError, match="--overwrite"):
        fetch(remote(f"{server}/tiny.ckpt.gz"))
    fetch(remote(f"{server}/tiny.ckpt.gz"), overwrite=True)


def test_the_official_weights_are_known_by_address_and_checksum() -> None:
    official = remote_model("v1.0")
    assert official.url == "https://zenodo.org/records/10072731/files/blush_v1.0.ckpt.gz"
    assert len(official.sha256) == 64
    with pytest.raises(ModelError, match="known are v1.0"):
        remote_model("v2.0")
    assert set(REMOTE_MODELS) == {"v1.0"}
