"""Who may use the service."""

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

from kinema.serve.limits import Limits, Places, RefusedError, busy
from kinema.serve.metrics import Metrics

# Open to everyone: the page holds no secrets, and whether a server lives is no secret either.
_GUARDED = ("/v1/", "/metrics")


class Access(BaseModel):
    """Keys, other sites, and files of the server itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_key: SecretStr | None = Field(default=None, description="Needed for everything under /v1.")
    origins: tuple[str, ...] = Field(
        default=(), description="Other web sites whose pages may call."
    )
    folder: Path | None = Field(
        default=None, description="Requests may name videos below this folder."
    )

    def check_key(self, given: str | None) -> None:
        """Raises a 401 unless no key is needed or this is it."""
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
        """Raises a 401 where a guarded path is asked for without the key."""
        if path.startswith(_GUARDED):
            self.check_key(key_of(headers))

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Raises a 403 for a page of another site that is not allowed.

        Browsers send such requests although they keep the answer from the page; for WebSockets
        they do not even do that.
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
    """The key of a request."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    return headers.get("x-api-key")


# What is still read of a refused body, so that a client that sends before it listens gets its
# answer instead of a broken connection.
_LINGER_S = 5.0
_LINGER_BYTES = 1 << 30


class Admission:
    """Wraps the application.

    Args:
        app: The application.
        access: Keys and origins.
        limits: Numbers and sizes.
        metrics: Where requests are counted.
        places: For requests with a body.
        stopping: Says whether the server takes no new work any more.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: Access,
        limits: Limits,
        metrics: Metrics,
        places: Places,
        stopping: Callable[[], bool],
    ) -> None:
        self._app = app
        self._access = access
        self._limits = limits
        self._metrics = metrics
        self._stopping = stopping
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; live streams check the same things in their own protocol."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

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
            if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
                self._access.check_origin(headers)
            if scope["method"] != "OPTIONS":  # browsers ask for permission without the key
                self._access.check_headers(scope["path"], headers)
            if not has_body:
                await self._app(scope, receive, send)
                return
            if self._stopping():
                raise busy("stopping", "The server is stopping and takes no new work.")
            body.check_length(headers)
            with self._places, self._metrics.in_flight.track_inprogress():
                await self._with_body(scope, body, send)
        except RefusedError as refusal:
            if has_body and "100-continue" not in headers.get("expect", "").lower():
                await body.discard()
            await answer_to(refusal)(scope, receive, send)

    async def _with_body(self, scope: Scope, body: "_Body", send: Send) -> None:
        """Lets the application answer, unless the body turned out to be too much meanwhile."""

        async def unless_refused(message: Message) -> None:
            if body.refusal is None:
                await send(message)

        try:
            await self._app(scope, body.receive, unless_refused)
        except Exception:  # whatever the application made of a body that was cut off: see below
            if body.refusal is None:
                raise
        if body.refusal is not None:
            raise body.refusal


def answer_to(refusal: RefusedError) -> Response:
    """The answer that says why."""
    content = {"error": refusal.code, "message": str(refusal), "file": refusal.file}
    return JSONResponse(content, refusal.status, headers=refusal.headers)


class _Body:
    """The body of a request on its way in.

    Attributes:
        refusal: Why no more of it is taken; None while all is well.
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
        """Refuses a body that is announced as too long."""
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._most_bytes:
            raise _too_many_bytes(self._most_bytes)

    async def receive(self) -> Message:
        """The next part."""
        if self._whole:  # what comes next is that the client has gone
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            self._whole = True  # it is waited for no longer
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
        """Reads what is left of a refused body and throws it away."""
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
