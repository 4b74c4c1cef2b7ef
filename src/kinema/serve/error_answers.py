"""Answers to errors: each has a status, a code word, and a message for the client."""

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from kinema.errors import KinemaError
from kinema.serve.admission import answer_to
from kinema.serve.limits import RefusedError, refusal_of_system
from kinema.serve.schema import describe_error


def add_error_answers(app: FastAPI) -> None:
    """Answers all errors of an application but bugs, which `AccessLog` answers in the same form."""
    app.add_exception_handler(KinemaError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ClientDisconnect, _on_leave)
    app.add_exception_handler(OSError, _on_system)


async def _on_error(_: Request, error: Exception) -> Response:
    """Answers refusals, and errors of option values as 422."""
    if isinstance(error, RefusedError):
        return answer_to(error)
    return answer_to(RefusedError(422, "option", str(error)))


async def _on_invalid(_: Request, error: Exception) -> Response:
    """Answers with the first field that is wrong."""
    assert isinstance(error, RequestValidationError), "registered for this class"
    first = error.errors()[0]
    fields = first["loc"][1:] or first["loc"]
    return answer_to(RefusedError(422, "invalid", describe_error(first, fields)))


async def _on_http(request: Request, error: Exception) -> Response:
    """Answers unknown addresses and methods in the form of all errors."""
    assert isinstance(error, HTTPException), "registered for this class"
    codes = {404: "not_found", 405: "method_not_allowed", 400: "bad_request"}
    code = codes.get(error.status_code, "http")
    text = f"{request.method} {request.url.path}: {error.detail.rstrip('.')}."
    headers = dict(error.headers or {})
    return answer_to(RefusedError(error.status_code, code, text, headers=headers))


async def _on_leave(_: Request, __: Exception) -> Response:
    """Ends a request whose client is gone; nobody reads the answer, but it is counted."""
    return answer_to(RefusedError(400, "body", "The client left before its body ended."))


async def _on_system(_: Request, error: Exception) -> Response:
    """Answers a lack of disk space or file descriptors; others are bugs."""
    assert isinstance(error, OSError), "registered for this class"
    refusal = refusal_of_system(error)
    if refusal is None:
        raise error
    return answer_to(refusal)
