"""What every benchmark of time and memory needs: fresh processes, medians, ratios."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from blush_onnx.errors import EngineError
from blush_onnx.machine import available_cpus

OURS, REFERENCE = "ours", "reference"
PACKAGES = ("blush-onnx", "numpy", "onnxruntime", "openvino", "torch")

_POWER = Path("/sys/class/powercap")

Measured = dict[str, float]
Side = tuple[str, str, Sequence[object]]
"""A module, a function in it, and the arguments."""


def alternating(
    sides: Mapping[str, Side], repeats: int, environment: Mapping[str, str] | None = None
) -> dict[str, list[Measured]]:
    """Measure every side in turn, again and again, each time in a process of its own.

    Parameters
    ----------
    sides : mapping of str to (module, function, arguments)
    repeats : int
    environment : mapping of str to str, optional
        Added to this process's own.

    Returns
    -------
    dict of str to list
        What the functions returned. A side whose engine is not to be had here is left out.
    """
    measured: dict[str, list[Measured]] = {side: [] for side in sides}
    for repeat in range(repeats):
        for side, (module, function, arguments) in sides.items():
            if side not in measured:
                continue
            click.echo(f"{side}, {repeat + 1} of {repeats}", err=True)
            found = in_new_process(module, function, *arguments, environment=environment)
            if "not run" in found:
                click.echo(f"  not run: {found['not run']}", err=True)
                del measured[side]
            else:
                measured[side].append(found)
    return measured


def in_new_process(
    module: str, function: str, *arguments: object, environment: Mapping[str, str] | None = None
) -> Any:
    """What a function of a module returns in a fresh process.

    Raises
    ------
    ClickException
        It failed, other than for want of an engine.
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.measuring", module, function, json.dumps(arguments)],
        cwd=Path(__file__).resolve().parents[1], capture_output=True, text=True, check=False,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode:
        raise click.ClickException(f"{function} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def table(
    measured: Mapping[str, Sequence[Measured]],
    reference_of: Callable[[str], str] = lambda _side: REFERENCE,
) -> list[str]:
    """Medians a row, and the medians of the repeats' ratios of its reference to each side.

    Parameters
    ----------
    measured : mapping of str to sequence of dict
        As :func:`alternating` returned it.
    reference_of : callable
        From a side's name to that of the side it is compared with.
    """
    sides = [side for side in measured if measured[side]]
    names = list(dict.fromkeys(name for side in sides for name in measured[side][0]))
    ratios = {
        side: {
            name: _ratio(measured[side], measured.get(reference_of(side), ()), name)
            for name in names if not name.endswith("/s")  # of a rate more is better
        }
        for side in sides if side not in {reference_of(other) for other in sides}
    }
    compared = [side for side in ratios if any(ratios[side].values())]
    width = max([12, *(len(side) + 4 for side in sides)])
    lines = [f"{'median':34s}" + "".join(f"{s:>{width}s}" for s in sides)
             + "".join(f"{'x ' + s:>{width}s}" for s in compared)]
    for name in names:
        row = f"{name:34s}"
        for side in sides:
            value = _median(m.get(name) for m in measured[side])
            row += f"{'' if value is None else f'{value:.3g}':>{width}s}"
        for side in compared:
            ratio = ratios[side].get(name)
            row += f"{'' if ratio is None else f'{ratio:.2f}':>{width}s}"
        lines.append(row.rstrip())
    return lines


def _ratio(ours: Sequence[Measured], theirs: Sequence[Measured], name: str) -> float | None:
    """Median of the ratios of theirs to ours, repeat by repeat."""
    return _median(
        b[name] / a[name] if a.get(name) and b.get(name) else None
        for a, b in zip(ours, theirs, strict=False)
    )


def _median(values: Any) -> float | None:
    found = [value for value in values if value is not None]
    return statistics.median(found) if found else None


def machine() -> str:
    """Processor, cores and versions, in a line."""
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(x.split(":")[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        pass
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return (
        f"{processor}, {available_cpus()} processors, Python {platform.python_version()}, "
        + ", ".join(versions)
    )


def peak_memory() -> float:
    """Largest resident size of this process so far, MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def processor_seconds() -> float:
    """Time this process has computed, all its threads together."""
    times = os.times()
    return times.user + times.system


def processor_joules() -> float | None:
    """Energy that the processors have taken since some time ago, where Linux lets one read it."""
    try:
        counters = sorted(_POWER.glob("intel-rapl:?/energy_uj"))
        return sum(int(c.read_text()) for c in counters) / 1e6 if counters else None
    except OSError:  # since 2020 only the administrator may
        return None


def timed(function: Callable[[], object], repeats: int = 1) -> float:
    """Median seconds of some calls."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def main() -> None:
    """Call a function in this process and print what it returns."""
    import importlib

    module, function, arguments = sys.argv[1:]
    try:
        result = getattr(importlib.import_module(module), function)(*json.loads(arguments))
    except EngineError as error:
        result = {"not run": str(error)}
    click.echo(json.dumps(result))


if __name__ == "__main__":
    main()
