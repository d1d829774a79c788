"""The stand-in for a server, with a refinement's files, and the command run against it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.cli.helpers import COMMAND
from tests.conftest import Volume, blob_and_noise, write_mrc
from tests.hosts.cryosparc_server import EMAIL, LICENCE, PASSWORD

ROOT = Path(__file__).parent.parent.parent
SIDE, VOXEL_SIZE = 40, 2.0


@dataclass
class Server:
    """A server of its own for each test, with real files in its project."""

    python: Path
    process: subprocess.Popen[str]
    url: str
    project: Path
    model: Path

    def state(self) -> Any:
        with urllib.request.urlopen(f"{self.url_of_tests}/_state", timeout=20) as answer:  # noqa: S310
            return json.load(answer)

    def misbehave(self, **faults: str) -> None:
        body = json.dumps(faults).encode()
        urllib.request.urlopen(f"{self.url_of_tests}/_fault", body, timeout=20).close()  # noqa: S310

    def newest(self) -> Any:
        """The job that was created last."""
        jobs = self.state()["jobs"]
        return jobs[max(jobs, key=lambda uid: int(uid[1:]))]

    def arguments(self, *words: str | Path, denoising: bool = True) -> list[str | Path]:
        model = ("--model", self.model, "--provider", "cpu") if denoising else ()
        return [self.python, *COMMAND[1:], "cryosparc", *words, *model]

    def environment(self, **other: str) -> dict[str, str]:
        return {
            **os.environ, "CRYOSPARC_BASE_URL": self.url, "CRYOSPARC_EMAIL": EMAIL,
            "CRYOSPARC_PASSWORD": PASSWORD, "CRYOSPARC_LICENSE_ID": LICENCE,
            "CRYOSPARC_COMMAND_RETRY_SECONDS": "0", "TMPDIR": str(self.project.parent), **other,
        }

    def run(self, *words: str | Path, **other: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.arguments(*words), env=self.environment(**other), capture_output=True, text=True,
            timeout=120, check=False,
        )

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.arguments(*words), env=self.environment(), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    @property
    def url_of_tests(self) -> str:
        host, port = self.url.rsplit(":", 1)
        return self.url if "cryosparc-5" in str(self.python) else f"{host}:{int(port) + 2}"


def sphere() -> Volume:
    axis = np.arange(SIDE) - SIDE // 2
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    return np.clip((SIDE * 0.42 - radius) / 4, 0, 1).astype(np.float32)


@contextmanager
def serving(python: Path, folder: Path, model: Path) -> Iterator[Server]:
    """A server with a refinement's files in its project, ended whatever happens."""
    project = folder / "CS-project"
    (project / "J42").mkdir(parents=True)
    for name, seed in (("half_A", 1), ("half_B", 2)):
        write_mrc(project / "J42" / f"{name}.mrc", blob_and_noise((SIDE,) * 3, seed), VOXEL_SIZE)
    write_mrc(project / "J42" / "map.mrc", blob_and_noise((SIDE,) * 3, 3, 0), VOXEL_SIZE)
    write_mrc(project / "J42" / "mask.mrc", sphere(), VOXEL_SIZE)
    process = subprocess.Popen(
        [python, "-m", "tests.hosts.cryosparc_server", "--project", project],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http"), "the stand-in did not start"
        yield Server(python, process, url, project, model)
    finally:
        process.kill()
        process.communicate()


Finished = tuple[Server, subprocess.CompletedProcess[str], Any]
"""A server, what a command said, and what the server holds after it."""


def texts(job: Any, *kinds: str) -> list[str]:
    return [event["text"] for event in job["events"] if not kinds or event["type"] in kinds]
