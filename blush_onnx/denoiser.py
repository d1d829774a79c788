"""Load a model and denoise one volume with it.

Formulas: docs/numerics.md, sections 3 and 4.
"""

from __future__ import annotations

import dataclasses
import logging
import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from blush_onnx import masks, models, patches
from blush_onnx.averaging import blend_orientations
from blush_onnx.boxes import as_mask, as_volume
from blush_onnx.engines import create_engine
from blush_onnx.engines.base import GPU_BATCH_SIZE, Engine, EngineSettings, room_for_patches
from blush_onnx.errors import InputError
from blush_onnx.grids import Grids
from blush_onnx.model_config import ModelConfig
from blush_onnx.results import Denoised
from blush_onnx.rotations import orientations

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], object]
Array = npt.NDArray[np.float32]

DEFAULT_STRIDE = patches.STRIDES["reference"]
STANDARD_DEVIATION_FLOOR = 1e-8
LARGEST_BATCH_SIZE = 4096


class Denoiser:
    """A model on an inference engine; thread-safe.

    Made by :meth:`load` or :meth:`from_session`.

    Attributes
    ----------
    config : ModelConfig
    engine : Engine
    batch_size : int
        Patches given to the engine at a time. The CPU engines take them one by one
        all the same, so that the result cannot depend on it.
    patches_at_a_time : int
        Calls that the engine works on at a time: as many as it can, and memory has room for.
    workers : int
        Threads of what is done around the network: the engine's own number.
    """

    def __init__(self, config: ModelConfig, engine: Engine, batch_size: int | None = None) -> None:
        if batch_size is not None and not 1 <= batch_size <= LARGEST_BATCH_SIZE:
            raise InputError(f"batch size {batch_size}: give 1 to {LARGEST_BATCH_SIZE}")
        self.config = config
        self.engine = engine
        description = engine.description
        self.batch_size = batch_size or (GPU_BATCH_SIZE if description.is_gpu else 1)
        room = description.side_by_side if description.is_gpu else room_for_patches()
        self.patches_at_a_time = min(description.side_by_side, room)
        self.workers = description.threads or 1

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] | None = None,
        *,
        provider: str = "auto",
        device: int | Sequence[int] = 0,
        threads: int | None = None,
        precision: str = "float32",
        batch_size: int | None = None,
        card_memory: float | None = None,
        on_card: bool = False,
    ) -> Denoiser:
        """Load a model and start an inference engine for it.

        Parameters
        ----------
        model : str or path, optional
            A name in the registry, a model folder or an .onnx file. None stands
            for ``$BLUSH_ONNX_MODEL``, else the official v1.0 when it is
            registered, else the bundled model; ``config.name`` says which.
        provider : str
            auto, cuda, tensorrt, openvino, migraphx, directml, coreml or
            cpu.
        device : int or sequence of int
            Card number; several cards share the patches.
        threads : int, optional
            CPU threads; by default as many processors as this process may use.
        precision : str
            float32, or what the engine offers besides: tf32 and float16 on a card with
            CUDA, bfloat16 with OpenVINO where the processor has it (docs/performance.md).
        batch_size : int, optional
            Patches at a time; by default 1 on a CPU and 8 on a card.
        card_memory : float, optional
            The most that CUDA may take of a card's memory for patches, GiB; batches that do
            not fit are halved. By default all there is.
        on_card : bool
            Keep the map, its patches and their sum on the card, rather than patches going
            there and back; CUDA and one card. Tried on processors alone.

        Returns
        -------
        Denoiser

        Raises
        ------
        ModelError
            Unknown model, or its checksum differs.
        EngineError
            No inference runtime, or the provider does not work here.
        InputError
            An argument is out of its range.
        """
        devices = (
            tuple(map(operator.index, device)) if isinstance(device, Iterable)
            else (operator.index(device),)
        )
        settings = EngineSettings(
            provider, devices, threads, precision, card_memory=card_memory, on_card=on_card
        )
        return cls.from_model(models.load_model(model), settings, batch_size=batch_size)

    @classmethod
    def from_model(
        cls, model: models.Model, settings: EngineSettings | None = None,
        *, batch_size: int | None = None,
    ) -> Denoiser:
        """Start an inference engine for a model that was read already; see :meth:`load`."""
        engine = create_engine(
            model.content, settings or EngineSettings(), model.config.patch_size
        )
        logger.info("model %s on %s", model.config.name, engine.description.in_words())
        return cls(model.config, engine, batch_size)

    @classmethod
    def from_session(
        cls, session: Any, config: ModelConfig | Mapping[str, Any] | None = None
    ) -> Denoiser:
        """Use an ONNX Runtime session that the host made and tuned itself.

        Parameters
        ----------
        session : onnxruntime.InferenceSession
            Of a blush-onnx model. Nothing is checked about where it runs.
        config : ModelConfig or mapping, optional
            The model's description, such as its parsed config.json; None reads
            it from the graph's own metadata.

        Returns
        -------
        Denoiser

        Raises
        ------
        ModelError
            The description does not fit, or the graph carries none.
        """
        from blush_onnx.engines.onnxruntime import OnnxRuntimeEngine

        if config is None:
            metadata = session.get_modelmeta().custom_metadata_map
            config = ModelConfig.from_graph(metadata, "the session's model")
        elif not isinstance(config, ModelConfig):
            config = ModelConfig.from_dict(config, "the given configuration")
        engine = OnnxRuntimeEngine(session)
        outputs = {output.name for output in session.get_outputs()}
        config.require_graph(session.get_inputs()[0].shape[1:], outputs)
        return cls(config, engine)

    def denoise(
        self,
        volume: npt.ArrayLike,
        voxel_size: float,
        *,
        mask: npt.ArrayLike | None = None,
        stride: int = DEFAULT_STRIDE,
        rotations: int = 1,
        progress: Progress | None = None,
    ) -> Denoised:
        """Denoise a volume of any box and voxel size.

        A box that is not an even cube is padded to one with the median of its
        border, resampled in Fourier space to the model's voxel size, denoised,
        resampled back and cropped. Nothing finer than twice the model's voxel
        size survives; :func:`blush_onnx.regularise` fills those shells.

        Parameters
        ----------
        volume : array_like, (z, y, x), real
            Each side at least 8 voxels; finite, not constant.
        voxel_size : float
            Å, from 0.3 to 8.
        mask : array_like, like `volume`, optional
            Where the network looks, 0…1; outside it the result is the volume's
            mean. None: the largest soft sphere in the box.
        stride : int
            Distance of the patches, voxels at the model's voxel size, 1 to 43.
        rotations : int
            Orientations of the cube to average over, 1 to 48; each takes the time anew.
        progress : callable, optional
            Called with (done, total) patches; whatever it raises ends the work.

        Returns
        -------
        Denoised

        Raises
        ------
        InputError
            An argument is out of its range.
        OutOfMemoryError
            The work would not fit; the message has the estimate.
        """
        values = as_volume(volume, "the volume")
        grids = self.grids(values.shape, voxel_size)
        model_mask = None
        if mask is not None:
            model_mask = grids.mask_to_model(as_mask(mask, values.shape))
        result = self.denoise_at_model_voxel_size(
            grids.to_model(values), model_mask, stride, progress, rotations
        )
        return dataclasses.replace(
            result,
            density=grids.from_model(result.density),
            mask=grids.mask_from_model(result.mask),
            spread=grids.spread_from_model(result.spread),
        )

    def grids(self, shape: tuple[int, ...], voxel_size: float) -> Grids:
        """A box as it is and at the model's voxel size, if the work on it is possible.

        Parameters
        ----------
        shape : tuple of int
            (z, y, x), voxels.
        voxel_size : float
            Å.

        Returns
        -------
        Grids

        Raises
        ------
        InputError, OutOfMemoryError
            As :meth:`Grids.of`.
        """
        return Grids.of(
            shape, voxel_size, self.config.voxel_size,
            side_by_side=self.patches_at_a_time, workers=self.workers,
        )

    def denoise_at_model_voxel_size(
        self,
        volume: npt.ArrayLike,
        mask: npt.ArrayLike | None = None,
        stride: int = DEFAULT_STRIDE,
        progress: Progress | None = None,
        rotations: int = 1,
    ) -> Denoised:
        """Denoise a volume that has the model's voxel size already.

        Parameters
        ----------
        volume : array_like, (z, y, x), real
            Any three sides of at least 8 voxels.
        mask : array_like, like `volume`, optional
            As for :meth:`denoise`. None: the soft sphere R(n, (n − 6)/2, 6) over
            the longest side n.
        stride : int
            Distance of the patches, voxels, 1 to 43.
        progress : callable, optional
        rotations : int
            As for :meth:`denoise`.

        Returns
        -------
        Denoised

        Raises
        ------
        InputError
            An argument is out of its range.
        """
        size = self.config.patch_size
        patches.check_stride(stride, size)
        turns = orientations(rotations)
        values = as_volume(volume, "the volume")
        chosen = (
            masks.default_mask(values.shape) if mask is None
            else as_mask(mask, values.shape)
        )
        padding = patches.padding(values.shape, size, stride)
        if any(before or after for before, after in padding):
            values, chosen = np.pad(values, padding), np.pad(chosen, padding)

        local_std = masks.local_std(values, self.workers)
        local_std /= np.float32(local_std.mean(dtype=np.float64))
        mean, deviation = masks.mean_and_std(values)
        standardised = values - np.float32(mean)
        del volume, values  # mostly nobody else's: room while the network works
        standardised /= np.float32(deviation + STANDARD_DEVIATION_FLOOR)
        standardised *= chosen
        local_std *= chosen

        found = blend_orientations(
            self.engine, standardised, local_std, chosen, turns, stride, patch_size=size,
            # On a CPU the patches of a batch would only wait for each other.
            batch_size=self.batch_size if self.engine.description.is_gpu else 1,
            at_a_time=self.patches_at_a_time, workers=self.workers, progress=progress,
        )
        density, solvent_mask, spread = found.density, found.mask, found.spread
        density *= chosen
        solvent_mask *= chosen
        if not self.config.has_mask:
            solvent_mask[:] = 1
        density *= np.float32(deviation + STANDARD_DEVIATION_FLOOR)
        density += np.float32(mean)
        if spread is not None:
            spread *= chosen * np.float32(deviation + STANDARD_DEVIATION_FLOOR)
        crop = tuple(
            slice(before, side - after)
            for (before, after), side in zip(padding, density.shape, strict=True)
        )
        result = Denoised(
            np.ascontiguousarray(density[crop]),
            np.ascontiguousarray(np.clip(solvent_mask[crop], 0, 1)),
            self.config.name,
            self.config.sha256,
            self.engine.description,
            found.patches,
            found.skipped,
            found.threshold,
            None if spread is None else np.ascontiguousarray(spread[crop]),
        )
        for warning in result.warnings:
            logger.info(warning)
        return result
