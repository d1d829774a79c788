"""``python -m training train CONFIG``: the training, from top to bottom.

A run's folder holds ``state.pt`` (to go on from), ``weights.ckpt`` (the averaged weights, in
the official layout), ``metrics.csv``, ``validation.png`` and TensorBoard's events. With
``torchrun --nproc-per-node N -m training train CONFIG`` it runs on N cards.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn
from torch import distributed as dist
from tqdm import tqdm

from blush_onnx.errors import InputError
from training.augment import Batch, Draw, make_batch
from training.checkpoints import new_network, save, save_weights
from training.config import Config, read_config
from training.loss import loss_of, recycled
from training.prepare.dataset import Dataset
from training.volumes import load_volumes, sampling_weights

COLUMNS = (
    "step", "progress", "minutes", "learning_rate", "loss", "error", "inside", "outside",
    "low_frequency", "mask", "gradient", "skipped", "patches_a_second",
)
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
    config = read_config(config_file)
    if data:
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, data=data))
    run(config, output, stop_after=stop_after, device=device)


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
    rank, world, place = _processes(device)
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    if rank == 0:
        output.mkdir(parents=True, exist_ok=True)

    # Data: all of it on the device.
    dataset = Dataset(Path(config.run.data))
    volumes = load_volumes(dataset, dataset.of_split("train"), place)
    watched = load_volumes(
        dataset, dataset.of_split("validation")[: config.run.validation_volumes], place
    )
    if not volumes:
        raise InputError(f"{config.run.data} holds no volumes of the split train")
    weights = sampling_weights(volumes)

    # The network, its average, the optimiser; or where an earlier call left them.
    network = new_network(config.model).to(place, memory_format=torch.channels_last_3d)
    average = {key: value.detach().clone() for key, value in network.state_dict().items()}
    settings = config.optimiser
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.weight_decay},
         {"params": others, "weight_decay": 0.0}],
        lr=settings.learning_rate, betas=(0.9, 0.99), fused=place.type == "cuda",
    )
    step, spent, skipped = _resume(output / "state.pt", config, dataset, network, average, optimiser)
    called = network
    if config.run.compile:
        called = torch.compile(network)
    if world > 1:
        called = nn.parallel.DistributedDataParallel(called)

    def save_all() -> None:
        save_weights(average, output / "weights.ckpt", config.model.patch_size)
        save({
            "network": network.state_dict(), "average": average,
            "optimiser": optimiser.state_dict(), "step": step, "skipped": skipped,
            "seconds": spent + time.monotonic() - began, "config": dataclasses.asdict(config),
            "data": dataset.fingerprint,
        }, output / "state.pt")

    sums: dict[str, float] = {}
    lap, first = time.monotonic(), step
    with Metrics(output, quiet=rank != 0) as metrics:
        while True:
            progress = _agreed(_progress(config, step, spent + time.monotonic() - began), place, world)
            late = stop_after is not None and time.monotonic() - began > 60 * stop_after
            if progress >= 1 or _agreed(float(late), place, world):
                break
            rate = _learning_rate(config, step, progress)
            for group in optimiser.param_groups:
                group["lr"] = rate

            # What is drawn depends on the seed and the step alone: resuming is exact.
            seed = config.run.seed * 1_000_003 + step * world + rank
            torch.manual_seed(seed)
            draw = Draw(seed, place)
            with torch.no_grad():
                batch = make_batch(
                    volumes, weights, config.augmentation, draw, count=settings.volumes,
                    patches=settings.patches, patch_size=config.model.patch_size,
                )
            # All processes recycle alike, or they would wait for each other.
            times = Draw(config.run.seed * 7 + step, torch.device("cpu")).integer(
                config.loss.deepest_recycling + 1
            )
            with _autocast(config, place):
                network.eval()
                grid, local_std = recycled(network, batch, times)
                network.train()
                density, logit = called(grid, local_std)
            loss, parts = loss_of(density.float(), logit, batch, config.loss)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
            if bool(torch.isfinite(norm)):  # now and then bfloat16 overflows: skip the step
                optimiser.step()
                _average(average, network, min(settings.averaging, (1 + step) / (10 + step)))
            else:
                skipped += 1
            step += 1

            for name, value in {"loss": loss.detach(), "gradient": norm.detach(), **parts}.items():
                sums[name] = sums.get(name, 0.0) + float(value)
            if step % AVERAGED_OVER == 0:
                seconds = time.monotonic() - lap
                metrics.write({
                    "step": step, "progress": progress, "learning_rate": rate,
                    "minutes": (spent + time.monotonic() - began) / 60, "skipped": skipped,
                    "patches_a_second": world * len(batch.grid) * AVERAGED_OVER / seconds,
                    **{name: value / AVERAGED_OVER for name, value in sums.items()},
                })
                lap, sums = time.monotonic(), {}
            if rank == 0 and _due(step, config.run.save_every):
                save_all()
            if rank == 0 and watched and _due(step, config.run.validate_every):
                metrics.validation(step, validate(network, average, watched, config, place))
        if rank == 0:
            save_all()
            if watched and (progress >= 1 or step == first):
                results = validate(network, average, watched, config, place)
                metrics.validation(step, results)
                draw_validation(results, output / "validation.png")
    if world > 1:
        dist.destroy_process_group()
    return output / "weights.ckpt"


def validate(
    network: nn.Module, average: dict[str, Tensor], volumes: list[Any], config: Config,
    place: torch.device,
) -> dict[str, Any]:
    """Parts of the loss on fixed patches with the averaged weights, and again on its own output.

    Returns
    -------
    dict
        ``step_0`` (one application) and ``step_5`` (after five more) to the parts of the
        loss; ``pictures`` to the last batch and what the network made of it.
    """
    own = {key: value.clone() for key, value in network.state_dict().items()}
    network.load_state_dict(average)
    network.eval()
    found: dict[str, Any] = {}
    every = torch.ones(len(volumes), dtype=torch.float64)
    with torch.no_grad(), _autocast(config, place):
        for times in (0, 5):
            parts: list[dict[str, Tensor]] = []
            for i in range(len(volumes)):
                batch = make_batch(
                    [volumes[i]], every[:1], config.augmentation, Draw(VALIDATION_SEED + i, place),
                    count=1, patches=2, patch_size=config.model.patch_size,
                )
                density, logit = network(*recycled(network, batch, times))
                parts.append(loss_of(density.float(), logit, batch, config.loss)[1])
                if times == 0:
                    found["pictures"] = (batch, density.float(), logit)
            found[f"step_{times}"] = {
                name: float(torch.stack([p[name] for p in parts]).mean()) for name in parts[0]
            }
    network.load_state_dict(own)
    network.train()
    return found


def draw_validation(results: dict[str, Any], path: Path) -> None:
    """Central slices of a validation batch: input, output, target, mask; nothing without matplotlib."""
    try:
        from training.prepare.pictures import pyplot

        plt = pyplot()
    except Exception:  # pictures are a courtesy
        return
    batch: Batch = results["pictures"][0]
    shown = (batch.grid, results["pictures"][1], batch.target, results["pictures"][2].sigmoid())
    count = min(4, len(batch.grid))
    figure, axes = plt.subplots(count, 4, figsize=(8, 2 * count + 0.3), squeeze=False,
                                layout="constrained")
    for row in range(count):
        low, high = (float(v) for v in torch.quantile(batch.target[row].flatten()[::7].cpu(), torch.tensor([0.01, 0.999])))
        for column, (name, values) in enumerate(
            zip(("input", "output", "target", "mask"), shown, strict=True)
        ):
            image = values[row, values.shape[1] // 2].float().cpu().numpy()
            limits = (0, 1) if name == "mask" else (low, max(high, low + 1e-3))
            axes[row, column].imshow(image, cmap="gray", vmin=limits[0], vmax=limits[1])
            axes[row, column].set(xticks=[], yticks=[])
            if row == 0:
                axes[row, column].set_title(name)
    figure.savefig(path, dpi=100)
    plt.close(figure)


class Metrics:
    """``metrics.csv``, ``validation.csv``, TensorBoard where it is installed, and a progress bar."""

    def __init__(self, output: Path, *, quiet: bool) -> None:
        self.output, self.quiet = output, quiet
        self.bar: Any = None
        self.board: Any = None

    def __enter__(self) -> Metrics:
        """Open what there is."""
        if not self.quiet:
            self.bar = tqdm(total=100, unit="%", disable=None, bar_format="{l_bar}{bar}| {postfix}")
            with contextlib.suppress(ImportError):
                from torch.utils.tensorboard import SummaryWriter

                self.board = SummaryWriter(str(self.output))
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        for each in (self.bar, self.board):
            if each is not None:
                each.close()

    def write(self, values: dict[str, float]) -> None:
        """One line of the training's own figures."""
        if self.quiet:
            return
        self._append("metrics.csv", COLUMNS, values)
        self.bar.update(100 * values["progress"] - self.bar.n)
        self.bar.set_postfix_str(
            f"step {values['step']}, loss {values['loss']:.3f}, inside ×{values['inside']:.2f}, "
            f"{values['patches_a_second']:.1f} patches/s"
        )

    def validation(self, step: int, results: dict[str, Any]) -> None:
        """One line for each depth of recycling."""
        for depth in ("step_0", "step_5"):
            values = {"step": step, "recycled": depth[5:], **results[depth]}
            self._append("validation.csv", tuple(values), values)

    def _append(self, name: str, columns: tuple[str, ...], values: dict[str, Any]) -> None:
        path = self.output / name
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns, restval="")
            if new:
                writer.writeheader()
            writer.writerow({
                k: f"{v:.6g}" if isinstance(v, float) else v for k, v in values.items()
            })
        if self.board is not None:
            kind = f"{path.stem}{values.get('recycled', '')}"
            for key, value in values.items():
                if key not in ("step", "recycled"):
                    self.board.add_scalar(f"{kind}/{key}", value, values["step"])


def _progress(config: Config, step: int, seconds: float) -> float:
    """How much of the schedule is over: steps or time, whichever is further."""
    settings = config.optimiser
    by_steps = step / settings.steps if settings.steps else 0.0
    by_time = seconds / (60 * settings.budget_minutes) if settings.budget_minutes else 0.0
    return max(by_steps, by_time)


def _learning_rate(config: Config, step: int, progress: float) -> float:
    settings = config.optimiser
    cosine = 0.5 + 0.5 * math.cos(math.pi * min(progress, 1.0))
    rate = settings.last_learning_rate
    rate += (settings.learning_rate - settings.last_learning_rate) * cosine
    return rate * min(1.0, (step + 1) / max(settings.warm_up_steps, 1))


@torch.no_grad()
def _average(average: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    current = network.state_dict()
    keys = list(average)
    torch._foreach_lerp_([average[k] for k in keys], [current[k] for k in keys], 1 - decay)


def _resume(
    path: Path, config: Config, dataset: Dataset, network: nn.Module,
    average: dict[str, Tensor], optimiser: torch.optim.Optimizer,
) -> tuple[int, float, int]:
    """Load an earlier call's state; returns its steps, its seconds and the steps it skipped."""
    if not path.is_file():
        return 0, 0.0, 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    now = {**dataclasses.asdict(config), "run": None}
    if now != {**state["config"], "run": None} or state["data"] != dataset.fingerprint:
        raise InputError(
            f"{path} is the state of another configuration or other data: choose another --output"
        )
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    for key, value in state["average"].items():
        average[key].copy_(value)
    return state["step"], state["seconds"], state["skipped"]


def _processes(device: str | None) -> tuple[int, int, torch.device]:
    """Rank, number of processes and device, from torchrun's environment where there is one."""
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return 0, 1, place
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    return dist.get_rank(), world, place


def _agreed(value: float, place: torch.device, world: int) -> float:
    """The first process's value, for all."""
    if world == 1:
        return value
    shared = torch.tensor(value, device=place, dtype=torch.float64)
    dist.broadcast(shared, 0)
    return float(shared)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


@contextlib.contextmanager
def _autocast(config: Config, place: torch.device) -> Iterator[None]:
    enabled = config.run.precision == "bfloat16"
    with torch.autocast(place.type, dtype=torch.bfloat16, enabled=enabled):
        yield
