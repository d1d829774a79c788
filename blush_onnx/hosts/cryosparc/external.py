"""One External job: half-maps of a refinement in, denoised maps out."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blush_onnx import __version__
from blush_onnx.hosts.cryosparc import pictures
from blush_onnx.hosts.cryosparc.connect import CryosparcError, Session, asking
from blush_onnx.hosts.cryosparc.running import JobLog, running
from blush_onnx.hosts.cryosparc.source import HALVES, MAP, Source, local_copy
from blush_onnx.hosts.cryosparc.work import Inputs, Request, Work, denoise_files
from blush_onnx.report.record import NOT_HALF_MAPS

VOLUME_INPUT, MASK_INPUT = "half_maps", "mask"
DENOISED, FROM_A, FROM_B = "denoised", "denoised_1", "denoised_2"
TITLES = {
    DENOISED: "Denoised map: reference for a refinement",
    FROM_A: "Denoised from half-map A: a reference, no half-map",
    FROM_B: "Denoised from half-map B: a reference, no half-map",
}
ONE_REFERENCE = (
    "A refinement takes one initial volume for both half-sets. If it starts from this map, both "
    "start from what the halves have in common up to {:.2f} Å, and a better FSC between its "
    "half-maps is no proof of a better map. Proof has to come from elsewhere: the same refinement "
    "from the map that was not denoised, the FSC with an atomic model that was not built into "
    "this map, and what is to be seen (docs/cryosparc.md)."
)


@dataclass(frozen=True)
class Done:
    """A job that has completed.

    Attributes
    ----------
    uid : str
    cut_off_angstrom : float
        Up to where the half-maps agree, and the low-pass for a refinement from the map.
    resolution_angstrom : float
        Of the half-maps before denoising, FSC 0.143.
    warnings : tuple of str
    """

    uid: str
    cut_off_angstrom: float
    resolution_angstrom: float
    warnings: tuple[str, ...]


class Undelivered(CryosparcError):
    """The maps are made, and the server did not take them."""


def denoise_job(session: Session, source: Source, workspace: str, request: Request) -> Done:
    """Create an External job, do its work, and leave it completed or failed with the reason.

    Parameters
    ----------
    session : Session
    source : Source
    workspace : str
        Such as W1.
    request : Request

    Returns
    -------
    Done

    Raises
    ------
    CryosparcError
        The server fails, or somebody ends the job there.
    Undelivered
        The server did not take the maps, which are kept on this machine.
    InputError, ModelError, EngineError, OutOfMemoryError
        As for ``blush-onnx denoise``.
    BlushError
        Matplotlib is not installed.
    """
    pictures.require_matplotlib()
    with asking(f"create an External job in {session.project_uid} {workspace}"):
        job = session.project.create_external_job(
            workspace, title=f"Blush denoising of {source.job.uid}",
            desc=f"blush-onnx {__version__}. {NOT_HALF_MAPS}",
        )
    session.say(f"{session.project_uid} {job.uid}, an External job in {workspace}")
    log = JobLog(session, job)
    with _work_folder() as folder, running(session, job, lambda: _connect(session, job, source)):
        log.line(
            f"blush-onnx {__version__} denoises {source.volume} of {source.job.uid} "
            f"(cryosparc-tools {session.tools.version})"
        )
        inputs = _inputs(session, job, source, folder, log)
        work = denoise_files(inputs, request, log, folder, (DENOISED, FROM_A, FROM_B))
        log.check_wanted()
        _deliver(session, job, work, folder)
        log.line(NOT_HALF_MAPS, "warning")
        log.line(ONE_REFERENCE.format(work.result.cut_off_angstrom), "warning")
    result = work.result
    return Done(job.uid, result.cut_off_angstrom, result.fsc.resolution(), work.warnings)


def _connect(session: Session, job: Any, source: Source) -> None:
    tools = session.tools
    halves = [tools.slot(name, source.dtypes[name]) for name in HALVES]
    with asking(f"connect {job.uid} to {source.job.uid}"):
        job.connect(
            VOLUME_INPUT, source.job.uid, source.volume, slots=halves, title="Half-maps"
        )
        if source.mask is not None:
            owner, output, result, dtype = source.mask
            job.connect(
                MASK_INPUT, owner, output, slots=[tools.slot(result, dtype)],
                title="Mask for the FSC",
            )
        for name, title in TITLES.items():
            job.add_output(
                "volume", name, slots=[tools.slot(MAP, source.dtypes[MAP])], title=title
            )


def _inputs(session: Session, job: Any, source: Source, folder: Path, log: JobLog) -> Inputs:
    with asking(f"load the inputs of {job.uid}"):
        volume = job.load_input(VOLUME_INPUT, slots=list(HALVES))
    (first, voxel_size), (second, _) = (
        local_copy(session, volume, slot, folder) for slot in HALVES
    )
    mask = None
    if source.mask is not None:
        result = source.mask[2]
        with asking(f"load the mask of {job.uid}"):
            dataset = job.load_input(MASK_INPUT, slots=[result])
        mask, _ = local_copy(session, dataset, result, folder)
    log.line(f"Half-maps {first} and {second}, {voxel_size:g} Å a voxel")
    log.line(f"FSC under the mask {mask}" if mask else "FSC without a mask: there is none")
    return Inputs((first, second), voxel_size, mask)


def _deliver(session: Session, job: Any, work: Work, folder: Path) -> None:
    try:
        for file in work.files:
            with asking(f"take {file} for {job.uid}"):
                # As bytes: a client that tries again would send what is left of a file.
                job.upload(file, (folder / file).read_bytes(), overwrite=True)
        for name in TITLES:
            with asking(f"save the output {name} of {job.uid}"):
                dataset = job.alloc_output(name, 1)
                dataset[f"{MAP}/path"] = f"{job.uid}/{name}.mrc"
                dataset[f"{MAP}/shape"] = work.box
                dataset[f"{MAP}/psize_A"] = work.voxel_size
                session.tools.save(job, name, dataset, io.BytesIO(work.slices))
    except CryosparcError as error:
        raise Undelivered(
            f"{error}; the maps are in {folder} on this machine, where cryoSPARC's job Import 3D "
            "Volumes can take them from"
        ) from error


@contextmanager
def _work_folder() -> Iterator[Path]:
    """A folder that is removed in the end, unless it has what the server did not take."""
    folder = Path(tempfile.mkdtemp(prefix="blush-onnx-"))
    try:
        yield folder
    except Undelivered:
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
