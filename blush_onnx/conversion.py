"""From a checkpoint to a model folder, with the proof that both agree."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blush_onnx import network, numpy_network, registry, self_test
from blush_onnx.checkpoint import Checkpoint, read_checkpoint
from blush_onnx.engines import create_engine, installed_providers
from blush_onnx.engines.base import Array, Engine, EngineSettings
from blush_onnx.errors import ModelError
from blush_onnx.model_config import ModelConfig
from blush_onnx.models import CONFIG_FILE, MODEL_FILE

PROOF_TOLERANCE = 1e-4
"""Largest ‖engine − network‖ / ‖network‖ that a model may be written with."""

Network = Callable[[Array, Array], tuple[Array, Array | None]]
Patch = tuple[str, Array, Array]


def build_model(
    checkpoint: Checkpoint,
    name: str,
    *,
    licence: str = "unknown",
    training: str = "unknown",
    half: bool | None = None,
) -> tuple[ModelConfig, bytes]:
    """ONNX file and configuration of a checkpoint.


    Parameters
    ----------
    checkpoint : Checkpoint
    name, licence, training : str
        Go into the model's metadata.
    half : bool, optional
        Store the weights in half precision; None: where that loses nothing.

    Returns
    -------
    config : ModelConfig
    content : bytes

    Raises
    ------
    ModelError
        The weights are not those of a Blush network.
    """
    if half is None:
        half = network.fits_half_precision(checkpoint.state)
    config = ModelConfig(
        name=name,
        voxel_size=checkpoint.voxel_size,
        patch_size=checkpoint.patch_size,
        has_mask=checkpoint.has_mask,
        licence=licence,
        training=training,
        storage="float16" if half else "float32",
        source_sha256=checkpoint.sha256,
    )
    graph = network.build_graph(
        checkpoint.state,
        patch_size=checkpoint.patch_size,
        has_mask=checkpoint.has_mask,
        half=half,
        metadata=config.graph_metadata(),
    )
    content = graph.SerializeToString(deterministic=True)
    return dataclasses.replace(config, sha256=hashlib.sha256(content).hexdigest()), content


def prove(
    engines: Mapping[str, Engine], reference: Network, reference_name: str,
    patches: Sequence[Patch],
) -> dict[str, Any]:
    """Compare engines with a network of the same weights, patch by patch and as a batch.

    Parameters
    ----------
    engines : mapping of str to Engine
        As :func:`proof_engines` made them.
    reference : callable
        (grid, local_std) to (density, mask_logit) for one patch.
    reference_name : str
        For the record.
    patches : sequence of (kind, grid, local_std)

    Returns
    -------
    dict
        The record for config.json.

    Raises
    ------
    ModelError
        An error is above 1e-4.
    """
    rows: list[dict[str, Any]] = []
    distances: list[float] = []
    grids = np.stack([grid for _, grid, _ in patches])
    stds = np.stack([local_std for _, _, local_std in patches])
    answers = [reference(grid, local_std) for _, grid, local_std in patches]
    for graph, engine in engines.items():
        together = engine.run(grids, stds)
        for i, (kind, _, _) in enumerate(patches):
            alone = engine.run(grids[i : i + 1], stds[i : i + 1])
            for batch, place, found in ((1, 0, alone), (len(patches), i, together)):
                row: dict[str, Any] = {"graph": graph, "patch": kind, "batch": batch}
                for key, ours, theirs in zip(
                    ("density", "mask_logit"), found, answers[i], strict=True
                ):
                    if ours is not None and theirs is not None:
                        distance = self_test.distance(ours[place], theirs)
                        distances.append(distance)
                        row[key] = float(f"{distance:.2g}")
                rows.append(row)
    worst = np.max(distances)  # which is NaN where any of them is
    if not worst <= PROOF_TOLERANCE:
        raise ModelError(
            f"the ONNX graph differs from the network by {worst:.1e} of its output, "
            f"allowed are {PROOF_TOLERANCE:.0e}: nothing was written"
        )
    return {
        "reference": reference_name,
        "engine": "; ".join(sorted({
            f"{e.description.library}, {e.description.provider}" for e in engines.values()
        })),
        "measure": "norm(engine - reference) / norm(reference)",
        "tolerance": PROOF_TOLERANCE,
        "results": rows,
    }


def proof_engines(content: bytes, patch_size: int) -> dict[str, Engine]:
    """Engines that a new graph is proven on, each under the form in which it evaluates the graph.

    Parameters
    ----------
    content : bytes
        The ONNX file.
    patch_size : int
        Side of a patch, voxels.

    Returns
    -------
    dict of str to Engine
        ONNX Runtime, if it is there: the very graph with real batches, and as it is
        rewritten for the CPU. Else the first engine that works.

    Raises
    ------
    EngineError
        No inference runtime, or it refuses the graph.
    """
    if "cpu" not in installed_providers():
        return {"as stored": create_engine(content, EngineSettings(), patch_size)}
    from blush_onnx.engines import onnxruntime

    stored, fast = (
        onnxruntime.create(
            content, EngineSettings("cpu"), patch_size=patch_size, reason="proof",
            as_stored=as_stored,
        )
        for as_stored in (True, False)
    )
    found: dict[str, Engine] = {"as stored": stored}
    if fast.rewritten:
        found["2-D convolutions"] = fast
    return found


def write_model_folder(folder: Path, config: ModelConfig, content: bytes) -> None:
    """Write model.onnx and config.json into an existing folder.

    Parameters
    ----------
    folder : Path
    config : ModelConfig
    content : bytes
        The ONNX file.
    """
    (folder / MODEL_FILE).write_bytes(content)
    text = json.dumps(dataclasses.asdict(config), indent=1, ensure_ascii=False)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def import_checkpoint(
    path: str | Path,
    name: str,
    *,
    licence: str = "unknown",
    training: str = "unknown",
    overwrite: bool = False,
) -> Path:
    """Register a checkpoint in the official layout, without PyTorch and running none of it.

    Parameters
    ----------
    path : path
        The checkpoint, plain or compressed.
    name : str
        What to register it as.
    licence, training : str
        Go into the model's metadata.
    overwrite : bool
        Replace a model of that name.

    Returns
    -------
    Path
        The model's folder.

    Raises
    ------
    ModelError
        The checkpoint is damaged, names code, or is not that of a Blush network.
    InputError
        The name is taken or unfit.
    OutputError
        The registry cannot be written.
    """
    registry.check_free(name, overwrite=overwrite)
    checkpoint = read_checkpoint(path)
    config, content = build_model(checkpoint, name, licence=licence, training=training)
    config = _with_proof(config, content, checkpoint)
    staging = registry.staging_folder()
    try:
        write_model_folder(staging, config, content)
        return registry.install(staging, name, overwrite=overwrite)
    except OSError as error:
        raise registry.unwritable(error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _with_proof(config: ModelConfig, content: bytes, checkpoint: Checkpoint) -> ModelConfig:
    """Compare with the network in plain NumPy, where there is an engine to compare."""
    grid, local_std = self_test.synthetic_patch(config.patch_size)
    density, mask_logit = numpy_network.evaluate(checkpoint.state, grid, local_std)
    stored = self_test.answer(density, mask_logit if config.has_mask else None)
    if not installed_providers():
        return dataclasses.replace(
            config, self_test=stored, proof={"not run": "no inference runtime was installed"}
        )
    proof = prove(
        proof_engines(content, config.patch_size),
        lambda grid, std: numpy_network.evaluate(checkpoint.state, grid, std),
        "the network in NumPy",
        [
            ("synthetic", grid, local_std),
            ("synthetic", *self_test.synthetic_patch(config.patch_size, seed=2)),
            ("random", *_random_patch(config.patch_size)),
        ],
    )
    return dataclasses.replace(config, self_test=stored, proof=proof)


def _random_patch(patch_size: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    shape = (patch_size,) * 3
    grid, noise = (rng.standard_normal(shape, dtype=np.float32) for _ in range(2))
    return grid, np.abs(noise)


def summary(config: ModelConfig) -> str:
    """What a model's proof says, in a sentence."""
    rows = config.proof.get("results", [])
    if not rows:
        return f"Not compared with anything: {config.proof.get('not run', 'no proof is stored')}"
    worst = max(row[key] for row in rows for key in ("density", "mask_logit") if key in row)
    batches, graphs = (sorted({row.get(key) for row in rows}) for key in ("batch", "graph"))
    patches = len(rows) // len(batches) // len(graphs)
    return (
        f"Compared with {config.proof['reference']} on {patches} patches, batch "
        f"{' and '.join(map(str, batches))}: at most {worst:.1e} of its output "
        f"(allowed {config.proof['tolerance']:.0e})"
    )
