"""Access control and admission of requests, before the application sees them."""

import asyncio
import time
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kinema.serve.limits import HEALTH, RefusedError, plain_path
from kinema.serve.service import Service

# Seconds that a client is asked to wait before it tries again.
_RETRY_AFTER_S = 2
# A refused body is still read up to these limits: a client that sends everything before it reads
# would otherwise see a broken connection instead of the answer.
_LINGER_S = 5.0
_LINGER_BYTES = 1 << 30


class FirstChecks:
    """ASGI middleware: refuses hosts that are not this server, and connections over the limits."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or refuses it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        own = (scope.get("server") or ("",))[0]
        try:
            _check_spare(scope)
            self._service.access.check_host(Headers(scope=scope), own)
        except RefusedError as refusal:
            await answer_to(refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _check_spare(scope: Scope) -> None:
    """Allows a connection above the limits nothing but the health checks."""
    # The body of any other method would be read, for longer than such a connection may stay.
    is_health = plain_path(scope) in HEALTH and scope.get("method") in ("GET", "HEAD")
    if "is_spare" in scope.get("state", ()) and not is_health:
        text = "The server has as many connections as its limit allows. Try again."
        close = {"Connection": "close"}
        raise RefusedError(503, "too_many_connections", text, headers=close)


class Admission:
    """ASGI middleware: checks key, origin, concurrency and size before reading the body."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

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
            metrics = self._service.metrics
            metrics.requests.labels(route, status).inc()
            metrics.request_seconds.labels(route).observe(time.perf_counter() - began)

    async def _admitted(self, scope: Scope, receive: Receive, send: Send) -> None:
        service, limits, headers = self._service, self._service.limits, Headers(scope=scope)
        path = plain_path(scope)
        is_long = path == "/v1/timeline"
        most_bytes = limits.timeline_bytes if is_long else limits.upload_bytes
        body = _Body(receive, most_bytes, limits.upload_s)
        has_body = scope["method"] in ("POST", "PUT", "PATCH")
        try:
            # Cheapest checks first, all of them on the headers alone.
            if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
                service.access.check_origin(headers)
            if has_body:
                service.rates.check((scope.get("client") or (None,))[0])
            if scope["method"] != "OPTIONS":  # browsers ask for permission without the key
                service.access.check_headers(path, headers)
            if not has_body:
                await self._app(scope, receive, send)
                return
            # Requests with a body cost memory and time, so they are limited in number and size.
            if service.stopping.is_set():
                text = "The server is stopping and takes no new work."
                raise RefusedError(503, "stopping", text)
            body.check_length(headers)
            with service.requests, service.metrics.in_flight.track_inprogress():
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
        except Exception:  # after a refusal the application may fail on the cut body in any way
            if body.refusal is None:
                raise
        if body.refusal is not None:
            raise body.refusal


def answer_to(refusal: RefusedError) -> Response:
    """Converts a refusal to an HTTP answer."""
    content = {"error": refusal.code, "message": str(refusal), "file": refusal.file}
    again = {"Retry-After": str(_RETRY_AFTER_S)} if refusal.status == 503 else {}
    answer = _Refusal(content, refusal.status, headers={**refusal.headers, **again})
    answer.code = refusal.code
    return answer


class _Refusal(JSONResponse):
    code = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["refusal"] = self.code
        await super().__call__(scope, receive, send)


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
        self._check_count(int(length) if length.isdecimal() else 0)

    async def receive(self) -> Message:
        """Waits for the next part of the body."""
        if self._whole:  # the next message is the disconnection of the client
            return await self._receive()
        try:
            message = await self._read(self._until)
            self._check_count(self._count)
        except TimeoutError:
            self._whole = True  # `discard` must not wait any longer
            text = f"The body did not arrive within {self._most_s:g} s, the limit."
            self.refusal = RefusedError(408, "slow_upload", text, headers={"Connection": "close"})
            raise self.refusal from None
        except RefusedError as refusal:
            self.refusal = refusal
            raise
        return message

    async def discard(self) -> None:
        """Reads the rest of a refused body and drops it."""
        until = asyncio.get_running_loop().time() + _LINGER_S
        most = self._count + _LINGER_BYTES
        with suppress(TimeoutError):
            while not self._whole and self._count < most:
                await self._read(until)

    async def _read(self, until: float) -> Message:
        async with asyncio.timeout_at(until):
            message = await self._receive()
        self._count += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        return message

    def _check_count(self, count: int) -> None:
        if count > self._most_bytes:
            raise RefusedError(
                413,
                "too_many_bytes",
                f"The request has more bytes than the limit of {self._most_bytes}. Send a shorter "
                "or smaller video.",
                headers={"Connection": "close"},
            )
