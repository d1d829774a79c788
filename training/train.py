"""``python -m training train CONFIG``: the training, from top to bottom.

A run's folder holds ``state.pt`` (to go on from), ``weights.ckpt`` (the averaged weights, in
the official layout), ``metrics.csv``, ``validation.png`` and TensorBoard's events. With
``torchrun --nproc-per-node N -m training train CONFIG`` it runs on N cards.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from blush_onnx.errors import InputError
from export.network import BlushNetwork
from training.augment import Batch, Draw, make_batch, patches_of
from training.channels_last import ChannelsLast
from training.config import Config, read_config
from training.loss import loss_of, recycled
from training.metrics import Metrics, Sums, draw_validation
from training.prepare.dataset import Dataset
from training.state import State
from training.teacher import Teacher
from training.team import Team, rank
from training.volumes import LoadedVolume, load_volumes, sampling_weights

logger = logging.getLogger(__name__)

VALIDATION_SEED = 20_000_000
AVERAGED_OVER = 20
"""Steps that a line of the metrics is the mean of."""


@click.command()
@click.argument("config_file", metavar="CONFIG",
                type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), required=True,
              help="The run's folder; one that holds a state is gone on with.")
@click.option("--data", help="Folder of prepared volumes, in place of the configuration's.")
@click.option("--stop-after", type=click.FloatRange(0, min_open=True), metavar="MINUTES",
              help="End this call then, to be gone on with; the schedule stays.")
@click.option("--device", help="Such as cuda or cpu.  [default: a card if there is one]")
def train(
    config_file: Path, output: Path, data: str | None, stop_after: float | None,
    device: str | None,
) -> None:
    """Train a model as the TOML file CONFIG says."""
    weights = run(read_config(config_file, data), output, stop_after=stop_after, device=device)
    if rank() == 0:
        click.echo(weights)


def run(
    config: Config, output: Path, *, stop_after: float | None = None, device: str | None = None
) -> Path:
    """Train until the schedule ends or the time is up; see :func:`train`.

    Parameters
    ----------
    config : Config
    output : Path
    stop_after : float, optional
        Minutes.
    device : str, optional

    Returns
    -------
    Path
        The averaged weights.

    Raises
    ------
    InputError
        No volumes, or a state of another configuration or other data.
    """
    began = time.monotonic()
    team = Team.join(device)
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    output.mkdir(parents=True, exist_ok=True)

    # Data: all of it on the device.
    dataset, volumes, watched = load(config, team.device)
    weights = sampling_weights(volumes)

    # The network, its average and the optimiser, where an earlier call left them.
    state = State.start(config, team.device, output / "state.pt", dataset.fingerprint)
    evaluated = as_the_device_likes(state.network, config, team.device)
    teacher = Teacher(config, team.device) if config.loss.teacher else None
    called = nn.parallel.DistributedDataParallel(evaluated) if team.size > 1 else evaluated

    def drawn(step: int) -> Batch:
        # What is drawn depends on the seed and the step alone: resuming is exact.
        seed = config.run.seed * 1_000_003 + step * team.size + team.rank
        torch.manual_seed(seed)
        with torch.no_grad():
            batch = make_batch(
                volumes, weights, config.augmentation, Draw(seed, team.device),
                count=config.optimiser.volumes, patches=config.optimiser.patches,
                patch_size=config.model.patch_size,
            )
        return teacher.teach(batch) if teacher else batch

    spent, sums, batch = state.seconds, Sums(), drawn(state.step)
    with Metrics(output, state.step, quiet=not team.leads) as metrics:
        while True:
            state.seconds = team.agree(spent + time.monotonic() - began)
            progress = schedule(config, state)
            if progress >= 1 or (stop_after and state.seconds - spent > 60 * stop_after):
                break

            with autocast(config, team.device):
                state.network.eval()
                grid, local_std = recycled(evaluated, batch, depth(config, state.step))
                state.network.train()
                density, logit = called(grid, local_std)
            loss, parts = loss_of(density.float(), logit, batch, config.loss)
            norm = state.gradient(loss)
            # The next batch is asked for before this step is waited for: a card never idles.
            batch = drawn(state.step + 1)
            norm = state.update(norm, learning_rate(config, state.step, progress))
            sums.add({"loss": loss.detach(), "gradient": norm, **parts})

            if state.step % AVERAGED_OVER == 0:
                metrics.write(figures(state, sums, team))
            if team.leads and _due(state.step, config.run.save_every):
                state.save(output, dataset.fingerprint)
            if team.leads and _due(state.step, config.run.validate_every):
                look(state, watched, team.device, metrics)
        if sums:
            metrics.write(figures(state, sums, team))
        if team.leads:
            state.save(output, dataset.fingerprint)
            look(state, watched if progress >= 1 else [], team.device, metrics)
    team.leave()
    return output / "weights.ckpt"


def load(
    config: Config, place: torch.device
) -> tuple[Dataset, list[LoadedVolume], list[LoadedVolume]]:
    """The data set, its volumes to train on, and those to validate with; on the device."""
    dataset = Dataset(Path(config.run.data))
    chosen = dataset.of_split("train")
    if not chosen:
        raise InputError(f"{config.run.data} holds no volumes of the split train")
    watched = dataset.of_split("validation")[: config.run.validation_volumes]
    if not watched:
        logger.warning("%s has no volumes of the split validation: none is made", config.run.data)
    for record in (*chosen, *watched):
        if record.side < config.model.patch_size:
            raise InputError(
                f"{record.name} has {record.side} voxels a side, less than a patch of "
                f"{config.model.patch_size}"
            )
    return dataset, load_volumes(dataset, chosen, place), load_volumes(dataset, watched, place)


def as_the_device_likes(network: BlushNetwork, config: Config, place: torch.device) -> Any:
    """The network in the form that its device evaluates fastest; the weights are shared."""
    if place.type != "cuda":
        # Channels first, too: PyTorch's norm has wrong float32 gradients on a CPU otherwise.
        return network
    torch.backends.cudnn.benchmark = True
    fast = ChannelsLast(network, config.model.patch_size)
    return torch.compile(fast) if config.run.compile else fast


def depth(config: Config, step: int) -> int:
    """How often a step recycles; the same in all processes, or they would wait for each other."""
    draw = Draw(config.run.seed * 7 + step, torch.device("cpu"))
    deepest = config.loss.deepest_recycling
    return 1 + draw.integer(deepest) if deepest and draw.uniform() < config.loss.recycled else 0


def figures(state: State, sums: Sums, team: Team) -> dict[str, float]:
    """A line of the metrics: where the training stands, and means since the last line."""
    config, progress = state.config, schedule(state.config, state)
    patches = 2 * config.optimiser.volumes * config.optimiser.patches * team.size
    return {
        "step": state.step, "progress": progress, "minutes": state.seconds / 60,
        "learning_rate": learning_rate(config, state.step, progress),
        "skipped": state.skipped, "patches_a_second": patches * sums.rate(), **sums.means(),
    }


def look(
    state: State, volumes: Sequence[LoadedVolume], place: torch.device, metrics: Metrics
) -> None:
    """Validate, where there are volumes for it, and write down and draw what was seen."""
    if volumes:
        results = validate(state, volumes, place)
        metrics.validation(state.step, results)
        draw_validation(results, metrics.output / "validation.png")


def validate(state: State, volumes: Sequence[LoadedVolume], place: torch.device) -> dict[str, Any]:
    """Parts of the loss on fixed patches with the averaged weights, and again on its own output.

    Returns
    -------
    dict
        ``step_0`` (one application) and ``step_5`` (after five more) to the parts of the
        loss; ``pictures`` to the last batch, density and mask logit.
    """
    config, network = state.config, state.averaged_network()
    found: dict[str, Any] = {}
    with torch.no_grad():
        for times in (0, 5):
            parts: list[dict[str, Tensor]] = []
            for i, volume in enumerate(volumes):
                batch = patches_of(
                    volume, config.augmentation, Draw(VALIDATION_SEED + i, place), 2,
                    config.model.patch_size,
                )
                with autocast(config, place):
                    density, logit = network(*recycled(network, batch, times))
                parts.append(loss_of(density.float(), logit, batch, config.loss)[1])
                if times == 0:
                    found["pictures"] = (batch, density.float(), logit)
            found[f"step_{times}"] = {
                name: float(torch.stack([p[name] for p in parts]).mean()) for name in parts[0]
            }
    return found


def schedule(config: Config, state: State) -> float:
    """How much of the training is over, 0…1: by steps or by time, whichever is further."""
    settings = config.optimiser
    by_steps = state.step / settings.steps if settings.steps else 0.0
    budget = 60 * settings.budget_minutes
    return max(by_steps, state.seconds / budget if budget else 0.0)


def learning_rate(config: Config, step: int, progress: float) -> float:
    """A linear warm-up, then a cosine from the first rate to the last."""
    settings = config.optimiser
    cosine = 0.5 + 0.5 * math.cos(math.pi * min(progress, 1.0))
    rate = settings.last_learning_rate
    rate += (settings.learning_rate - settings.last_learning_rate) * cosine
    return rate * min(1.0, (step + 1) / max(settings.warm_up_steps, 1))


@contextlib.contextmanager
def autocast(config: Config, place: torch.device) -> Iterator[None]:
    """bfloat16 where the configuration says so."""
    enabled = config.run.precision == "bfloat16"
    with torch.autocast(place.type, dtype=torch.bfloat16, enabled=enabled):
        yield


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
