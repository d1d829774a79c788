"""A stand-in for a cryoSPARC server: run in an environment of cryosparc-tools 4.7 or 5.

It has one project with a few jobs, answers what the client of its version asks with the client's
own data classes, refuses what a server would refuse as far as that is known (docs/cryosparc.md),
and tells at ``/_state`` what it has been asked and what it holds. ``/_fault`` makes it misbehave.

    python -m tests.hosts.cryosparc_server --project FOLDER

prints its URL. What is particular to a version is in cryosparc_server4.py and cryosparc_server5.py,
HTTP in cryosparc_http.py.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.hosts.cryosparc_http import Answer, Refused, Request, as_json, free_ports, serve

PROJECT, WORKSPACE = "P3", "W1"
EMAIL, PASSWORD = "ali@example.org", "open sesame"
LICENCE = "01234567-89ab-cdef-0123-456789abcdef"
FIELDS = (("path", "O"), ("shape", "3u4"), ("psize_A", "f4"))
"""Columns of a volume, as the documents of jobs in cryosparc-tools' own tests have them."""
KNOWN_DTYPES = {"volume": {"blob"}, "mask": {"blob"}, "particle": {"blob", "ctf", "alignments3D"}}
REFINEMENT_PARAMETERS = ("refine_res_init", "refine_symmetry", "random_seed")


@dataclass
class Slot:
    name: str
    dtype: str


@dataclass
class Input:
    type: str
    title: str
    slots: list[Slot]
    connections: list[dict[str, Any]] = field(default_factory=list)
    """Each with job, output and slots: name to (job, output, result)."""


@dataclass
class Output:
    type: str
    title: str
    slots: list[Slot]
    dataset: Any = None


@dataclass
class Job:
    uid: str
    type: str
    status: str = "building"
    title: str = ""
    description: str = ""
    workspace: str = WORKSPACE
    parameters: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Input] = field(default_factory=dict)
    outputs: dict[str, Output] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    queued: dict[str, Any] | None = None
    looks: int = 0
    """How often it was looked at since it was queued."""


class Laboratory:
    """The project, its jobs, and how they behave."""

    def __init__(self, folder: Path, box: int, voxel_size: float) -> None:
        self.folder, self.box, self.voxel_size = folder, box, voxel_size
        self.jobs: dict[str, Job] = {}
        self.assets: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.faults: dict[str, str] = {}
        self.released = threading.Event()
        self._furnish()

    def job(self, project: str, uid: str) -> Job:
        if project != PROJECT or uid not in self.jobs:
            raise Refused(404, f"{project} {uid} not found")
        job = self.jobs[uid]
        if job.queued is not None:
            self._advance(job)
        return job

    def create(self, type_: str, workspace: str, **more: Any) -> Job:
        if "create" in self.faults and type_ != "snowflake":
            raise Refused(422, self.faults["create"])
        uid = f"J{max(int(known[1:]) for known in self.jobs) + 1}"
        (self.folder / uid).mkdir()
        self.jobs[uid] = Job(uid, type_, workspace=workspace, **more)
        if type_ != "snowflake":
            self.jobs[uid].inputs = {
                "particles": Input("particle", "Particles", [Slot("blob", "blob")]),
                "volume": Input("volume", "Initial volume", [Slot("map", "blob")]),
                "mask": Input("mask", "Static mask", [Slot("mask", "blob")]),
            }
        return self.jobs[uid]

    def check_slots(self, type_: str, slots: list[Slot]) -> None:
        known = KNOWN_DTYPES.get(type_, set())
        wrong = [s for s in slots if s.dtype not in known]
        if wrong or not slots:
            raise Refused(422, f"unknown {type_} slots {wrong}", {"slots": {
                "type": type_, "valid": [], "valid_dtypes": sorted(known),
                "invalid": [{"dtype": s.dtype, "prefix": s.name, "required": True} for s in wrong],
            }})

    def connect(self, job: Job, name: str, source_uid: str, output: str) -> None:
        source = self.job(PROJECT, source_uid)
        if output not in source.outputs or name not in job.inputs:
            raise Refused(422, f"cannot connect {source_uid}.{output} to {job.uid}.{name}")
        if job.status != "building":
            raise Refused(422, f"{job.uid} is {job.status}")
        given = {slot.name for slot in source.outputs[output].slots}
        missing = [s.name for s in job.inputs[name].slots if s.name not in given]
        if missing and job.type == "snowflake":
            raise Refused(422, f"{source_uid}.{output} lacks {missing}")
        job.inputs[name].connections.append({
            "job": source_uid, "output": output,
            "slots": {s.name: (source_uid, output, s.name) for s in job.inputs[name].slots},
        })

    def load(self, job: Job, name: str, slots: list[str]) -> Any:
        connections = job.inputs[name].connections if name in job.inputs else []
        if not connections:
            raise Refused(422, f"no input {name} is connected")
        source = self.job(PROJECT, connections[0]["job"]).outputs[connections[0]["output"]]
        kept = [f for f in source.dataset if f == "uid" or f.split("/")[0] in slots]
        return source.dataset.filter_fields(kept, copy=True)

    def save(self, job: Job, name: str, dataset: Any) -> None:
        if name not in job.outputs:
            raise Refused(422, f"no output {name}")
        if job.status not in ("running", "waiting"):
            raise Refused(422, f"{job.uid} is {job.status}")
        wanted = {field for field, _ in self.columns(job, name)}
        missing = sorted(wanted - set(dataset))
        if missing:
            raise Refused(422, f"Invalid dataset; missing the following required fields: {missing}")
        job.outputs[name].dataset = dataset

    def columns(self, job: Job, name: str) -> list[tuple[str, str]]:
        return [
            (f"{slot.name}/{column}", dtype)
            for slot in job.outputs[name].slots for column, dtype in FIELDS
        ]

    def log(self, job: Job, level: str, text: str, files: Any = ()) -> dict[str, Any]:
        event = {"id": f"{len(job.events):024x}", "type": level, "text": text,
                 "files": [self.assets[f] for f in files]}
        job.events.append(event)
        self.notice(job, text)
        return event

    def notice(self, job: Job, text: str) -> None:
        """Misbehave, when told to at this line of a log."""
        if (sign := self.faults.get("die")) and sign in text:
            os._exit(0)
        if (sign := self.faults.get("kill")) and sign in text:
            job.status = "killed"
        if (sign := self.faults.get("hold")) and sign in text:
            self.faults["holding"] = job.uid
            self.released.wait(60)

    def store(self, path: str, content: bytes, overwrite: bool) -> str:
        target = self.folder / path
        if "upload" in self.faults:
            raise Refused(507, self.faults["upload"])
        if target.exists() and not overwrite:
            raise Refused(409, f"{path} exists")
        target.write_bytes(content)
        return str(target)

    def content(self, path: str) -> bytes:
        if not (self.folder / path).is_file():
            raise Refused(404, f"{path} does not exist")
        return (self.folder / path).read_bytes()

    def keep_asset(self, filename: str, form: str, content: bytes) -> dict[str, Any]:
        fileid = f"{len(self.assets):024x}"
        self.assets[fileid] = {"filename": filename, "format": form, "bytes": len(content),
                               "start": content[:8].hex()}
        return {"fileid": fileid, "filename": filename, "filetype": form}

    def state(self) -> dict[str, Any]:
        return {
            "calls": self.calls, "faults": self.faults,
            "jobs": {uid: {
                **{k: v for k, v in vars(job).items() if k not in ("inputs", "outputs")},
                "inputs": {n: [vars(s) for s in i.slots] for n, i in job.inputs.items()},
                "connections": {n: i.connections for n, i in job.inputs.items()},
                "outputs": {n: {
                    "type": o.type, "title": o.title, "slots": [vars(s) for s in o.slots],
                    "dataset": _plain(o.dataset),
                } for n, o in job.outputs.items()},
            } for uid, job in self.jobs.items()},
        }

    def _advance(self, job: Job) -> None:
        """A queued refinement runs when it is looked at for the second time, then ends."""
        job.looks += 1
        if job.looks == 2:
            job.status = "running"
        if job.looks == 3:
            job.queued = None
            job.status = self.faults.get("refinement", "completed")
            self._give_halves(job, "J42")

    def _furnish(self) -> None:
        for uid, type_ in (("J39", "extract_micrographs_multi"), ("J40", "select_2D")):
            particles = Output("particle", "Particles", [Slot("blob", "blob"), Slot("ctf", "ctf")])
            self.jobs[uid] = Job(uid, type_, "completed", outputs={"particles": particles})
        volume = Output("volume", "Volume", [Slot("map", "blob")])
        self.jobs["J41"] = Job("J41", "homo_abinit", "completed", outputs={"volume": volume})
        refinement = Job(
            "J42", "nonuniform_refine_new", "completed", workspace="W2",
            parameters={"refine_symmetry": "D2", "refine_res_init": 30, "random_seed": 7},
        )
        self.jobs["J42"] = refinement
        refinement.inputs = {
            "particles": Input("particle", "Particles", [Slot("blob", "blob"), Slot("ctf", "ctf")],
                               [{"job": "J40", "output": "particles", "slots": {
                                   "blob": ("J39", "particles", "blob"),
                                   "ctf": ("J40", "particles", "ctf")}}]),
            "volume": Input("volume", "Initial volume", [Slot("map", "blob")],
                            [{"job": "J41", "output": "volume",
                              "slots": {"map": ("J41", "volume", "map")}}]),
            "mask": Input("mask", "Static mask", [Slot("mask", "blob")]),
        }
        self._give_halves(refinement, None)
        running = Job("J43", "nonuniform_refine_new", "running", outputs=refinement.outputs)
        self.jobs["J43"] = running

    def _give_halves(self, job: Job, copied_from: str | None) -> None:
        if copied_from:
            for path in (self.folder / copied_from).iterdir():
                shutil.copy(path, self.folder / job.uid / path.name)
        names = {"map": "map", "map_half_A": "half_A", "map_half_B": "half_B", "mask": "mask"}
        for output, slots in (("volume", ("map", "map_half_A", "map_half_B")), ("mask", ("mask",))):
            dataset = new_dataset([
                (slot, f"{job.uid}/{names[slot]}.mrc", self.box, self.voxel_size) for slot in slots
            ])
            job.outputs[output] = Output(
                output, output.title(), [Slot(name, "blob") for name in slots], dataset
            )


def new_dataset(rows: list[tuple[str, str, int, float]]) -> Any:
    """One row with the columns of some volumes."""
    from cryosparc.dataset import Dataset

    dataset = Dataset.allocate(1, [(f"{s}/{c}", d) for s, *_ in rows for c, d in FIELDS])
    for slot, path, box, voxel_size in rows:
        dataset[f"{slot}/path"] = path
        dataset[f"{slot}/shape"] = (box,) * 3
        dataset[f"{slot}/psize_A"] = voxel_size
    return dataset


def _plain(dataset: Any) -> Any:
    if dataset is None:
        return None
    return {name: dataset[name].tolist() for name in dataset if name != "uid"}


def _own(laboratory: Laboratory, request: Request) -> Answer | None:
    """What the tests ask."""
    if request.path == "/_state":
        return as_json(laboratory.state())
    if request.path == "/_fault":
        laboratory.faults.update(json.loads(request.body))
        return as_json(None)
    return None


def main() -> None:
    from cryosparc import __version__

    parser = argparse.ArgumentParser()
    parser.add_argument("--project", type=Path, required=True)
    parser.add_argument("--box", type=int, default=40)
    parser.add_argument("--voxel-size", type=float, default=2.0)
    options = parser.parse_args()
    laboratory = Laboratory(options.project, options.box, options.voxel_size)
    if __version__.startswith("4"):
        from tests.hosts.cryosparc_server4 import OFFSETS, Front
    else:
        from tests.hosts.cryosparc_server5 import OFFSETS, Front
    base = free_ports(OFFSETS)
    front = Front(laboratory, base)
    serve(
        [base + offset for offset in OFFSETS],
        lambda request: _own(laboratory, request) or front(request),
    )
    print(f"http://127.0.0.1:{base}", flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    # The module by its name, whose classes the other two modules know.
    from tests.hosts import cryosparc_server

    cryosparc_server.main()
