"""Every request gets an id, a line in the log and, if it is refused, a count of the reason.

A request that ends in a bug is refused with 500.
"""

import logging
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kinema.serve.admission import answer_to
from kinema.serve.limits import HEALTH, RefusedError, plain_path
from kinema.serve.metrics import Metrics

_log = logging.getLogger(__name__)

_ID_HEADER = "X-Request-ID"
# An id from a client or proxy is used if it cannot disturb the log.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# W3C Trace Context: version, trace, parent, flags.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class AccessLog:
    """ASGI middleware: request ids, access log, and counts of refusals; sees every request first.

    Args:
        app: The application.
        metrics: Where refusals are counted, by the code that `scope["state"]["refusal"]` has.
        is_on: False to log nothing.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, *, is_on: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._is_on = is_on

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        began, status, counted, headers = time.perf_counter(), 0, False, Headers(scope=scope)
        state = scope.setdefault("state", {})
        given = headers.get(_ID_HEADER, "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)

        def count() -> None:
            nonlocal counted
            if not counted and (refusal := state.get("refusal")):
                self._metrics.refusals.labels(refusal).inc()
                counted = True

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"].endswith(("http.response.start", "websocket.accept")):
                status = message.get("status", 101)
                MutableHeaders(scope=message)[_ID_HEADER] = request_id
            elif message["type"] == "websocket.close" and not status:
                status = 403
            count()  # who has the answer finds it counted
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:  # a bug: the log has the traceback, the client gets no message
            if scope["type"] != "http" or status:
                raise
            _log.exception("The request with the id %s failed.", request_id)
            text = f"{type(error).__name__} in the server; its log says more."
            await answer_to(RefusedError(500, "internal", text))(scope, receive, noted)
        finally:
            count()
            if self._is_on and plain_path(scope) not in HEALTH:
                result = f"{status or 500} {state.get('refusal') or '-'}"
                self._write(scope, headers, result, began, request_id)

    @staticmethod
    def _write(scope: Scope, headers: Headers, result: str, began: float, request_id: str) -> None:
        client = (scope.get("client") or ("-",))[0]
        method = scope.get("method", "WEBSOCKET")
        path = scope["raw_path"].decode("ascii", "backslashreplace")  # as sent: one printable word
        trace = headers.get("traceparent", "")
        _log.info(
            "%s %s %s %s %.3f s id=%s%s",
            *(client, method, path, result, time.perf_counter() - began, request_id),
            f" traceparent={trace}" if _TRACEPARENT.fullmatch(trace) else "",
        )
