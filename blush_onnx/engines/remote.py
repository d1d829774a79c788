"""The network in another process: a server that has it loaded already."""

from __future__ import annotations

import os
import threading

from blush_onnx.engines.base import Array, EngineDescription
from blush_onnx.errors import EngineError
from blush_onnx.server.client import Client


class RemoteEngine:
    """Sends patches to ``blush-onnx serve --socket``.

    Parameters
    ----------
    path : str or path
        The server's socket.
    sha256 : str or None
        Of the model that is wanted, as its description has it.

    Raises
    ------
    EngineError
        Nobody answers, or the server has another model.
    """

    def __init__(self, path: str | os.PathLike[str], sha256: str | None) -> None:
        self._client = Client.connect(path)
        self._turn = threading.Lock()
        server = self._client.server
        if server["model_sha256"] != sha256:
            self._client.close()
            raise EngineError(
                f"the server at {path} has the model {server['model']}, not the one asked for: "
                "start it with the same --model, or leave --server away"
            )
        self.description = EngineDescription(
            server["provider"], server["library"], f"served at {path}",
            threads=server["threads"], precision=server["precision"],
        )

    def run(self, grid: Array, local_std: Array) -> tuple[Array, Array | None]:
        """Denoise a batch; see :class:`blush_onnx.engines.base.Engine`."""
        with self._turn:
            answer = self._client.call("evaluate", {"grid": grid, "local_std": local_std})
        return answer.volumes["density"], answer.volumes.get("mask_logit")

    def close(self) -> None:
        """End the connection."""
        self._client.close()
