from __future__ import annotations

import gzip
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from blush_onnx import ModelError, checkpoint
from tests.conftest import DATA, TINY_CHECKPOINT

CHECKPOINTS = DATA / "checkpoints"


@pytest.mark.parametrize(
    "name", ["tiny.ckpt", "tiny_legacy.ckpt", "tiny.ckpt.gz", "tiny_numpy_numbers.ckpt"]
)
def test_every_guise_of_a_checkpoint_gives_the_same_weights(name: str) -> None:
    expected = checkpoint.read_checkpoint(TINY_CHECKPOINT)
    found = checkpoint.read_checkpoint(CHECKPOINTS / name)
    assert (found.voxel_size, found.patch_size, found.has_mask) == (1.5, 64, True)
    assert found.state.keys() == expected.state.keys()
    for key, weights in found.state.items():
        np.testing.assert_array_equal(weights, expected.state[key])


@pytest.mark.torch
@pytest.mark.parametrize("name", ["tiny.ckpt", "tiny_legacy.ckpt"])
def test_the_weights_are_those_that_pytorch_reads(name: str) -> None:
    import torch

    theirs = torch.load(CHECKPOINTS / name, weights_only=True)["model_state_dict"]
    ours = checkpoint.read_checkpoint(CHECKPOINTS / name).state
    assert list(ours) == list(theirs)
    for key, weights in ours.items():
        np.testing.assert_array_equal(weights, theirs[key].numpy())


@pytest.mark.torch
def test_slices_of_a_shared_storage_are_read_as_pytorch_reads_them(tmp_path: Path) -> None:
    import torch

    whole = torch.arange(24, dtype=torch.float32)
    state = {"a": whole.reshape(4, 6)[1:, ::2], "b": whole.reshape(4, 6).T}
    torch.save(
        {"model_state_dict": state, "voxel_size": 1.5, "block_size": 64}, tmp_path / "views.ckpt"
    )
    ours = checkpoint.read_checkpoint(tmp_path / "views.ckpt").state
    for key, values in state.items():
        np.testing.assert_array_equal(ours[key], values.numpy())


def test_a_checkpoint_without_a_mask_says_so() -> None:
    assert not checkpoint.read_checkpoint(CHECKPOINTS / "tiny_no_mask.ckpt").has_mask


@pytest.mark.parametrize("name", ["malicious.ckpt", "malicious_legacy.ckpt"])
def test_a_malicious_checkpoint_is_refused_and_not_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"names posix\.system.*nothing of it was run"):
        checkpoint.read_checkpoint(CHECKPOINTS / name)
    assert list(tmp_path.iterdir()) == []


class Unsafe:
    """Pickles as a call of something else."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> object:
        return self.call


@pytest.mark.parametrize(
    "content",
    [
        Unsafe(eval, "1"),
        Unsafe(getattr, {}, "clear"),
        Unsafe(np.load, "x.npy"),
        np.array([object()]),
        np.zeros(3),
    ],
)
def test_pickles_that_name_anything_else_are_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"voxel_size": content}, protocol=2))
    with pytest.raises(ModelError, match="nothing of it was run"):
        checkpoint.read_checkpoint(path)


def damaged(kind: str, tmp_path: Path) -> Path:
    content = TINY_CHECKPOINT.read_bytes()
    path = tmp_path / "damaged.ckpt"
    path.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "empty": b"",
            "text": b"this is no checkpoint",
            "flipped": content[:9000] + bytes([content[9000] ^ 255]) + content[9001:],
            "truncated gzip": gzip.compress(content)[:2000],
            "truncated legacy": (CHECKPOINTS / "tiny_legacy.ckpt").read_bytes()[:40000],
        }[kind]
    )
    return path


@pytest.mark.parametrize(
    "kind", ["truncated", "empty", "text", "flipped", "truncated gzip", "truncated legacy"]
)
def test_damaged_files_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"damaged\.ckpt"):
        checkpoint.read_checkpoint(damaged(kind, tmp_path))


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(ModelError, match=r"cannot read the checkpoint nowhere\.ckpt"):
        checkpoint.read_checkpoint("nowhere.ckpt")


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "MAXIMUM_BYTES", 1 << 20)
    path = tmp_path / "bomb.ckpt.gz"
    path.write_bytes(gzip.compress(bytes(1 << 22)))
    with pytest.raises(ModelError, match="more than 1 MiB"):
        checkpoint.read_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"voxel_size": 0.0}, "make no sense"),
        ({"block_size": 64.5}, "make no sense"),
        ({"block_size": float("inf")}, "make no sense"),
        ({"voxel_size": "abc"}, "should be numbers"),
        ({"voxel_size": None}, "should be numbers"),
        ({"model_state_dict": []}, "map names to arrays"),
        ({"model_state_dict": {"a": np.array([np.nan])}}, "not finite"),
    ],
)
def test_contents_that_make_no_sense_are_refused(
    change: dict[str, object], message: str
) -> None:
    good: dict[str, object] = {
        "model_state_dict": {"a": np.ones(1)}, "voxel_size": 1.5, "block_size": 64.0
    }
    assert checkpoint.as_checkpoint(good, "", "x").patch_size == 64
    with pytest.raises(ModelError, match=message):
        checkpoint.as_checkpoint({**good, **change}, "", "x")


def test_a_file_without_the_official_keys_names_what_is_missing() -> None:
    with pytest.raises(ModelError, match="block_size"):
        checkpoint.as_checkpoint({"model_state_dict": {}, "voxel_size": 1.5}, "", "x")


def pickled(content: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "made.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/data/0", bytes(8))
    return path


def test_a_tensor_larger_than_its_array_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    two_floats = (
        b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQ"
    )
    function = b"ctorch._utils\n_rebuild_tensor_v2\n"
    two_billion_times_the_first = b"K\x00(J\xff\xff\xff\x7ft(K\x00ttR."
    content = b"\x80\x02" + function + two_floats + two_billion_times_the_first
    with pytest.raises(ModelError, match="reaches beyond its array"):
        checkpoint.read_checkpoint(pickled(content, tmp_path))


def test_a_pickle_cannot_change_the_reader(tmp_path: Path) -> None:
    change = b"\x80\x02ctorch._utils\n_rebuild_parameter\n}X\x01\x00\x00\x00aK\x01sb."
    with pytest.raises(ModelError, match="tries to change"):
        checkpoint.read_checkpoint(pickled(change, tmp_path))
