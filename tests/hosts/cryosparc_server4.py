"""What cryosparc-tools 4.7 asks: JSON-RPC of two services, and files beside it."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

from cryosparc.dataset import Dataset
from cryosparc.spec import JobDocument

from tests.hosts.cryosparc_http import DATASET, Answer, Refused, Request, as_json
from tests.hosts.cryosparc_server import (
    EMAIL,
    FIELDS,
    LICENCE,
    PASSWORD,
    PROJECT,
    REFINEMENT_PARAMETERS,
    Input,
    Job,
    Laboratory,
    Output,
    Slot,
)

OFFSETS = (2, 3, 5)
"""command_core, command_vis and command_rtp."""


def document(job: Job) -> dict[str, Any]:
    """A job as the database's document of it, with every key that the client's type has."""
    doc = {
        "_id": "0" * 24, "uid": job.uid, "uid_num": int(job.uid[1:]), "project_uid": PROJECT,
        "project_uid_num": 3, "type": job.type, "job_type": job.type, "title": job.title,
        "description": job.description, "status": job.status, "created_at": "",
        "created_by_user_id": None, "deleted": False, "parents": [], "children": [],
        "workspace_uids": [job.workspace],
        "params_base": {n: {"value": None} for n in REFINEMENT_PARAMETERS},
        "params_spec": {name: {"value": value} for name, value in job.parameters.items()},
        "params_secs": {},
        "input_slot_groups": [{
            "type": given.type, "name": name, "title": given.title, "description": "",
            "count_min": 0, "count_max": None, "repeat_allowed": False,
            "slots": [{"type": f"{given.type}.{s.dtype}", "name": s.name, "title": "",
                       "description": "", "optional": False} for s in given.slots],
            "connections": [{
                "job_uid": c["job"], "group_name": c["output"],
                "slots": [{"slot_name": slot, "job_uid": source, "group_name": output,
                           "result_name": result, "result_type": "", "version": "F"}
                          for slot, (source, output, result) in c["slots"].items()] + [
                    {"slot_name": None, "job_uid": "J1", "group_name": "passed",
                     "result_name": "location", "result_type": "", "version": "F"}],
            } for c in given.connections],
        } for name, given in job.inputs.items()],
        "output_result_groups": [{
            "uid": "", "type": output.type, "name": name, "title": output.title,
            "description": "", "passthrough": False, "num_items": 1, "summary": {},
            "contains": [],
        } for name, output in job.outputs.items()],
        "output_results": [{
            "uid": "", "type": f"{output.type}.{s.dtype}", "name": s.name, "group_name": name,
            "title": "", "description": "", "versions": [0], "metafiles": [],
            "min_fields": [list(f) for f in FIELDS], "num_items": 1, "passthrough": False,
        } for name, output in job.outputs.items() for s in output.slots],
    }
    assert set(doc) == set(JobDocument.__annotations__)
    return doc


class Front:
    """Answers requests on the three ports."""

    def __init__(self, laboratory: Laboratory, base_port: int) -> None:
        self._lab, self._base = laboratory, base_port

    def __call__(self, request: Request) -> Answer:
        if request.headers.get("License-ID") != LICENCE:
            raise Refused(401, "wrong license")
        service = {2: "core", 3: "vis", 5: "rtp"}[request.port - self._base]
        if request.path == "/api":
            return self._call(service, json.loads(request.body))
        return self._file(request)

    def _call(self, service: str, call: dict[str, Any]) -> Answer:
        name, parameters = call["method"], call["params"]
        methods = [m for m in dir(self) if m.startswith(f"{service}_")]
        if name == "system.describe":
            names = [m.removeprefix(f"{service}_") for m in methods]
            return as_json({"result": {"procs": [{"name": n} for n in names]}})
        self._lab.calls.append(name)
        method = getattr(self, f"{service}_{name}")
        try:
            if isinstance(parameters, dict):
                return as_json({"result": method(**parameters)})
            return as_json({"result": method(*parameters)})
        except Refused as refused:
            if refused.data:
                return as_json(refused.data, refused.code)
            error = {"name": "ServerError", "message": str(refused), "code": refused.code}
            return as_json({"error": error})

    def core_get_id_by_email_password(self, email: str, password: str) -> str:
        if (email, password) != (EMAIL, PASSWORD):
            raise Refused(403, "wrong password")
        return "5" * 24

    def core_get_running_version(self) -> str:
        return self._lab.faults.get("version", "v4.7.1")

    def core_get_project(self, project_uid: str) -> dict[str, Any]:
        if project_uid != PROJECT:
            raise Refused(404, f"{project_uid} not found")
        return {"uid": project_uid}

    def core_get_project_dir_abs(self, project_uid: str) -> str:
        del project_uid
        return self._lab.faults.get("project_dir", str(self._lab.folder))

    def core_get_job(self, project_uid: str, job_uid: str) -> dict[str, Any]:
        return document(self._lab.job(project_uid, job_uid))

    def core_make_job(
        self, job_type: str, project_uid: str, workspace_uid: str, user_id: str, title: str,
        desc: str, params: dict[str, Any], input_group_connects: dict[str, list[str]],
    ) -> str:
        assert project_uid == PROJECT and user_id
        job = self._lab.create(
            job_type, workspace_uid, title=title, description=desc, parameters=params
        )
        for name, sources in input_group_connects.items():
            for source in sources:
                self._lab.connect(job, name, *source.split("."))
        return job.uid

    def core_job_connect_result(self, project_uid: str, source_result: str, dest_slot: str) -> bool:
        uid, name, index, slot = dest_slot.split(".")
        job = self._lab.job(project_uid, uid)
        source = tuple(source_result.split("."))
        job.inputs[name].connections[int(index)]["slots"][slot] = source
        return True

    def core_enqueue_job(self, project_uid: str, job_uid: str, **where: Any) -> str:
        job = self._lab.job(project_uid, job_uid)
        job.status, job.queued = "queued", where
        return "queued"

    def core_run_external_job(self, project_uid: str, job_uid: str, status: str) -> None:
        self._lab.job(project_uid, job_uid).status = status

    def core_set_job_status(self, project_uid: str, job_uid: str, status: str) -> None:
        self._lab.job(project_uid, job_uid).status = status

    def core_job_send_streamlog(
        self, project_uid: str, job_uid: str, message: str, error: bool = False,
        flags: list[str] | None = None, imgfiles: list[dict[str, str]] | None = None,
    ) -> str:
        job = self._lab.job(project_uid, job_uid)
        kind = "image" if flags else "error" if error else "text"
        files = [f["fileid"] for f in imgfiles or ()]
        return str(self._lab.log(job, kind, message, files)["id"])

    def vis_create_external_job(
        self, project_uid: str, workspace_uid: str, user: str, title: str, desc: str
    ) -> str:
        assert project_uid == PROJECT and user
        return self._lab.create("snowflake", workspace_uid, title=title, description=desc).uid

    def vis_connect_external_job(
        self, project_uid: str, source_job_uid: str, source_output: str, target_job_uid: str,
        target_input: str, slots: list[Any], title: str, desc: str,
    ) -> None:
        del desc
        job = self._lab.job(project_uid, target_job_uid)
        source = self._lab.job(project_uid, source_job_uid)
        type_ = source.outputs[source_output].type
        wanted = [Slot(s["prefix"], s["dtype"]) for s in slots]
        self._lab.check_slots(type_, wanted)
        job.inputs.setdefault(target_input, Input(type_, title, wanted))
        self._lab.connect(job, target_input, source_job_uid, source_output)

    def vis_add_external_job_output(
        self, project_uid: str, job_uid: str, type: str, name: str, slots: list[Any],
        passthrough: str | None, title: str,
    ) -> None:
        assert passthrough is None
        wanted = [Slot(s["prefix"], s["dtype"]) for s in slots]
        self._lab.check_slots(type, wanted)
        self._lab.job(project_uid, job_uid).outputs[name] = Output(type, title, wanted)

    def rtp_nothing(self) -> None:
        """This service is asked for its methods alone."""

    def _file(self, request: Request) -> Answer:
        words = request.path.strip("/").split("/")
        self._lab.calls.append(words[0] if len(words) == 1 else f"{words[0]} {words[-1]}")
        if words == ["load_job_input"]:
            wanted = json.loads(request.body)
            job = self._lab.job(wanted["project_uid"], wanted["job_uid"])
            dataset = self._lab.load(job, wanted["input_name"], wanted["slots"])
            return 200, DATASET, b"".join(dataset.stream(compression="lz4"))
        if words == ["get_project_file"]:
            content = self._lab.content(json.loads(request.body)["path"])
            return 200, "application/octet-stream", content
        if words[0] == "external":
            _, _, project, _, uid, _, name, _ = words
            self._lab.save(self._lab.job(project, uid), name, Dataset.load(BytesIO(request.body)))
            return as_json(None)
        if len(words) == 3:  # projects/P3/files
            overwrite = request.query.get("overwrite") == ["1"]
            self._lab.store(request.query["path"][0], request.body, overwrite)
            return as_json(None)
        form, filename = request.query["format"][0], request.query["filename"][0]
        return as_json(self._lab.keep_asset(filename, form, request.body))
