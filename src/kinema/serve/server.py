"""Listening socket, and a server that finishes accepted work before it stops."""

import asyncio
import errno
import ipaddress
import logging
import math
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from kinema.errors import OptionError
from kinema.serve.app import create_app
from kinema.serve.connections import Connections, HttpConnection, WebSocketConnection
from kinema.serve.jobs import JobBook
from kinema.serve.limits import JobSettings
from kinema.serve.service import Service

_log = logging.getLogger(__name__)

# Interval of the checks for remaining work, and the time that polling clients have to fetch results
# that were finished during shutdown.
_POLL_S = 0.05
_FETCH_S = 5.0
# asyncio accepts up to `backlog` connections before it reads from any of them. In a flood they
# would replace each other unread; the system's queue is longer, or it would drop connections.
_ACCEPTED_AT_ONCE = 16
_QUEUED = 1024
# With these asyncio cannot accept a connection. A new line of the log follows one without them.
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SHORTAGE_S = 60.0


def listen(host: str, port: int) -> socket.socket:
    """Binds a socket to a host and port; port 0 takes a free one.

    Raises:
        OptionError: the address cannot be used.
    """
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(address)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise OptionError(f"Cannot listen on {host} port {port}: {error.strerror}.") from error
    return listening


def is_loopback(listening: socket.socket) -> bool:
    """Checks whether only this machine can reach the socket."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def address_of(listening: socket.socket) -> str:
    """Returns the URL of the socket for a browser."""
    host, port = listening.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port}"


class Server(uvicorn.Server):
    """A server that finishes what it has accepted.

    After the first SIGTERM or Ctrl-C the server refuses new work, finishes running requests and
    timelines, and lets clients fetch them, for at most `grace_s`. A second signal ends it at once.
    `on_ready` is called as soon as the server answers. See `create_app` for the other arguments.
    """

    def __init__(
        self,
        service: Service,
        *,
        jobs: JobSettings | None = None,
        grace_s: float = 60.0,
        root_path: str = "",
        access_log: bool = False,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._jobs = JobBook(service, jobs)
        config = uvicorn.Config(
            create_app(service, self._jobs, root_path=root_path, access_log=access_log),
            root_path=root_path,
            log_level="warning",
            access_log=False,
            http=HttpConnection,
            ws=WebSocketConnection,
            backlog=_ACCEPTED_AT_ONCE,
            ws_max_size=service.limits.frame_bytes,
            timeout_graceful_shutdown=max(1, round(grace_s)),
            timeout_keep_alive=math.ceil(service.limits.head_s),
            server_header=False,
        )
        super().__init__(config)
        self.server_state = Connections(service.limits)
        self._service = service
        self._grace_s = grace_s
        self._on_ready = on_ready
        self._signals = 0
        self._silent_until = 0.0
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen, then reports that the server is ready."""
        asyncio.get_running_loop().set_exception_handler(self._on_loop_error)
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(_QUEUED)
        if self.started:
            self._on_ready()

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Logs a lack of descriptors for connections as one line, not as a traceback for each try.

        asyncio tries again every second.
        """
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in _SHORTAGES and "socket" in context):
            loop.default_exception_handler(context)
            return
        now = time.monotonic()
        if now >= self._silent_until:
            _log.warning(
                "No connection can be accepted (%s); the server goes on when others end. Raise the "
                "limit of open files (ulimit -n) or lower --max-connections.",
                (error.strerror or str(error)).lower(),
            )
        self._silent_until = now + _SHORTAGE_S

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Starts the graceful shutdown at the first signal, ends at once at the second."""
        self._signals += 1
        if self._signals == 1 and self._service.is_ready:
            loop = asyncio.get_running_loop()
            loop.call_soon_threadsafe(self._start_to_drain)  # wakes the event loop
        else:
            self.config.timeout_graceful_shutdown = 0
            self.should_exit = True

    def _start_to_drain(self) -> None:
        self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        # From now on the middleware refuses requests with a body, and live streams end.
        self._service.stopping.set()
        _log.info("Stopping: finishing accepted work.")
        began = time.monotonic()
        until = began + self._grace_s
        jobs, requests = self._jobs, self._service.requests
        while (jobs.unfinished or requests.taken) and time.monotonic() < until:
            await asyncio.sleep(_POLL_S)
        # A client that polls learns of the end only by its next request.
        until = min(until, time.monotonic() + _FETCH_S)
        while jobs.unfetched(began) and time.monotonic() < until:
            await asyncio.sleep(_POLL_S)
        self.should_exit = True
