"""A training learns a trained model's answers: what is in the target is what that model says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from blush_onnx.errors import InputError, ModelError

torch = pytest.importorskip("torch")

from training import config as configuration  # noqa: E402
from training.augment import Batch, Draw, patches_of  # noqa: E402
from training.checkpoints import network_of  # noqa: E402
from training.config import Config  # noqa: E402
from training.prepare.dataset import Dataset  # noqa: E402
from training.sources import read_model  # noqa: E402
from training.teacher import Teacher  # noqa: E402
from training.train import run  # noqa: E402
from training.volumes import load_volumes  # noqa: E402

pytestmark = pytest.mark.torch
CPU = torch.device("cpu")


def taught_by(model: Path, data: Path, **loss: object) -> Config:
    return configuration.from_dict({
        "model": {"widths": [2, 2, 2, 2, 2, 2], "dropout": 0.0},
        "loss": {"deepest_recycling": 0, "teacher": str(model), **loss},
        "optimiser": {"steps": 1, "volumes": 1, "patches": 1},
        "run": {"data": str(data), "precision": "float32", "threads": 1},
    }, "test")


@pytest.fixture(scope="module")
def batch(toy_data: Path) -> Batch:
    dataset = Dataset(toy_data)
    (volume,) = load_volumes(dataset, dataset.of_split("train")[:1], CPU)
    return patches_of(volume, configuration.Augmentation(), Draw(3, CPU), 1, 64)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_target_is_the_teachers_answer_by_its_share(
    share: float, tiny_model: Path, toy_data: Path, batch: Batch
) -> None:
    taught = Teacher(taught_by(tiny_model, toy_data, teaching=share), CPU).teach(batch)
    with torch.no_grad():
        answer = network_of(read_model(str(tiny_model)))(batch.grid, batch.local_std)[0]
    expected = (1 - share) * batch.target + share * answer
    assert float((answer - batch.target).std()) > 0.05  # else nothing could be told apart
    np.testing.assert_allclose(taught.target.numpy(), expected.numpy(), atol=2e-3)
    for name in ("grid", "local_std", "mask", "counted", "input_error", "target_variance"):
        assert getattr(taught, name) is getattr(batch, name)


def test_a_training_with_a_teacher_is_another_training(
    tiny_model: Path, toy_data: Path, tmp_path: Path
) -> None:
    config = taught_by(tiny_model, toy_data, teaching=1.0)
    alone = dataclasses.replace(config, loss=dataclasses.replace(config.loss, teacher=""))
    losses = []
    for name, each in (("taught", config), ("alone", alone)):
        run(each, tmp_path / name)
        losses.append((tmp_path / name / "metrics.csv").read_text().splitlines()[1].split(",")[4])
    assert losses[0] != losses[1]


def test_a_teacher_with_other_patches_is_refused(tiny_model: Path, toy_data: Path) -> None:
    config = taught_by(tiny_model, toy_data)
    other = dataclasses.replace(config, model=dataclasses.replace(config.model, patch_size=96))
    with pytest.raises(InputError, match="has patches of 64, the configuration of 96"):
        Teacher(other, CPU)


def test_an_unknown_teacher_is_told(toy_data: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nobody"):
        run(taught_by(Path("nobody"), toy_data), tmp_path)
