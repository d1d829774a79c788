from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from blush_onnx.machine import available_cpus, cpu_affinity
from blush_onnx.sharing.cores import CoreShare

HOLD = (
    "import sys\nfrom blush_onnx.sharing.cores import CoreShare\n"
    "with CoreShare():\n    print('in', flush=True)\n    sys.stdin.read()"
)


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLUSH_ONNX_LOCKS", str(tmp_path))


def start_job(cpus: set[int] | None = None) -> subprocess.Popen[str]:
    code = HOLD if cpus is None else f"import os\nos.sched_setaffinity(0, {cpus})\n{HOLD}"
    job = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert job.stdout is not None
    assert job.stdout.readline() == "in\n"
    return job


def test_a_job_alone_takes_all_processors() -> None:
    with CoreShare() as cores:
        assert cores.threads() == (available_cpus(), 1)


def test_jobs_that_run_together_share_the_processors() -> None:
    with start_job() as other, CoreShare() as cores:
        threads, jobs = cores.threads()
        assert jobs == 2
        assert threads == max(int(available_cpus() / 2 + 0.5), 1)
        other.communicate("")
        assert cores.threads() == (available_cpus(), 1)


def test_a_job_that_died_no_longer_counts(tmp_path: Path) -> None:
    with start_job() as other, CoreShare() as cores:
        other.kill()
        other.wait()
        assert cores.threads() == (available_cpus(), 1)
        assert len(list((tmp_path / "blush-onnx" / "cores").iterdir())) == 1


@pytest.mark.skipif(len(cpu_affinity()) < 2, reason="there is one processor only")
def test_jobs_bound_to_different_processors_do_not_share() -> None:
    mine = cpu_affinity()
    first = min(mine)
    with start_job({first}) as other, CoreShare() as cores:
        try:
            os.sched_setaffinity(0, mine - {first})
            assert cores.threads() == (available_cpus(), 1)
        finally:
            os.sched_setaffinity(0, mine)
            other.communicate("")


def test_where_jobs_cannot_be_counted_each_takes_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("BLUSH_ONNX_LOCKS", str(tmp_path / "none"))
    with CoreShare() as cores:
        assert cores.threads() == (available_cpus(), 1)
    assert "not counted" in caplog.text


def test_a_folder_that_was_cleared_away_means_no_other_job(tmp_path: Path) -> None:
    with CoreShare() as cores:
        shutil.rmtree(tmp_path / "blush-onnx")
        assert cores.threads() == (available_cpus(), 1)


def test_openmp_settings_of_the_host_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with CoreShare() as cores:
        assert cores.threads()[0] == available_cpus()
