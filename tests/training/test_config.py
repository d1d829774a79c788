from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from blush_onnx.errors import InputError
from training.config import OFFICIAL_WIDTHS, from_dict, read_config

CONFIGS = Path(__file__).parent.parent.parent / "training" / "configs"
MINIMAL = {"run": {"data": "volumes"}, "optimiser": {"steps": 10}}


def test_the_data_may_be_named_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[optimiser]\nsteps = 1\n")
    with pytest.raises(InputError, match="data is missing"):
        read_config(path)
    assert read_config(path, "volumes").run.data == "volumes"


def test_defaults_are_the_official_network() -> None:
    config = from_dict(MINIMAL, "test")
    assert config.model.widths == OFFICIAL_WIDTHS
    assert config.model.patch_size == 64


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_configurations_that_come_along_are_valid(path: Path) -> None:
    read_config(path)


@pytest.mark.torch
@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_their_trainings_can_start(path: Path) -> None:
    pytest.importorskip("torch")
    from training.checkpoints import new_network

    model = read_config(path).model
    if model.start_from.endswith(".ckpt"):  # what another training of these gives
        model = dataclasses.replace(model, start_from="")
    network = new_network(model)
    assert len(network.inc.double_conv["conv1"].bias) == model.widths[0]


def test_there_are_configurations() -> None:
    assert {p.stem for p in CONFIGS.glob("*.toml")} >= {"default", "lite", "lite_mask", "laptop"}


@pytest.mark.parametrize(
    ("section", "name", "value", "complaint"),
    [
        ("model", "widths", [16, "a"], "expected int"),
        ("model", "widths", [16], "at least two"),
        ("model", "patch_size", 60, "multiple of 32"),
        ("model", "dropout", 1.5, "dropout must be in"),
        ("augmentation", "resolution_angstrom", [8.0, 4.0], "rising"),
        ("augmentation", "resolution_angstrom", [1.0, 4.0], "from 3 on"),
        ("augmentation", "target_anisotropy", 9.0, "target_anisotropy"),
        ("augmentation", "sharpened", 1.5, "sharpened"),
        ("augmentation", "sharpening", [2.0, 1.0], "sharpening"),
        ("augmentation", "filter_shares", {"boxcar": 1.0}, "expected some of"),
        ("augmentation", "rotation", "sideways", "any or cube"),
        ("loss", "inside_weight", -1.0, "negative"),
        ("loss", "deepest_recycling", 50, "deepest_recycling"),
        ("loss", "recycled", 1.5, "recycled"),
        ("loss", "teaching", 1.5, "teaching"),
        ("optimiser", "learning_rate", "fast", "expected float"),
        ("optimiser", "learning_rate", 1e-9, "the last not the larger"),
        ("optimiser", "stepps", 10, "unknown name 'stepps'"),
        ("run", "precision", "float8", "bfloat16 or float32"),
        ("run", "compile", 1, "expected bool"),
    ],
)
def test_mistakes_are_named(section: str, name: str, value: object, complaint: str) -> None:
    content = {key: dict(values) for key, values in MINIMAL.items()}
    content.setdefault(section, {})[name] = value
    with pytest.raises(InputError, match=complaint):
        from_dict(content, "test.toml")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[runs]\ndata = 'x'", r"unknown section \[runs\]"),
        ("[run]\ndata = 'x'", "give steps or budget_minutes"),
        ("[optimiser]\nsteps = 1", "data is missing"),
        ("run = 3", "must be a table"),
        ("[run", "no readable TOML"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=complaint):
        read_config(path)
