"""Limits of connections: their number, in all and per client, and the silence each may keep.

uvicorn limits neither the time for the head of a request nor the number of sockets, so that a
thousand half requests would use up the open files of the process.
"""

import asyncio
import resource
from collections import Counter
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from kinema.errors import OptionError
from kinema.serve.limits import Limits
from kinema.serve.rates import client_of

# Files that the process needs beside its connections: decoders, libraries, uploads.
_OTHER_FILES = 256


class Connections(ServerState):
    """Open connections of a server; those that wait for a request can be closed for newer ones.

    A connection waits from its start, or from its last answer, until the head of a request is
    complete; a WebSocket until its first message.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = limits
        self._clients: dict[asyncio.Transport, str] = {}
        # In order of waiting, with the timer that ends it.
        self._waiting: dict[asyncio.Transport, asyncio.TimerHandle] = {}
        self._unread: dict[asyncio.Transport, asyncio.TimerHandle] = {}
        _allow_files(limits.connections + _OTHER_FILES)

    def opened(self, transport: asyncio.Transport) -> bool:
        """Counts a new connection; over a limit it replaces the one that has waited longest.

        Returns:
            False if all others have a request: then this one may only ask for the health.
        """
        client = _client_of(transport)
        self._clients[transport] = client
        self.waits(transport)
        held = Counter(self._clients.values())
        is_crowd = held[client] > self._limits.client_connections
        if not is_crowd and len(self._clients) <= self._limits.connections:
            return True
        rivals = [
            other
            for other in self._waiting
            if other is not transport and (self._clients[other] == client or not is_crowd)
        ]
        if not rivals:
            return False
        # The first of the client that holds most.
        self.drop(max(rivals, key=lambda other: held[self._clients[other]]))
        return True

    def waits(self, transport: asyncio.Transport) -> None:
        """Begins the time for the next head, if it does not run already."""
        if transport in self._clients and transport not in self._waiting:
            later = asyncio.get_running_loop().call_later
            self._waiting[transport] = later(self._limits.head_s, self.drop, transport)

    def works(self, transport: asyncio.Transport) -> None:
        """Ends the waiting: a request has come."""
        if timer := self._waiting.pop(transport, None):
            timer.cancel()

    def unread(self, transport: asyncio.Transport) -> None:
        """Begins the time in which the client must go on reading its answer."""
        later = asyncio.get_running_loop().call_later
        self._unread[transport] = later(self._limits.unread_s, self.drop, transport)

    def read(self, transport: asyncio.Transport) -> None:
        """Ends the time of `unread`."""
        if timer := self._unread.pop(transport, None):
            timer.cancel()

    def drop(self, transport: asyncio.Transport) -> None:
        """Closes a connection at once, with what it has not read."""
        self.lost(transport)
        transport.abort()

    def lost(self, transport: asyncio.Transport) -> None:
        """Forgets a connection."""
        self.works(transport)
        self.read(transport)
        self._clients.pop(transport, None)


class _LimitedConnection(asyncio.Protocol):
    """Reports the end and the unread answers of a connection; before a class of uvicorn."""

    server_state: Connections
    transport: asyncio.Transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self.server_state.lost(self.transport)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read."""
        self.server_state.unread(self.transport)
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self.server_state.read(self.transport)
        super().resume_writing()


class HttpConnection(_LimitedConnection, H11Protocol):
    """HTTP connection that obeys the limits of `Connections`."""

    server_state: Connections

    def connection_made(  # type: ignore[override]  # as uvicorn does
        self, transport: asyncio.Transport
    ) -> None:
        """Counts the connection."""
        super().connection_made(transport)
        if not self.server_state.opened(transport):
            self.app_state = {**self.app_state, "is_spare": True}  # `Admission` sees it

    def data_received(self, data: bytes) -> None:
        """Takes bytes, after which a request may have begun."""
        super().data_received(data)
        self._note()

    def on_response_complete(self) -> None:
        """Waits for the next request, unless the client has sent it already."""
        super().on_response_complete()
        self._note()

    def _note(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.server_state.waits(self.transport)
        else:
            self.server_state.works(self.transport)

    def _should_upgrade(self) -> bool:
        return "is_spare" not in self.app_state and super()._should_upgrade()


class WebSocketConnection(_LimitedConnection, WebSocketsSansIOProtocol):
    """WebSocket that obeys the limits of `Connections`; it began as an `HttpConnection`."""

    def __init__(self, *, server_state: Connections, **others: Any) -> None:
        super().__init__(server_state=server_state, **others)
        self.server_state = server_state

    def data_received(self, data: bytes) -> None:
        """Takes bytes; those after the handshake are messages."""
        if self.handshake_initiated:
            self.server_state.works(self.transport)
        super().data_received(data)

    def send_receive_event_to_app(self) -> None:
        """Closes the socket for text that is not UTF-8; uvicorn would log a traceback for each."""
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.conn.fail(1007, "text must be UTF-8")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()


def _client_of(transport: asyncio.Transport) -> str:
    peer = transport.get_extra_info("peername")
    return client_of(peer[0] if peer else None)


def _allow_files(wanted: int) -> None:
    """Raises the limit of open files of this process, if it is too low.

    Raises:
        OptionError: the system does not allow it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:
        raise OptionError(
            f"The limit of connections needs {wanted} open files, but this process may have "
            f"{hard}: lower --max-connections, or raise the limit with ulimit -n."
        ) from error
