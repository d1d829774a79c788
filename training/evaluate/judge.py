"""Everything that is judged, on every case, in one process or several."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from tqdm import tqdm

from training.evaluate import cases, denoisers, scores
from training.evaluate.cases import Request
from training.evaluate.scores import Denoise, Scores
from training.processes import single_threaded_pool
from training.sources import read_model

Row = dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """What is judged.

    Attributes
    ----------
    models : tuple of (name, path)
        Path as for :func:`training.sources.read_model`.
    filters : bool
        Whether the filters are judged too.
    repeats : bool
        Whether models denoise their own output again and again.
    threads : int or None
        CPU threads of each model; None: all.
    """

    models: tuple[tuple[str, str], ...]
    filters: bool = True
    repeats: bool = True
    threads: int | None = None

    @property
    def names(self) -> list[str]:
        """Filters first, as in the table."""
        return [*(denoisers.FILTERS if self.filters else ()), *(name for name, _ in self.models)]


def judge(
    judged: Judged, requests: Sequence[Request], jobs: int = 1
) -> tuple[list[Row], list[Row]]:
    """Score everything on every case.

    Parameters
    ----------
    judged : Judged
    requests : sequence of Request
    jobs : int
        Processes; with more than one each model computes on one thread.

    Returns
    -------
    rows : list of dict
        model, structure, resolution and the scores of each.
    curves : list of dict
        model, structure, resolution and the masked FSC before and after, of each.
    """
    rows: list[Row] = []
    curves: list[Row] = []
    with _mapped(jobs) as mapped:
        done = mapped(partial(judge_case, judged), requests)
        for found in tqdm(done, total=len(requests), unit="case", disable=None):
            rows += found[0]
            curves += found[1]
    return rows, curves


@contextlib.contextmanager
def _mapped(jobs: int) -> Iterator[Any]:
    """``map``, or that of a pool of processes."""
    if jobs == 1:
        yield map
        return
    with single_threaded_pool(jobs) as pool:
        yield pool.imap


def judge_case(judged: Judged, request: Request) -> tuple[list[Row], list[Row]]:
    """Score everything on one case; see :func:`judge`."""
    case = cases.make_case(request)
    rows, curves = [], []
    for name, denoise in _denoisers(judged).items():
        is_filter = name in denoisers.FILTERS
        row: Row = {
            "model": name, "structure": case.name, "resolution": case.resolution,
            "side": case.mask.shape[0],
        }
        found, both = scores.score_case(case, denoise, repeats=judged.repeats and not is_filter)
        row |= found
        if is_filter and judged.repeats:
            row["repeats"] = 1.0
        row |= scores.score_sharpened(case, denoise)
        row |= scores.score_phase_randomised(case, denoise)
        rows.append(row)
        curves.append(
            {"model": name, "structure": case.name, "resolution": case.resolution,
             "voxel_size": case.voxel_size, "side": case.mask.shape[0], **both}
        )
    return rows, curves


def judge_noise(judged: Judged) -> dict[str, Scores]:
    """What each makes of pure noise."""
    return {name: scores.score_noise(each) for name, each in _denoisers(judged).items()}


@lru_cache(maxsize=1)
def _denoisers(judged: Judged) -> dict[str, Denoise]:
    """Loaded once a process."""
    found: dict[str, Denoise] = dict(denoisers.FILTERS) if judged.filters else {}
    for name, path in judged.models:
        found[name] = denoisers.network(read_model(path), judged.threads)
    return found
