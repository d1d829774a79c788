"""HTTP for the stand-in of a cryoSPARC server: bodies of both kinds, answers, refusals, ports."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, str, bytes]
JSON = "application/json"
DATASET = "application/x-cryosparc-dataset"


def as_json(value: Any, code: int = 200) -> Answer:
    return code, JSON, json.dumps(value).encode()


class Refused(Exception):
    """The server says no."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code, self.data = code, data


@dataclass
class Request:
    path: str
    query: dict[str, list[str]]
    headers: Any
    body: bytes
    port: int


def serve(ports: list[int], answer: Callable[[Request], Answer]) -> None:
    """Answer on all the ports until the process ends."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            request = Request(
                parts.path, parse_qs(parts.query), self.headers, self._body(),
                self.server.server_address[1],
            )
            try:
                code, kind, body = answer(request)
            except Refused as refused:
                code, kind, body = as_json({"detail": str(refused)}, refused.code)
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            chunks = []
            while size := int(self.rfile.readline().strip() or b"0", 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

    for port in ports:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()


def free_ports(offsets: tuple[int, ...]) -> int:
    """A port such that it and those at the offsets are free."""
    for _ in range(50):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            base = int(probe.getsockname()[1])
        try:
            for offset in offsets:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", base + offset))
        except (OSError, OverflowError):
            continue
        return base
    raise RuntimeError("no ports are free")
