"""All that differs between cryosparc-tools 4.7 and 5, behind one set of methods.

The two cannot share an environment; which one is installed decides. Everything else in this
folder calls only what both have: ``project.find_job``, ``create_job``, ``create_external_job``
and ``download_file``; ``job.connect``, ``connect_result``, ``load_input``, ``add_output``,
``alloc_output``, ``upload``, ``log``, ``log_plot``, ``queue``, ``start`` and ``refresh``.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any, Protocol
from urllib.parse import urlsplit

from blush_onnx.errors import BlushError, InputError
from blush_onnx.hosts.cryosparc.facts import Access, Connection, JobFacts, Output

DEFAULT_PORT = 39000


class Tools(Protocol):
    """One version of cryosparc-tools."""

    version: str

    def connect(self, access: Access) -> Any:
        """A client that has logged in."""

    def project_folder(self, project: Any) -> str:
        """The project's folder, as the server's machine names it."""

    def facts(self, job: Any) -> JobFacts:
        """What is known of a job."""

    def parameter_names(self, job: Any) -> set[str]:
        """Parameters that jobs of this type have."""

    def slot(self, name: str, dtype: str) -> dict[str, Any]:
        """How a slot of an External job is asked for."""

    def log_progress(self, job: Any, text: str) -> None:
        """A line of progress in the job's log."""

    def picture(self, content: bytes) -> Any:
        """A PNG file as the log takes it."""

    def save(self, job: Any, name: str, dataset: Any, picture: Any) -> None:
        """Save an output, with a picture where the version has room for one."""

    def complete(self, job: Any) -> None:
        """End an External job that has done its work."""

    def fail(self, job: Any, reason: str) -> None:
        """End an External job that has not, and say why in its log."""


def installed_tools() -> Tools:
    """The version of cryosparc-tools that is installed.

    Raises
    ------
    BlushError
        There is none, or one that is not supported.
    """
    try:
        from cryosparc import __version__
    except ModuleNotFoundError:
        raise BlushError(
            "cryosparc-tools is not installed: pip install 'blush-onnx[cryosparc]' for cryoSPARC "
            "4.7, 'blush-onnx[cryosparc5]' for cryoSPARC 5; the two need an environment each"
        ) from None
    major, minor = (int(number) for number in __version__.split(".")[:2])
    if major == 4 and minor >= 7:
        return Tools4(__version__)
    if major == 5:
        return Tools5(__version__)
    raise BlushError(
        f"cryosparc-tools {__version__} is not supported: install 4.7 or 5, the version of your "
        "cryoSPARC"
    )


class Tools4:
    """cryosparc-tools 4.7: JSON-RPC on three ports; job documents are dictionaries."""

    def __init__(self, version: str) -> None:
        self.version = version

    def connect(self, access: Access) -> Any:
        """See :class:`Tools`."""
        from cryosparc.tools import CryoSPARC

        missing = [
            f"CRYOSPARC_{name}" for name, value in (
                ("LICENSE_ID", access.licence), ("EMAIL", access.email),
                ("PASSWORD", access.password),
            ) if not value
        ]
        if missing:
            raise InputError(f"cryosparc-tools 4 needs {', '.join(missing)} in the environment")
        parts = urlsplit(access.url)
        if parts.scheme != "http" or parts.path.strip("/"):
            raise InputError(
                f"{access.url}: cryosparc-tools 4 speaks plain HTTP to several ports of one "
                "machine; give http://HOST:PORT"
            )
        return CryoSPARC(
            license=access.licence, email=access.email, password=access.password,
            host=parts.hostname, base_port=parts.port or DEFAULT_PORT, timeout=access.timeout,
        )

    def project_folder(self, project: Any) -> str:
        """See :class:`Tools`."""
        return str(project.dir())

    def facts(self, job: Any) -> JobFacts:
        """See :class:`Tools`."""
        doc = job.doc
        outputs = {
            group["name"]: Output(group["type"], {
                result["name"]: result["type"].rsplit(".", 1)[-1]
                for result in doc["output_results"] if result["group_name"] == group["name"]
            })
            for group in doc["output_result_groups"]
        }
        inputs = {
            group["name"]: tuple(
                Connection(c["job_uid"], c["group_name"], _replaced(
                    (c["job_uid"], c["group_name"]),
                    ((s["slot_name"], s["job_uid"], s["group_name"], s["result_name"])
                     for s in c["slots"]),
                ))
                for c in group["connections"]
            )
            for group in doc["input_slot_groups"]
        }
        parameters = {name: spec["value"] for name, spec in doc["params_spec"].items()}
        return JobFacts(
            job.uid, job.type, job.status, tuple(doc["workspace_uids"]), outputs, inputs,
            parameters,
        )

    def parameter_names(self, job: Any) -> set[str]:
        """See :class:`Tools`."""
        return set(job.doc["params_base"])

    def slot(self, name: str, dtype: str) -> dict[str, Any]:
        """See :class:`Tools`."""
        return {"prefix": name, "dtype": dtype, "required": True}

    def log_progress(self, job: Any, text: str) -> None:
        """See :class:`Tools`."""
        job.log(text)

    def picture(self, content: bytes) -> Any:
        """See :class:`Tools`."""
        return content

    def save(self, job: Any, name: str, dataset: Any, picture: Any) -> None:
        """See :class:`Tools`."""
        del picture  # this version has no place for it
        job.save_output(name, dataset)

    def complete(self, job: Any) -> None:
        """See :class:`Tools`."""
        job.stop()

    def fail(self, job: Any, reason: str) -> None:
        """See :class:`Tools`."""
        try:
            job.log(reason, level="error")
        finally:  # the status counts more than the words
            job.stop(error=True)


class Tools5:
    """cryosparc-tools 5: one REST interface; jobs are pydantic models."""

    def __init__(self, version: str) -> None:
        self.version = version

    def connect(self, access: Access) -> Any:
        """See :class:`Tools`."""
        from cryosparc.tools import CryoSPARC

        # Host and port default to the environment's, and are refused beside a URL.
        return CryoSPARC(
            access.url, host=None, base_port=None, email=access.email, password=access.password,
            timeout=access.timeout,
        )

    def project_folder(self, project: Any) -> str:
        """See :class:`Tools`."""
        return str(project.dir)

    def facts(self, job: Any) -> JobFacts:
        """See :class:`Tools`."""
        outputs = {
            name: Output(output.type, {result.name: result.dtype for result in output.results})
            for name, output in job.outputs.items()
        }
        inputs = {
            name: tuple(
                Connection(c.job_uid, c.output, _replaced(
                    (c.job_uid, c.output),
                    ((r.name, r.job_uid, r.output, r.result) for r in c.results),
                ))
                for c in given.connections
            )
            for name, given in job.inputs.items()
        }
        return JobFacts(
            job.uid, job.type, job.status, tuple(job.model.workspace_uids), outputs, inputs,
            job.params.model_dump(),
        )

    def parameter_names(self, job: Any) -> set[str]:
        """See :class:`Tools`."""
        return set(job.full_spec.params)

    def slot(self, name: str, dtype: str) -> dict[str, Any]:
        """See :class:`Tools`."""
        return {"name": name, "dtype": dtype, "required": True}

    def log_progress(self, job: Any, text: str) -> None:
        """See :class:`Tools`."""
        job.log(text, name="progress")

    def picture(self, content: bytes) -> Any:
        """See :class:`Tools`."""
        return io.BytesIO(content)

    def save(self, job: Any, name: str, dataset: Any, picture: Any) -> None:
        """See :class:`Tools`."""
        job.save_output(name, dataset, image=picture)

    def complete(self, job: Any) -> None:
        """See :class:`Tools`."""
        job.stop()

    def fail(self, job: Any, reason: str) -> None:
        """See :class:`Tools`."""
        job.stop(error=reason)


def _replaced(
    whole: tuple[str, str], slots: Iterable[tuple[str | None, str, str, str]]
) -> tuple[tuple[str, str, str, str], ...]:
    """Slots whose data come from elsewhere than the rest; without a name they pass through."""
    return tuple(
        (name, job, output, result) for name, job, output, result in slots
        if name is not None and (job, output) != whole
    )
