"""Which engine a job gets: a card of the host's list, or the processors."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from blush_onnx.denoiser import Denoiser
from blush_onnx.engines import installed_providers
from blush_onnx.engines.base import GPU_PROVIDERS, EngineSettings
from blush_onnx.engines.remote import RemoteEngine
from blush_onnx.errors import EngineError, InputError
from blush_onnx.models import Model
from blush_onnx.sharing.cards import Card, cuda_cards, one_of
from blush_onnx.sharing.cores import CoreShare

logger = logging.getLogger(__name__)

CPU_HINT = 'to run on the CPU: export RELION_BLUSH_ARGS="--provider cpu"'
"""RELION pastes that variable into the command it calls."""
DEVICE_TIMEOUT = 1200.0


@dataclass(frozen=True)
class EngineRequest:
    """What was asked for.

    Attributes
    ----------
    provider : str
        As for :meth:`Denoiser.load`.
    gpu : str or None
        The host's list of cards, such as ``0,1,``; empty, negative or None: any.
    require_gpu : bool
        Fail rather than run on the CPU.
    threads : int or None
        CPU threads; None: a fair share of what this process may use.
    precision : str
        As for :meth:`Denoiser.load`.
    batch_size : int or None
    card_memory : float or None
        GiB, as for :meth:`Denoiser.load`.
    device_timeout : float
        Seconds to wait for a card.
    server : Path or None
        Socket of a server that evaluates the network, whatever else is asked for.
    """

    provider: str = "auto"
    gpu: str | None = None
    require_gpu: bool = False
    threads: int | None = None
    precision: str = "float32"
    batch_size: int | None = None
    card_memory: float | None = None
    device_timeout: float = DEVICE_TIMEOUT
    server: Path | None = None

    def __post_init__(self) -> None:
        if not self.device_timeout >= 0:
            raise InputError(f"device timeout {self.device_timeout:g}: give seconds, 0 or more")
        if self.threads is not None and self.threads < 1:
            raise InputError(f"{self.threads} threads: give 1 or more")
        self.card_numbers()  # so that a wrong list is noticed early

    def card_numbers(self) -> list[int] | None:
        """Cards of the list, each once; None for any.

        Raises
        ------
        InputError
            The list holds something else than numbers.
        """
        words = re.findall(r"[^,:;\s]+", self.gpu or "")
        if all(word == "-1" for word in words):
            return None
        if not all(re.fullmatch(r"\d+", word) for word in words):
            raise InputError(
                f"--gpu {self.gpu}: give numbers of cards, such as 0,1, or -1 alone for any"
            )
        return list(dict.fromkeys(map(int, words)))


@contextmanager
def denoiser_for(
    model: Model,
    request: EngineRequest,
    cores: CoreShare,
    purpose: str,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Denoiser]:
    """Context with a denoiser as asked for; its card is this job's alone meanwhile.

    Parameters
    ----------
    model : Model
    request : EngineRequest
    cores : CoreShare
        Entered already.
    purpose : str
        What the card is for, told to those who wait for it.
    check : callable
        Called while it waits for a card; whatever it raises ends the wait.

    Yields
    ------
    Denoiser

    Raises
    ------
    EngineError
        No engine could do what was asked, or no card became free.
    """
    if request.server is not None:
        with closing(RemoteEngine(request.server, model.config.sha256)) as engine:
            if request.require_gpu and not engine.description.is_gpu:
                raise EngineError(
                    f"--require-gpu, but the server computes on {engine.description.provider}"
                )
            logger.info("model %s on %s", model.config.name, engine.description.in_words())
            yield Denoiser(model.config, engine)
        return
    provider, cards, why_not = _cards(request)
    if not cards:
        if request.require_gpu:
            raise EngineError(f"--require-gpu, but {why_not}")
        if request.provider == "auto":
            logger.warning("running on the CPU: %s", why_not)
        yield _on_cpu(model, request, cores)
        return
    with one_of(cards, request.device_timeout, purpose, check) as card:
        try:
            denoiser = Denoiser.from_model(
                model,
                EngineSettings(
                    provider, (card.number,), _threads(request, cores), request.precision,
                    card_memory=request.card_memory,
                ),
                batch_size=request.batch_size,
            )
        except EngineError as error:
            if request.require_gpu or request.provider != "auto" or request.card_numbers():
                raise EngineError(f"card {card.number}: {error}; {CPU_HINT}") from error
            logger.warning("running on the CPU: card %d: %s", card.number, error)
        else:
            yield denoiser
            return
    yield _on_cpu(model, request, cores)


def _on_cpu(model: Model, request: EngineRequest, cores: CoreShare) -> Denoiser:
    settings = EngineSettings(
        request.provider, threads=_threads(request, cores), precision=request.precision,
        cards=False,
    )
    return Denoiser.from_model(model, settings, batch_size=request.batch_size)


def _threads(request: EngineRequest, cores: CoreShare) -> int:
    """A job's share of the processors, which work around a card's network takes too."""
    if request.threads is not None:
        return request.threads
    threads, jobs = cores.threads()
    logger.info("jobs sharing the processors: %d, threads of this one: %d", jobs, threads)
    return threads


def _cards(request: EngineRequest) -> tuple[str, list[Card], str]:
    """Provider, the cards to choose from, and, where there are none, why."""
    numbers = request.card_numbers()
    if request.provider != "auto":
        if request.provider not in GPU_PROVIDERS:
            return request.provider, [], f"the provider is {request.provider}"
        provider = request.provider
    else:
        built = [name for name in installed_providers() if name in GPU_PROVIDERS]
        if not built:
            why = "no engine for cards is installed (pip install 'blush-onnx[gpu]')"
            if numbers is not None:
                raise EngineError(f"--gpu {request.gpu} was asked for, but {why}; {CPU_HINT}")
            return "auto", [], why
        provider = built[0]
    if provider not in ("cuda", "tensorrt"):  # nobody to ask: the system counts from 0
        return provider, [Card(n, f"{provider}-{n}") for n in numbers or [0]], ""
    visible = cuda_cards()
    if numbers is None:
        if visible or request.provider != "auto":
            return provider, visible or [Card(0, "cuda-0")], ""
        return "auto", [], "the CUDA driver shows no card"
    missing = [n for n in numbers if n >= len(visible)]
    if missing:
        raise EngineError(
            f"--gpu {request.gpu} was asked for, but the CUDA driver shows {len(visible)} cards "
            f"(CUDA_VISIBLE_DEVICES counts); {CPU_HINT}"
        )
    return provider, [card for card in visible if card.number in numbers], ""
