"""A real HTTP server on loopback that serves files, and misbehaves as it is told."""

import re
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self


@dataclass
class Request:
    """A request that the server got."""

    path: str
    range: str | None
    if_range: str | None


@dataclass
class FileServer:
    """Serves `files` by their paths until it is closed.

    `cuts` are numbers of bytes after which the next answers end early. `statuses` are answered
    first, one for each request. `moved` maps paths to the addresses they redirect to. With
    `takes_ranges` off every answer is the whole file. `stall_s` is a pause in the middle of the
    next answer.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    stalls_s: list[float] = field(default_factory=list)
    takes_ranges: bool = True
    states_length: bool = True
    certificate: Path | None = None  # with its key; makes it an HTTPS server
    content_type: str = "application/octet-stream"
    etag: Callable[[bytes], str] | None = lambda data: f'"{hash(data)}"'
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> Self:
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                served._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if self.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            listening = self._server.socket
            self._server.socket = context.wrap_socket(listening, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        scheme = "https" if self.certificate else "http"
        return f"{scheme}://127.0.0.1:{self._server.server_address[1]}"

    def _answer(self, to: BaseHTTPRequestHandler) -> None:
        wanted = to.headers.get("Range")
        self.requests.append(Request(to.path, wanted, to.headers.get("If-Range")))
        path = to.path.split("?")[0]
        if self.statuses:
            return self._end(to, self.statuses.pop(0))
        if path in self.moved:
            return self._end(to, 302, {"Location": self.moved[path]})
        if path not in self.files:
            return self._end(to, 404)
        data = self.files[path]
        start = self._start(wanted, to.headers.get("If-Range"), data)
        if start >= len(data):
            return self._end(to, 416, {"Content-Range": f"bytes */{len(data)}"})
        to.send_response(206 if start else 200)
        for header in self._headers(start, data).items():
            to.send_header(*header)
        to.end_headers()
        to.close_connection = True
        self._send(to, data[start:])

    def _start(self, wanted: str | None, if_range: str | None, data: bytes) -> int:
        same = if_range is None or (self.etag is not None and if_range == self.etag(data))
        asked = re.fullmatch(r"bytes=(\d+)-", wanted or "")
        return int(asked[1]) if asked and same and self.takes_ranges else 0

    def _headers(self, start: int, data: bytes) -> dict[str, str]:
        headers = {"Content-Type": self.content_type}
        if self.etag is not None:
            headers["ETag"] = self.etag(data)
        if self.states_length:
            headers["Content-Length"] = str(len(data) - start)
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return headers

    def _send(self, to: BaseHTTPRequestHandler, rest: bytes) -> None:
        if self.stalls_s:
            to.wfile.write(rest[: len(rest) // 2])
            to.wfile.flush()
            self._closing.wait(self.stalls_s.pop(0))
            rest = rest[len(rest) // 2 :]
        if self.cuts:
            rest = rest[: self.cuts.pop(0)]
        with suppress(OSError):  # the client no longer listens
            to.wfile.write(rest)

    def _end(
        self, to: BaseHTTPRequestHandler, status: int, headers: dict[str, str] | None = None
    ) -> None:
        to.send_response(status)
        for header in {"Content-Length": "0", **(headers or {})}.items():
            to.send_header(*header)
        to.end_headers()
