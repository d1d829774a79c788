"""What cryosparc-tools 5 asks: a REST interface that describes itself in OpenAPI.

The client makes its methods from that description. Here it is written from the client's own
``api.pyi``, in which every method of the server has its parameters and its return type.
"""

from __future__ import annotations

import ast
import hashlib
import json
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import cryosparc
from cryosparc.dataset import Dataset
from cryosparc.models import job_spec
from cryosparc.models.asset import GridFSAsset
from cryosparc.models.event import ImageEvent, TextEvent
from cryosparc.models.job import Job as JobModel
from cryosparc.models.job_register import JobRegister
from cryosparc.models.project import Project
from cryosparc.models.user import User

from tests.hosts.cryosparc_http import DATASET, JSON, Answer, Refused, Request, as_json
from tests.hosts.cryosparc_server import (
    EMAIL,
    PASSWORD,
    PROJECT,
    REFINEMENT_PARAMETERS,
    Input,
    Job,
    Laboratory,
    Output,
    Slot,
)

OFFSETS = (0,)
PREFIX = "/api/cmd"
TOKEN = "a token"  # noqa: S105
STREAMS = {"Dataset": DATASET, "Stream": "application/octet-stream"}
NOW = datetime.now(timezone.utc)


def openapi() -> dict[str, Any]:
    """The description, of all methods in the client's stub."""
    tree = ast.parse(Path(cryosparc.__file__).with_name("api.pyi").read_text())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    spaces = {
        item.annotation.id: f"{item.target.id}."
        for item in classes["APIClient"].body
        if isinstance(item, ast.AnnAssign)
        and isinstance(item.target, ast.Name) and isinstance(item.annotation, ast.Name)
    } | {"APIClient": ""}
    paths = {}
    for class_name, space in spaces.items():
        for method in classes[class_name].body:
            if isinstance(method, ast.FunctionDef) and not method.name.startswith("__"):
                path, description = _endpoint(space + method.name, method)
                paths[path] = {"post": description}
    return {"info": {}, "components": {}, "paths": paths}


def _endpoint(name: str, method: ast.FunctionDef) -> tuple[str, dict[str, Any]]:
    arguments = method.args
    in_path = [a.arg for a in arguments.posonlyargs if a.arg != "self"]
    parameters = [{"name": n, "in": "path", "required": True} for n in in_path]
    endpoint: dict[str, Any] = {"summary": name, "parameters": parameters}
    in_query = [
        {"name": argument.arg, "in": "query", "required": default is None}
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    if name == "login":
        endpoint["requestBody"] = {"content": {"application/x-www-form-urlencoded": {"schema": {}}}}
    else:
        parameters += in_query
    body = [a for a in arguments.args if a.arg != "self"]
    if body:
        kind = STREAMS.get(ast.unparse(body[0].annotation or ast.Constant(None)), JSON)
        schema = {"title": body[0].arg}
        endpoint["requestBody"] = {"content": {kind: {"schema": schema}}}
    returned = ast.unparse(method.returns) if method.returns else "None"
    kind = STREAMS.get(returned, JSON)
    content = {} if returned == "None" else {"content": {kind: {"schema": _schema(returned)}}}
    endpoint["responses"] = {"200": content}
    return "/".join([f"/{name}", *(f"{{{n}}}" for n in in_path)]), endpoint


def _schema(returned: str) -> dict[str, Any]:
    if returned == "str":
        return {"type": "string"}
    if returned.isidentifier() and returned[0].isupper() and returned not in STREAMS:
        return {"$ref": f"#/components/schemas/{returned}"}
    return {}


def model(job: Job) -> JobModel:
    """A job as the client's own model of it."""
    spec = job_spec.JobSpec(
        type=job.type, params=job_spec.Params(**job.parameters),
        inputs=job_spec.Inputs({
            name: job_spec.Input(
                type=given.type, title=given.title,
                slots=[job_spec.InputSlot(name=s.name, dtype=s.dtype) for s in given.slots],
                connections=[job_spec.Connection(
                    job_uid=c["job"], output=c["output"],
                    results=[job_spec.InputResult(
                        name=slot, dtype="blob", job_uid=source, output=output, result=result
                    ) for slot, (source, output, result) in c["slots"].items()] + [
                        job_spec.InputResult(name=None, dtype="location", job_uid="J1",
                                             output="passed", result="location")],
                ) for c in given.connections],
            ) for name, given in job.inputs.items()
        }),
        outputs=job_spec.Outputs({
            name: job_spec.Output(
                type=output.type, title=output.title,
                results=[job_spec.OutputResult(name=s.name, dtype=s.dtype) for s in output.slots],
            ) for name, output in job.outputs.items()
        }),
        ui_tile_width=1, ui_tile_height=1, resource_spec=job_spec.ResourceSpec(),
    )
    return JobModel(
        uid=job.uid, uid_num=int(job.uid[1:]), project_uid=PROJECT, project_uid_num=3,
        workspace_uids=[job.workspace], spec=spec, job_dir=job.uid, job_dir_size_last_updated=NOW,
        title=job.title, description=job.description, status=job.status, status_num=0,
        build_errors=[],
    )


class Front:
    """Answers requests on the one port."""

    def __init__(self, laboratory: Laboratory, _base_port: int) -> None:
        self._lab = laboratory

    def __call__(self, request: Request) -> Answer:
        path = request.path.removeprefix(PREFIX)
        if path == "/openapi.json":
            return as_json(openapi())
        if path == "/login":
            return self._login(request)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Refused(401, "not logged in")
        name, *words = (unquote(word) for word in path.strip("/").split("/"))
        self._lab.calls.append(name)
        result = getattr(self, name.replace(".", "_"))(request, *words)
        if isinstance(result, bytes):
            return 200, DATASET if "load" in name and "download" not in name else (
                "application/octet-stream"), result
        if isinstance(result, Job):
            result = model(result)
        if hasattr(result, "model_dump_json"):
            return 200, JSON, result.model_dump_json(by_alias=True).encode()
        return as_json(result)

    def _login(self, request: Request) -> Answer:
        form = parse_qs(request.body.decode())
        digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
        if (form["username"], form["password"]) != ([EMAIL], [digest]):
            raise Refused(401, "Incorrect username or password")
        return as_json({"access_token": TOKEN, "token_type": "bearer"})

    def users_me(self, _: Request) -> User:
        return User(name="ali", first_name="Ali", last_name="B.")

    def config_get_version(self, _: Request) -> str:
        return self._lab.faults.get("version", "v5.0.3")

    def projects_find_one(self, _: Request, project: str) -> Project:
        if project != PROJECT:
            raise Refused(404, f"{project} not found")
        return Project(uid=project, uid_num=3, title="", project_dir=str(self._lab.folder),
                       owner_user_id="5" * 24, size_last_updated=NOW)

    def projects_get_directory(self, _: Request, project: str) -> str:
        del project
        return self._lab.faults.get("project_dir", str(self._lab.folder))

    def projects_upload_file(self, request: Request, project: str) -> str:
        assert project == PROJECT
        overwrite = request.query.get("overwrite") == ["true"]
        return self._lab.store(request.query["path"][0], request.body, overwrite)

    def projects_download_file(self, request: Request, project: str) -> bytes:
        assert project == PROJECT
        return self._lab.content(request.query["path"][0])

    def job_register(self, _: Request) -> JobRegister:
        spec = {
            "type": "nonuniform_refine_new", "title": "", "shorttitle": "", "description": "",
            "stability": "stable", "category": "refinement", "inputs": {}, "outputs": {},
            "params": {name: {"title": name} for name in REFINEMENT_PARAMETERS},
        }
        return JobRegister.model_validate({"specs": [spec], "categories": {}})

    def jobs_find_one(self, _: Request, project: str, uid: str) -> Job:
        return self._lab.job(project, uid)

    def jobs_create(self, request: Request, project: str, workspace: str) -> Job:
        assert project == PROJECT
        query = request.query
        return self._lab.create(
            query["type"][0], workspace, title=query.get("title", [""])[0],
            description=query.get("description", [""])[0],
            parameters=json.loads(request.body) if request.body else {},
        )

    def jobs_connect(self, request: Request, project: str, uid: str, name: str) -> Job:
        job, query = self._lab.job(project, uid), request.query
        source, output = query["source_job_uid"][0], query["source_output_name"][0]
        self._lab.connect(job, name, source, output)
        return job

    def jobs_connect_result(
        self, request: Request, project: str, uid: str, name: str, index: str, slot: str
    ) -> Job:
        job, query = self._lab.job(project, uid), request.query
        job.inputs[name].connections[int(index)]["slots"][slot] = (
            query["source_job_uid"][0], query["source_output_name"][0],
            query["source_result_name"][0],
        )
        return job

    def jobs_add_external_input(self, request: Request, project: str, uid: str, name: str) -> Job:
        job = self._lab.job(project, uid)
        spec = job_spec.InputSpec.model_validate_json(request.body)
        slots = [Slot(s.name, s.dtype) for s in spec.slots if not isinstance(s, str)]
        self._lab.check_slots(spec.type, slots)
        job.inputs[name] = Input(spec.type, spec.title, slots)
        return job

    def jobs_add_external_output(self, request: Request, project: str, uid: str, name: str) -> Job:
        job = self._lab.job(project, uid)
        spec = job_spec.OutputSpec.model_validate_json(request.body)
        slots = [Slot(s.name, s.dtype) for s in spec.slots if not isinstance(s, str)]
        self._lab.check_slots(spec.type, slots)
        job.outputs[name] = Output(spec.type, spec.title, slots)
        return job

    def jobs_get_output_fields(self, _: Request, project: str, uid: str, name: str) -> Any:
        return self._lab.columns(self._lab.job(project, uid), name)

    def jobs_load_input(self, request: Request, project: str, uid: str, name: str) -> bytes:
        job = self._lab.job(project, uid)
        dataset = self._lab.load(job, name, request.query["slots"])
        return b"".join(dataset.stream(compression="lz4"))

    def jobs_save_output(self, request: Request, project: str, uid: str, name: str) -> Job:
        job = self._lab.job(project, uid)
        self._lab.save(job, name, Dataset.load(BytesIO(request.body)))
        return job

    def jobs_set_output_image(self, request: Request, project: str, uid: str, name: str) -> Job:
        GridFSAsset.model_validate_json(request.body)
        del name
        return self._lab.job(project, uid)

    def jobs_enqueue(self, request: Request, project: str, uid: str) -> Job:
        job = self._lab.job(project, uid)
        job.status = "queued"
        job.queued = {name: values for name, values in request.query.items()}
        return job

    def jobs_mark_running(self, request: Request, project: str, uid: str) -> Job:
        job = self._lab.job(project, uid)
        job.status = request.query["status"][0]
        return job

    def jobs_mark_completed(self, _: Request, project: str, uid: str) -> Job:
        job = self._lab.job(project, uid)
        job.status = "completed"
        return job

    def jobs_mark_failed(self, request: Request, project: str, uid: str) -> Job:
        job = self._lab.job(project, uid)
        job.status = "failed"
        self._lab.log(job, "error", request.query["error"][0])
        return job

    def jobs_add_event_log(self, request: Request, project: str, uid: str) -> TextEvent:
        job = self._lab.job(project, uid)
        kind = request.query["type"][0]
        event = self._lab.log(job, kind, json.loads(request.body))
        return TextEvent(_id=event["id"], project_uid=project, job_uid=uid, type=kind,
                         text=event["text"])

    def jobs_update_event_log(
        self, request: Request, project: str, uid: str, event_id: str
    ) -> TextEvent:
        job = self._lab.job(project, uid)
        event = next(e for e in job.events if e["id"] == event_id)
        event["text"] = json.loads(request.body)
        self._lab.notice(job, event["text"])
        return TextEvent(_id=event_id, project_uid=project, job_uid=uid, type=event["type"],
                         text=event["text"])

    def jobs_add_image_log(self, request: Request, project: str, uid: str) -> ImageEvent:
        job = self._lab.job(project, uid)
        images = [GridFSAsset.model_validate(image) for image in json.loads(request.body)]
        text = request.query["text"][0]
        event = self._lab.log(job, "image", text, [image.fileid for image in images])
        return ImageEvent(_id=event["id"], project_uid=project, job_uid=uid, type="image",
                          text=text, imgfiles=images)

    def assets_upload(self, request: Request, project: str, uid: str) -> GridFSAsset:
        self._lab.job(project, uid)
        query = request.query
        return GridFSAsset(**self._lab.keep_asset(
            query["filename"][0], query["format"][0], request.body
        ))
