"""A map, its patches and their sum kept on the card, with ONNX Runtime's IOBinding.

The other engines get patches from the host and give patches back. Here the volume goes to the
card once, each call is told where its patches lie (volume_graph.py), and the sums come back in
the end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from blush_onnx import volume_graph
from blush_onnx.engines import onnxruntime as ort_engine
from blush_onnx.engines.base import Array, EngineSettings, Origin
from blush_onnx.engines.session import PROVIDERS, open_session, why_not
from blush_onnx.errors import EngineError, OutOfMemoryError

_WORKING = ("Conv", "Gather", "ScatterND")
"""Operators that must run on the card: what they work on would else travel each time."""


class OnCardEngine:
    """An engine that also cuts patches out and adds them up where it computes.

    Made by :func:`create`.

    Attributes
    ----------
    description : EngineDescription
    columns : int
        Sums of each voxel: of the density and, where the network has one, of the mask.
    largest_batch : int or None
        Patches at a time that memory had room for where more were tried.
    """

    def __init__(
        self, create_usual: Callable[[], ort_engine.OnnxRuntimeEngine], model: bytes,
        settings: EngineSettings, device: int, patch_size: int,
    ) -> None:
        usual = create_usual()  # which proves that the card works, and then leaves it
        self.description = usual.description
        self.columns = 1 + usual.has_mask
        self.largest_batch: int | None = None
        self._create_usual = create_usual
        self._usual: ort_engine.OnnxRuntimeEngine | None = None
        self._model, self._settings = model, settings
        self._device, self._patch_size = device, patch_size
        self._opening = threading.Lock()
        self._opened: tuple[int, Any] | None = None

    def run(self, grid: Array, local_std: Array) -> tuple[Array, Array | None]:
        """Denoise a batch that is not cut out here; see :class:`Engine`."""
        with self._opening:
            if self._usual is None:
                self._usual = self._create_usual()
        return self._usual.run(grid, local_std)

    def blending(self, volume: Array, local_std: Array, window: Array) -> Blending:
        """Begin a volume's sums; see :class:`blush_onnx.engines.base.BlendingEngine`."""
        return Blending(self, volume, local_std, window)

    @property
    def place(self) -> tuple[str, int]:
        """Where tensors lie, as ONNX Runtime names it."""
        return ("cuda", self._device) if self.description.is_gpu else ("cpu", 0)

    def session(self, batch: int) -> Any:
        """The session for batches of one size; the last size is kept."""
        with self._opening:
            if self._opened is None or self._opened[0] != batch:
                self._opened = None  # its weights leave the card first
                self._opened = batch, self._open(batch)
            return self._opened[1]

    def _open(self, batch: int) -> Any:
        settings, long = self._settings, PROVIDERS[self._settings.provider]
        shape = (self._patch_size,) * 3
        patch = np.zeros(shape, dtype=np.float32)
        patch[::2] = 1
        probe = {
            **_of_volume(patch, patch, patch, self.columns),
            **_of_batch([(0, 0, 0)], batch, shape),
        }
        try:
            session, ran_on = open_session(
                self._graph(batch), long, self._device, self.description.threads or 1,
                self._patch_size, settings.precision, settings.card_memory,
                probe=probe, operators=_WORKING,
            )
        except EngineError as error:  # the first batch is the probe, where there is a card
            if error.__cause__ is None or not ort_engine.is_lack_of_memory(error.__cause__):
                raise
            raise OutOfMemoryError(str(error)) from error
        if self.description.is_gpu and ran_on != {long}:
            raise EngineError(
                f"{', '.join(_WORKING)} ran on {', '.join(sorted(ran_on))}, not on the card "
                f"alone: {why_not(long)}"
            )
        return session

    def _graph(self, batch: int) -> bytes:
        import onnx

        from blush_onnx import network

        model = onnx.load_from_string(self._model)
        if self._settings.precision == "float16":
            model = network.in_half_precision(model, self._patch_size)
        return bytes(volume_graph.of_model(model, batch).SerializeToString())


class Blending:
    """The sums of one volume while they are made.

    Parameters
    ----------
    engine : OnCardEngine
    volume, local_std : array, (z, y, x), float32
    window : array, (patch, patch, patch), float32
    """

    def __init__(
        self, engine: OnCardEngine, volume: Array, local_std: Array, window: Array
    ) -> None:
        self._engine, self._shape = engine, volume.shape
        fixed = _of_volume(volume, local_std, window, engine.columns)
        try:
            with ort_engine.failing_as_an_engine(engine.description.provider, "this map"):
                self._fixed = {name: self._put(array) for name, array in fixed.items()}
        except OutOfMemoryError as error:
            raise OutOfMemoryError(
                f"{error}: it does not fit on the card whole; leave --on-card away, so that its "
                "patches go there one after the other"
            ) from error

    def add(self, origins: Sequence[Origin], size: int) -> None:
        """Add patches; see :class:`blush_onnx.engines.base.Blending`."""
        provider = self._engine.description.provider
        try:
            self._add(provider, origins, size)
        except OutOfMemoryError:
            self._engine.largest_batch = max(1, size // 2)
            raise

    def _add(self, provider: str, origins: Sequence[Origin], size: int) -> None:
        with ort_engine.failing_as_an_engine(provider, f"a batch of {size} patches"):
            session = self._engine.session(size)
            binding = session.io_binding()
            of_batch = _of_batch(origins, size, self._shape)
            # On the CPU a tensor is its array's memory: both must outlive the run.
            tensors = self._fixed | {name: self._put(array) for name, array in of_batch.items()}
            for name, tensor in tensors.items():
                binding.bind_ortvalue_input(name, tensor)
            # Into the same memory: the last node of the graph writes there, so that the sums
            # are as they were when anything before it fails.
            binding.bind_ortvalue_output(volume_graph.OUTPUT, self._fixed["sums"])
            session.run_with_iobinding(binding)

    def sums(self) -> tuple[Array, Array | None]:
        """The sums so far; see :class:`blush_onnx.engines.base.Blending`."""
        columns = self._fixed["sums"].numpy().reshape(*self._shape, -1)
        density, *mask = (columns[..., k].copy() for k in range(columns.shape[-1]))
        return density, mask[0] if mask else None

    def _put(self, array: np.ndarray) -> Any:
        import onnxruntime

        return onnxruntime.OrtValue.ortvalue_from_numpy(array, *self._engine.place)


def create(
    model: bytes, settings: EngineSettings, device: int, *, patch_size: int, reason: str
) -> OnCardEngine:
    """An engine whose sums are made where it computes.

    Parameters
    ----------
    model : bytes
        The ONNX model.
    settings : EngineSettings
        Its provider is cuda, or cpu to try the same without a card.
    device : int
    patch_size : int
        Voxels.
    reason : str

    Returns
    -------
    OnCardEngine

    Raises
    ------
    EngineError
        As :func:`blush_onnx.engines.onnxruntime.create`.
    """
    def create_usual() -> ort_engine.OnnxRuntimeEngine:
        return ort_engine.create(model, settings, device, patch_size=patch_size, reason=reason)

    return OnCardEngine(create_usual, model, settings, device, patch_size)


def _of_volume(
    volume: Array, local_std: Array, window: Array, columns: int
) -> dict[str, np.ndarray]:
    """What goes to the card once."""
    return {
        "volume": volume.reshape(-1), "deviations": local_std.reshape(-1),
        "offsets": volume_graph.offsets(volume.shape, window.shape[0]),
        "window": window.reshape(-1),
        "sums": np.zeros((volume.size, columns), dtype=np.float32),
    }


def _of_batch(
    origins: Sequence[Origin], size: int, shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """What goes there with each call; a batch that is not full has its last patch again."""
    places = [np.ravel_multi_index(origin, shape) for origin in origins]
    spare = size - len(places)
    return {
        "starts": np.array([*places, *places[-1:] * spare], dtype=np.int64),
        "shares": np.repeat(np.array([1, 0], dtype=np.float32), [len(places), spare]),
    }
