"""ONNX Runtime with any of its execution providers.

On the CPU the network is rewritten with 2-D convolutions (planes.py): ONNX Runtime
has fast kernels for those, and none for 3-D ones. Core ML has no 3-D ones at all.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from blush_onnx import planes
from blush_onnx.engines import compiled
from blush_onnx.engines.base import (
    MOST_SIDE_BY_SIDE,
    Array,
    EngineDescription,
    EngineSettings,
)
from blush_onnx.engines.session import PROVIDERS, first_line, open_session, why_not
from blush_onnx.errors import BlushError, EngineError, ModelError, OutOfMemoryError
from blush_onnx.machine import available_cpus, processor

_PRECISIONS = {
    "cuda": ("float32", "tf32", "float16"),
    "tensorrt": ("float32", "float16"),
}
"""Other providers compute in float32 alone."""
_IN_PLANES = ("cpu", "coreml")
_LACK_OF_MEMORY = (
    "failed to allocate memory", "out of memory", "bad_alloc", "bad allocation",
    "is smaller than requested bytes", "alloc_failed",
)
_NEEDS = {
    "cuda": "pip install 'blush-onnx[gpu]' (CUDA 13) or 'blush-onnx[gpu-cuda12]', "
    "in an environment without plain onnxruntime",
    "tensorrt": "pip install 'blush-onnx[gpu]' and NVIDIA's TensorRT libraries",
    "migraphx": "pip install onnxruntime-migraphx in an environment without plain onnxruntime",
    "directml": "pip install onnxruntime-directml in an environment without plain onnxruntime",
    "coreml": "pip install 'blush-onnx[cpu]' on a Mac",
}


class OnnxRuntimeEngine:
    """One ONNX Runtime session.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    description : EngineDescription, optional
        By default it says that the caller made the session.
    one_by_one : bool, optional
        Evaluate the patches of a batch one after another. The CPU gains nothing
        from batches, and its matrix products round differently in them; so that
        is what it does by default, and a graph for one patch at a time needs it.
    rewritten : bool, optional
        Whether the session's graph is another form of the model's.
    """

    def __init__(
        self,
        session: Any,
        description: EngineDescription | None = None,
        *,
        one_by_one: bool | None = None,
        rewritten: bool = False,
    ) -> None:
        self._session = session
        self.rewritten = rewritten
        if one_by_one is None:
            on_cpu = session.get_providers()[0] == PROVIDERS["cpu"]
            one_by_one = on_cpu or session.get_inputs()[0].shape[0] == 1
        self._one_by_one = one_by_one
        # DirectML does not allow two runs of a session at a time.
        one_at_a_time = PROVIDERS["directml"] in session.get_providers()
        self._turn: contextlib.AbstractContextManager[object] = (
            threading.Lock() if one_at_a_time else contextlib.nullcontext()
        )
        self._outputs = [output.name for output in session.get_outputs()]
        inputs = {value.name for value in session.get_inputs()}
        if inputs != {"grid", "local_std"} or "density" not in self._outputs:
            raise EngineError(
                f"the graph takes {', '.join(sorted(inputs))} and gives "
                f"{', '.join(self._outputs)}: not a Blush network"
            )
        self.description = description or _describe_foreign(session)

    @property
    def has_mask(self) -> bool:
        """Whether the network has a solvent mask."""
        return "mask_logit" in self._outputs

    def run(self, grid: Array, local_std: Array) -> tuple[Array, Array | None]:
        """Denoise a batch; see :class:`blush_onnx.engines.base.Engine`."""
        size = 1 if self._one_by_one else len(grid)
        parts = []
        with failing_as_an_engine(self.description.provider, f"a batch of {len(grid)} patches"):
            for i in range(0, len(grid), size):
                feed = {"grid": grid[i : i + size], "local_std": local_std[i : i + size]}
                with self._turn:
                    parts.append(self._session.run(self._outputs, feed))
        results = [p[0] if len(p) == 1 else np.concatenate(p) for p in zip(*parts, strict=True)]
        named = dict(zip(self._outputs, results, strict=True))
        return named["density"], named.get("mask_logit")


@contextlib.contextmanager
def failing_as_an_engine(provider: str, what: str) -> Iterator[None]:
    """Context in which what ONNX Runtime raises becomes an engine's error.

    Raises
    ------
    OutOfMemoryError, EngineError
        `provider` failed on `what`.
    """
    try:
        yield
    except BlushError:
        raise
    except Exception as error:  # ONNX Runtime raises a family of its own
        kind = OutOfMemoryError if is_lack_of_memory(error) else EngineError
        raise kind(f"{provider} failed on {what}: {first_line(error)}") from error


def available_providers() -> list[str]:
    """Short names of the providers that the installed ONNX Runtime was built with."""
    import onnxruntime

    built = onnxruntime.get_available_providers()
    return [name for name, long in PROVIDERS.items() if long in built]


def create(
    model: bytes, settings: EngineSettings, device: int = 0, *, patch_size: int, reason: str,
    as_stored: bool = False,
) -> OnnxRuntimeEngine:
    """Session on one provider, proven to run the convolutions there.

    Parameters
    ----------
    model : bytes
        The ONNX model.
    settings : EngineSettings
        Its provider is a key of :data:`PROVIDERS`.
    device : int
        Card number; the CPU takes no notice.
    patch_size : int
        Side of a patch, voxels.
    reason : str
        Why this provider was asked for.
    as_stored : bool
        Evaluate the very graph, with its free batch, also where a rewritten one is faster.

    Returns
    -------
    OnnxRuntimeEngine

    Raises
    ------
    EngineError
        The provider is not installed, does not start, does not compute in the precision,
        or leaves convolutions to another one.
    """
    import onnxruntime

    provider = settings.provider
    long = PROVIDERS[provider]
    if long not in onnxruntime.get_available_providers():
        raise EngineError(
            f"the installed onnxruntime {onnxruntime.__version__} has no {long} (it has "
            f"{', '.join(onnxruntime.get_available_providers())}); {_NEEDS[provider]}"
        )
    if settings.precision not in _PRECISIONS.get(provider, ("float32",)):
        raise EngineError(
            f"onnxruntime computes in {' or '.join(_PRECISIONS.get(provider, ('float32',)))} with "
            f"{provider}, not in {settings.precision}"
        )
    threads = settings.threads or available_cpus()
    streams, graph = 1, model
    in_planes = provider in _IN_PLANES and not as_stored
    ran_on: set[str] = set()
    if provider == "cpu" and not as_stored:
        streams = min(threads, MOST_SIDE_BY_SIDE)
        # Calls from several Python threads share the session's workers; each brings one itself.
        session, rewritten = _in_planes_on_cpu(model, threads - streams + 1, patch_size)
    else:
        if in_planes:
            graph = _in_planes(model, patch_size, only_2d=True)
        elif settings.precision == "float16" and provider == "cuda":
            graph = _in_half_precision(model, patch_size)
        session, ran_on = open_session(
            graph, long, device, threads, patch_size, settings.precision, settings.card_memory
        )
        rewritten = graph is not model
    if provider != "cpu" and ran_on != {long}:
        where = ", ".join(sorted(ran_on)) or "an unknown provider"
        raise EngineError(
            f"{provider} was asked for, but the convolutions ran on {where}: {why_not(long)}"
        )
    return OnnxRuntimeEngine(
        session,
        EngineDescription(
            provider, f"onnxruntime {onnxruntime.__version__}", reason, tuple(sorted(ran_on)),
            threads, settings.precision, streams,
        ),
        one_by_one=in_planes,
        rewritten=rewritten,
    )


def _in_planes_on_cpu(model: bytes, threads: int, patch_size: int) -> tuple[Any, bool]:
    """A session of the graph with 2-D convolutions, kept as ONNX Runtime optimised it.

    Returns
    -------
    session : onnxruntime.InferenceSession
    rewritten : bool
        Whether the graph could be written so.
    """
    def open_it(graph: bytes | Path, optimised_to: Path | None = None) -> Any:
        return open_session(
            graph, PROVIDERS["cpu"], 0, threads, patch_size, optimised_to=optimised_to
        )[0]

    file = _kept_file(model, patch_size)
    if file and (found := file.find()):
        try:
            return open_it(found), True
        except EngineError:  # it went since, or this ONNX Runtime is another
            compiled.discard(found)
    graph = _in_planes(model, patch_size, only_2d=False)
    if graph is model:
        return open_it(model), False
    opened: list[Any] = []
    if file:
        file.store(lambda path: opened.append(open_it(graph, path)))
    return opened[0] if opened else open_it(graph), True


def _kept_file(model: bytes, patch_size: int) -> compiled.KeptFile | None:
    """Where the optimised graph is kept; None where nobody knows for which processor it is."""
    import onnxruntime

    from blush_onnx import __version__

    kind = processor()
    if kind is None:
        return None
    versions = onnxruntime.__version__, __version__, planes.FORM
    return compiled.KeptFile("onnxruntime", model, *versions, patch_size, kind)


def _in_planes(content: bytes, patch_size: int, *, only_2d: bool) -> bytes:
    """The graph with 2-D convolutions; as it is where it cannot be written so."""
    import onnx

    try:
        model = onnx.load_from_string(content)
    except Exception:  # ONNX Runtime will say what is wrong with it
        return content
    try:
        return bytes(planes.of_model(model, patch_size, only_2d=only_2d).SerializeToString())
    except ModelError:
        return content


def _in_half_precision(content: bytes, patch_size: int) -> bytes:
    import onnx

    from blush_onnx import network

    try:
        model = onnx.load_from_string(content)
        return bytes(network.in_half_precision(model, patch_size).SerializeToString())
    except Exception as error:
        raise EngineError(f"the model cannot be written in half precision: {error}") from error


def _describe_foreign(session: Any) -> EngineDescription:
    import onnxruntime

    first = session.get_providers()[0]
    short = next((name for name, long in PROVIDERS.items() if long == first), first)
    return EngineDescription(
        short, f"onnxruntime {onnxruntime.__version__}", "the caller made the session"
    )


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether what ONNX Runtime raised says that memory ended."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _LACK_OF_MEMORY)
