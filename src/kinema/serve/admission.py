"""Access control and admission of requests, before the application sees them."""

import asyncio
import hmac
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kinema.serve.limits import Limits, RefusedError, Slots, busy
from kinema.serve.metrics import Metrics

# Everything else is public: the page and the health checks hold no secrets.
_GUARDED = ("/v1/", "/metrics")


class Access(BaseModel):
    """API key, allowed origins, and the folder of the server that requests may read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_key: SecretStr | None = Field(
        default=None, description="Key required for everything under /v1 and for /metrics."
    )
    origins: tuple[str, ...] = Field(
        default=(), description="Origins of other web sites whose pages may call the API."
    )
    folder: Path | None = Field(
        default=None, description="Folder below which requests may name videos by path."
    )

    def check_key(self, given: str | None) -> None:
        """Raises a 401 unless the key is right or none is needed."""
        if self.api_key is None:
            return
        wanted = self.api_key.get_secret_value().encode()
        if given is None or not hmac.compare_digest(given.encode(), wanted):
            raise RefusedError(
                401,
                "api_key",
                "This server needs its API key, as X-API-Key: KEY or Authorization: Bearer KEY; "
                + ("none came." if given is None else "another one came."),
                headers={"WWW-Authenticate": "Bearer"},
            )

    def check_headers(self, path: str, headers: Mapping[str, str]) -> None:
        """Raises a 401 for a guarded path without the key."""
        if path.startswith(_GUARDED):
            self.check_key(key_of(headers))

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Raises a 403 for a page of another site that is not allowed.

        The browser's own protection is too late: it sends such a request and only hides the answer
        from the page; for WebSockets not even that.
        """
        origin = headers.get("origin")
        if origin is None or origin in self.origins:
            return
        if origin.partition("://")[2] != headers.get("host"):
            raise RefusedError(
                403,
                "origin",
                f"Pages of {origin} may not use this server; --cors-origin allows a site.",
            )


def key_of(headers: Mapping[str, str]) -> str | None:
    """Reads the API key from the headers of a request."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    return headers.get("x-api-key")


# A refused body is still read up to these limits: a client that sends everything before it reads
# would otherwise see a broken connection instead of the answer.
_LINGER_S = 5.0
_LINGER_BYTES = 1 << 30


class Admission:
    """ASGI middleware: checks key, origin, concurrency and size before reading the body.

    Args:
        app: The application.
        access: Keys and origins.
        limits: Limits on sizes and times.
        metrics: Counts requests.
        slots: Concurrent requests with a body.
        stopping: Returns True once the server takes no new work.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: Access,
        limits: Limits,
        metrics: Metrics,
        slots: Slots,
        stopping: Callable[[], bool],
    ) -> None:
        self._app = app
        self._access = access
        self._limits = limits
        self._metrics = metrics
        self._stopping = stopping
        self._slots = slots

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request; WebSockets pass, because live streams do these checks themselves."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500  # unless an answer says otherwise

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._admitted(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, status).inc()
            self._metrics.request_seconds.labels(route).observe(time.perf_counter() - began)

    async def _admitted(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        body = _Body(receive, _most_bytes(scope["path"], self._limits), self._limits.upload_s)
        has_body = scope["method"] in ("POST", "PUT", "PATCH")
        try:
            # Cheapest checks first, all of them on the headers alone.
            if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
                self._access.check_origin(headers)
            if scope["method"] != "OPTIONS":  # browsers ask for permission without the key
                self._access.check_headers(scope["path"], headers)
            if not has_body:
                await self._app(scope, receive, send)
                return
            # Requests with a body cost memory and time, so they are limited in number and size.
            if self._stopping():
                raise busy("stopping", "The server is stopping and takes no new work.")
            body.check_length(headers)
            with self._slots, self._metrics.in_flight.track_inprogress():
                await self._with_body(scope, body, send)
        except RefusedError as refusal:
            # A client that asked for permission has sent nothing yet.
            if has_body and "100-continue" not in headers.get("expect", "").lower():
                await body.discard()
            await answer_to(refusal)(scope, receive, send)

    async def _with_body(self, scope: Scope, body: "_Body", send: Send) -> None:
        """Runs the application; a body that exceeds a limit on the way replaces its answer."""

        async def unless_refused(message: Message) -> None:
            if body.refusal is None:
                await send(message)

        try:
            await self._app(scope, body.receive, unless_refused)
        except Exception:  # may be a consequence of the cut body, see below
            if body.refusal is None:
                raise
        if body.refusal is not None:
            raise body.refusal


def answer_to(refusal: RefusedError) -> Response:
    """Converts a refusal to an HTTP answer."""
    content = {"error": refusal.code, "message": str(refusal), "file": refusal.file}
    return JSONResponse(content, refusal.status, headers=refusal.headers)


class _Body:
    """Body of a request, checked against the limits while it arrives.

    Attributes:
        refusal: Reason for which the rest is refused; None if there is none.
    """

    def __init__(self, receive: Receive, most_bytes: int, most_s: float) -> None:
        self.refusal: RefusedError | None = None
        self._receive = receive
        self._most_bytes = most_bytes
        self._most_s = most_s
        self._until = asyncio.get_running_loop().time() + most_s
        self._count = 0
        self._whole = False

    def check_length(self, headers: Headers) -> None:
        """Refuses a body whose Content-Length is over the limit."""
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._most_bytes:
            raise _too_many_bytes(self._most_bytes)

    async def receive(self) -> Message:
        """Waits for the next part of the body."""
        if self._whole:  # the next message is the disconnection of the client
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            self._whole = True  # `discard` must not wait any longer
            text = f"The body did not arrive within {self._most_s:g} s, the limit."
            self.refusal = RefusedError(408, "slow_upload", text, headers={"Connection": "close"})
            raise self.refusal from None
        self._count += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._count > self._most_bytes:
            self.refusal = _too_many_bytes(self._most_bytes)
            raise self.refusal
        return message

    async def discard(self) -> None:
        """Reads the rest of a refused body and drops it."""
        until, count = asyncio.get_running_loop().time() + _LINGER_S, 0
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                while not self._whole and count < _LINGER_BYTES:
                    message = await self._receive()
                    count += len(message.get("body", b""))
                    self._whole = not message.get("more_body", False)


def _most_bytes(path: str, limits: Limits) -> int:
    return limits.timeline_bytes if path == "/v1/timeline" else limits.upload_bytes


def _too_many_bytes(most: int) -> RefusedError:
    return RefusedError(
        413,
        "too_many_bytes",
        f"The request has more bytes than the limit of {most}. Send a shorter or smaller video.",
        headers={"Connection": "close"},
    )
