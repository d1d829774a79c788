"""Graphics cards shared between jobs: one job a card, first come, first served."""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blush_onnx.errors import EngineError
from blush_onnx.sharing.locks import LockedFile, living, machine_folder

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
DRIVER = "libcuda.so.1"


@dataclass(frozen=True)
class Card:
    """A graphics card.

    Attributes
    ----------
    number : int
        As this process counts them, after CUDA_VISIBLE_DEVICES.
    key : str
        The card's own, the same in every process of the machine.
    """

    number: int
    key: str


def cuda_cards(driver: str = DRIVER) -> list[Card]:
    """CUDA cards that this process may use, asked of the driver.

    Parameters
    ----------
    driver : str
        Name of the driver's library.

    Returns
    -------
    list of Card
        Empty where there is no driver or no card.
    """
    try:
        cuda = ctypes.CDLL(driver)
    except OSError:
        return []
    count = ctypes.c_int()
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    # Version 2 of the question also tells the parts of a card apart (MIG).
    ask = getattr(cuda, "cuDeviceGetUuid_v2", None) or cuda.cuDeviceGetUuid
    cards = []
    for number in range(count.value):
        handle, raw = ctypes.c_int(), (ctypes.c_ubyte * 16)()
        if cuda.cuDeviceGet(ctypes.byref(handle), number) == 0 and ask(raw, handle) == 0:
            cards.append(Card(number, f"GPU-{uuid.UUID(bytes=bytes(raw))}"))
    return cards


@contextmanager
def one_of(
    cards: Sequence[Card],
    timeout: float,
    purpose: str,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Card]:
    """Context that holds one of some cards; waits until one is free.

    Whoever has waited longest is served first. The wait ends when no card of the
    list has changed hands for `timeout` seconds: a long queue that moves is no
    reason to give up, and a stuck one must not last for ever.

    Parameters
    ----------
    cards : sequence of Card
        At least one.
    timeout : float
        Seconds.
    purpose : str
        Told to those who wait for this one.
    check : callable
        Called now and then; whatever it raises ends the wait.

    Yields
    ------
    Card

    Raises
    ------
    EngineError
        The wait was in vain; the message says who holds the cards.
    """
    ticket = _Ticket(cards)
    held: LockedFile | None = None
    try:
        card, held = _wait(cards, ticket, timeout, check)
        held.write(f"process {os.getpid()} ({purpose})\n{time.monotonic_ns()}")
        ticket.release()
        yield card
    finally:
        ticket.release()
        if held is not None:
            held.write("")
            held.release()


class _Ticket:
    """A place in the queue, taken again where somebody clears the folder away."""

    def __init__(self, cards: Sequence[Card]) -> None:
        self._text = "\n".join(card.key for card in cards)
        self.name = f"{time.monotonic_ns():020d}-{os.getpid()}-{threading.get_ident()}"
        self._held: LockedFile | None = None

    def ahead(self) -> set[str]:
        """Keys of the cards that somebody has been waiting for longer."""
        queue = machine_folder("cards", "queue")
        if self._held is None or not (queue / self.name).exists():
            self.release()
            self._held = LockedFile.announced(queue / self.name, self._text)
        wanted: set[str] = set()
        for path in living(queue):
            if path.name >= self.name:
                break
            wanted |= set(_text(path).split())
        return wanted

    def release(self) -> None:
        """Leave the queue; a second time does nothing."""
        if self._held is not None:
            self._held.release(remove=True)
            self._held = None


def _wait(
    cards: Sequence[Card], ticket: _Ticket, timeout: float, check: Callable[[], None]
) -> tuple[Card, LockedFile]:
    start = since = time.monotonic()
    before: list[str] = []
    while True:
        check()
        wanted_before = ticket.ahead()
        locks = machine_folder("cards")
        for card in cards:
            if card.key in wanted_before:
                continue
            held = LockedFile.attempt(locks / card.key)
            if held is not None:
                waited = time.monotonic() - start
                logger.info("card %d (%s), after %.1f s of waiting", card.number, card.key, waited)
                return card, held
        holders = [_text(locks / card.key) for card in cards]
        now = time.monotonic()
        if not before:
            logger.info("waiting for a card: %s", _told(cards, holders))
        if holders != before:
            before, since = holders, now
        if now - since > timeout:
            raise EngineError(
                f"no card became free in {timeout:g} s: {_told(cards, holders)}; end what is "
                "stuck, give more cards, or a longer --device-timeout"
            )
        time.sleep(POLL_SECONDS)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # not there yet, or gone meanwhile
        return ""


def _told(cards: Sequence[Card], holders: Sequence[str]) -> str:
    return ", ".join(
        f"card {card.number} is held by {_who(holder)}"
        for card, holder in zip(cards, holders, strict=True)
    )


def _who(holder: str) -> str:
    """The first line of a holder's text; the second tells its turns apart."""
    return holder.partition("\n")[0] or "another job"
