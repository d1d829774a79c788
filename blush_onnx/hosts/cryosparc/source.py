"""Which outputs of which jobs are denoised: half-maps, and a mask for their FSC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from blush_onnx.errors import InputError
from blush_onnx.hosts.cryosparc.connect import CryosparcError, Session, asking
from blush_onnx.hosts.cryosparc.facts import COMPLETED, JobFacts, Output

HALVES = ("map_half_A", "map_half_B")
MAP = "map"
MASK = "mask"


@dataclass(frozen=True)
class Source:
    """Outputs to be connected to.

    Attributes
    ----------
    job : JobFacts
        The refinement.
    volume : str
        Its output that has both half-maps.
    dtypes : mapping
        Data types of the half-maps and of the map, as the server itself calls them.
    mask : (str, str, str, str) or None
        Job, output, result and data type of the mask.
    """

    job: JobFacts
    volume: str
    dtypes: Mapping[str, str]
    mask: tuple[str, str, str, str] | None


def choose_source(
    session: Session,
    job_uid: str,
    *,
    volume_output: str | None = None,
    mask_job: str | None = None,
    mask_output: str | None = None,
    with_mask: bool = True,
) -> Source:
    """Find the half-maps and the mask among the outputs of completed jobs.

    Parameters
    ----------
    session : Session
    job_uid : str
        Of the refinement.
    volume_output : str, optional
        Where it has several with half-maps.
    mask_job : str, optional
        In place of the refinement's own mask, if it has one.
    mask_output : str, optional
        Where that job has several masks.
    with_mask : bool
        Whether the FSC is taken under a mask at all.

    Returns
    -------
    Source

    Raises
    ------
    InputError
        The job has not completed, has no half-maps, or it is not clear which are meant.
    CryosparcError
        The server does not answer or has no such job.
    """
    facts = _completed(session, job_uid)
    volumes = {
        name: output for name, output in facts.outputs.items()
        if output.type == "volume" and set(HALVES) <= set(output.slots)
    }
    if not volumes:
        raise InputError(
            f"{job_uid} ({facts.type}) has no output with half-maps (results map_half_A and "
            "map_half_B): give a refinement, or another job that makes half-maps"
        )
    volume = _only(job_uid, "half-maps", volumes, volume_output, "--volume-output")
    slots = volumes[volume].slots
    dtypes = {name: slots[name] for name in (*HALVES, MAP) if name in slots}
    dtypes.setdefault(MAP, slots[HALVES[0]])
    mask = None
    if with_mask:
        owner = facts if mask_job in (None, job_uid) else _completed(session, str(mask_job))
        mask = _mask(owner, mask_output, required=mask_job is not None or mask_output is not None)
    return Source(facts, volume, dtypes, mask)


def local_copy(session: Session, dataset: Any, slot: str, folder: Path) -> tuple[Path, float]:
    """A map that a dataset names, as a file on this machine, and its voxel size.

    Parameters
    ----------
    session : Session
    dataset : cryosparc.dataset.Dataset
        Of one row.
    slot : str
        Such as map_half_A.
    folder : Path
        Where a file is put that has to be fetched from the server.

    Returns
    -------
    path : Path
        In the project's folder, where this machine sees it and this user may read it.
    voxel_size : float
        Å, as the dataset has it.

    Raises
    ------
    InputError
        The dataset does not name one map.
    CryosparcError
        The file is not there.
    """
    if len(dataset) != 1 or f"{slot}/path" not in dataset:
        raise InputError(f"the input has {len(dataset)} rows with {slot}: expected one volume")
    # Older versions put this sign before paths that are relative to the project.
    relative = PurePosixPath(str(dataset[f"{slot}/path"][0]).removeprefix(">"))
    voxel_size = float(f"{float(dataset[f'{slot}/psize_A'][0]):.6g}")  # stored as float32
    with asking("name the project's folder"):
        path = Path(session.tools.project_folder(session.project)) / relative
    if _can_read(path):
        return path, voxel_size
    fetched = folder / f"{slot}_{relative.name}"
    try:
        with asking(f"give {relative}"):
            session.project.download_file(relative, fetched)
    except CryosparcError as error:
        raise CryosparcError(f"{path} is not there, and {error}") from error
    return fetched, voxel_size


def _can_read(path: Path) -> bool:
    """Whether this user gets at a file: a project's folder is often that of another."""
    try:
        path.open("rb").close()
    except OSError:
        return False
    return True


def _completed(session: Session, uid: str) -> JobFacts:
    job = session.find_job(uid)
    with asking(f"describe {uid}"):
        facts = session.tools.facts(job)
    if facts.status != COMPLETED:
        raise InputError(f"{uid} is {facts.status}: give a job that has completed")
    return facts


def _mask(
    owner: JobFacts, wanted: str | None, *, required: bool
) -> tuple[str, str, str, str] | None:
    masks = {name: out for name, out in owner.outputs.items() if out.type == MASK and out.slots}
    if not masks:
        if required:
            raise InputError(f"{owner.uid} ({owner.type}) has no output of the type mask")
        return None
    name = _only(owner.uid, "masks", masks, wanted, "--mask-output")
    slots = masks[name].slots
    result = MASK if MASK in slots else next(iter(slots))
    return owner.uid, name, result, slots[result]


def _only(
    uid: str, what: str, outputs: Mapping[str, Output], wanted: str | None, option: str
) -> str:
    names = ", ".join(outputs)
    if wanted is not None:
        if wanted not in outputs:
            raise InputError(f"{uid} has no {what} in an output {wanted}; it has them in {names}")
        return wanted
    if len(outputs) > 1:
        raise InputError(f"{uid} has {what} in several outputs ({names}): choose with {option}")
    return next(iter(outputs))
