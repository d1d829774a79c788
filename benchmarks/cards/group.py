"""One group of measurements in a process of its own: ``python -m benchmarks.cards.group``."""

from __future__ import annotations

import datetime
import importlib
import subprocess
import sys

from benchmarks.cards.settings import Settings, one_line

QUERY = "--query-gpu=name,driver_version,memory.total"


def main() -> None:
    """Run the group named on the command line with the settings given there."""
    name, text = sys.argv[1:]
    settings = Settings.parse(text)
    try:
        run(name, settings)
    except Exception as error:  # a group that cannot begin must not end the others
        settings.write(part=name, failed=one_line(error))


def run(name: str, settings: Settings) -> None:
    """Measure; rows go to the settings' file."""
    if name == "machine":
        settings.write(part="machine", **facts(settings))
    elif name == "answers":
        from benchmarks.cards import pytorch

        pytorch.write_answers(settings)
    elif name.startswith("maps"):
        _maps(name.partition(" ")[2], settings)
    else:
        _patches(name, settings)


def _maps(which: str, settings: Settings) -> None:
    from benchmarks.cards import maps

    if which == "published":
        maps.measure_published(settings)
    else:
        maps.measure_ours(settings, which)


def _patches(name: str, settings: Settings) -> None:
    from benchmarks.cards import rounds
    from blush_onnx import models

    size = models.load_model(settings.model).config.patch_size
    batches = settings.few_batches
    if name == "network":
        from benchmarks.cards import ours

        contenders, batches = ours.contenders(settings), settings.batches
    elif name in ("torch", "compile"):
        from benchmarks.cards import pytorch

        ways = pytorch.EAGER if name == "torch" else pytorch.COMPILED
        contenders = pytorch.contenders(settings, ways)
        batches = settings.batches if name == "torch" else batches[-1:]
    elif name == "operations":
        from benchmarks.cards import operations

        contenders, batches = operations.contenders(settings, size), batches[-1:]
    else:
        from benchmarks.cards import sessions

        contenders = sessions.contenders(settings, name)
    rounds.compare(settings, name, contenders, batches, size)


def facts(settings: Settings) -> dict[str, str]:
    """Card, driver and versions, as far as they are there."""
    found = {"date": datetime.datetime.now(datetime.timezone.utc).date().isoformat()}
    if settings.on_card:
        try:
            done = subprocess.run(
                ["nvidia-smi", QUERY, "--format=csv,noheader", f"--id={settings.device}"],
                capture_output=True, text=True, timeout=20, check=True,
            )
            found["card"] = done.stdout.strip()
        except (OSError, subprocess.SubprocessError) as error:
            found["card"] = one_line(error)
    for module in ("onnxruntime", "torch", "numpy", "blush_onnx"):
        try:
            found[module] = str(importlib.import_module(module).__version__)
        except Exception as error:  # a broken installation raises anything
            found[module] = one_line(error)
    try:
        import onnxruntime
        import torch

        found["onnxruntime's CUDA"] = str(getattr(onnxruntime, "cuda_version", ""))
        found["torch's CUDA"] = str(torch.version.cuda)
        found["cuDNN"] = str(torch.backends.cudnn.version())
    except Exception as error:  # likewise
        found["cuDNN"] = one_line(error)
    return found


if __name__ == "__main__":
    main()
