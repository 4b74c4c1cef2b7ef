"""A file over HTTP, in as many attempts as it takes.

urllib of the standard library asks; it honors proxies and follows redirects. Resuming and retrying
are here.
"""

import http.client
import logging
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import IO

from kinema.errors import KinemaError, OutputError
from kinema.system.files import naming_write_errors

_log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # bytes there, bytes in all; 0 in all if that is unknown

_CHUNK = 1 << 18
_BUSY = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses that may pass
_BEYOND_END = 416  # the range starts behind the end of the file
# Another attempt a second later would fail alike.
_LASTING = (ConnectionRefusedError, socket.gaierror, ssl.SSLError)


@dataclass(frozen=True)
class Patience:
    """Waits and attempts of a download.

    Attributes:
        silence_s: Longest wait for a connection or for the next bytes.
        attempts: Attempts in a row without a new byte.
        pause_s: Pause before the second of them; doubled before each further one.
    """

    silence_s: float = 30.0
    attempts: int = 4
    pause_s: float = 0.5


class SourceError(Exception):
    """An address does not give the file."""


class _LostError(Exception):
    """The connection broke or the server was busy: the same address may do better."""


@dataclass
class Download:
    """Download of one address to a partial file, which a later one goes on with.

    Attributes:
        url: Address.
        part: Partial file.
        has_hash: True if the caller can tell a wrong file. Otherwise an interrupted download only
            goes on if the server says that the file is the same (ETag, Last-Modified).
        progress: Called with (bytes there, bytes in all).
        patience: Waits and attempts.
    """

    url: str
    part: Path
    has_hash: bool
    progress: Progress | None = None
    patience: Patience = Patience()
    _validator: str = field(default="", init=False)

    def run(self) -> None:
        """Brings the partial file to its full length.

        Raises:
            SourceError: the address does not give the file.
            OutputError: the file cannot be written, or its disk is too small.
        """
        attempt = 0
        while True:
            before = self._size()
            try:
                return self._receive()
            except _LostError as error:
                attempt = 1 if self._size() > before else attempt + 1
                if attempt == self.patience.attempts:
                    raise SourceError(f"{self.url}: {error}.") from error
                _log.info("%s: %s; trying again from byte %d.", self.url, error, self._size())
            if not (self.has_hash or self._validator):
                self.part.unlink(missing_ok=True)
            time.sleep(self.patience.pause_s * 2 ** (attempt - 1))

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _receive(self) -> None:
        """Asks once for the bytes that are missing."""
        offset = self._size()
        request = urllib.request.Request(self.url, headers={"User-Agent": "kinema"})
        if offset:
            request.add_header("Range", f"bytes={offset}-")
            if self._validator:
                request.add_header("If-Range", self._validator)
        try:
            with _opener().open(request, timeout=self.patience.silence_s) as answer:
                self._write(answer, offset)
        except KinemaError:
            raise
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error, offset)
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(reason, _LASTING):
                raise SourceError(f"{self.url}: {reason}.") from error
            raise _LostError(str(reason) or type(reason).__name__) from error

    def _refused(self, error: urllib.error.HTTPError, offset: int) -> None:
        """Returns if the file is complete, and raises for every other refusal."""
        said = f"HTTP status {error.code} ({error.reason})"
        if error.code == _BEYOND_END and offset:
            if error.headers.get("Content-Range", "") == f"bytes */{offset}":
                return
            self.part.unlink()  # longer than the file: of another one
            raise _LostError(said) from error
        if error.code in _BUSY:
            raise _LostError(said) from error
        raise SourceError(f"{self.url}: {said}.") from error

    def _write(self, answer: http.client.HTTPResponse, offset: int) -> None:
        """Appends the answer to the partial file, or starts it anew if it is the whole file."""
        if answer.headers.get_content_type() == "text/html":
            raise SourceError(f"{self.url}: a web page, not a file.")
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            offset = 0
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            raise SourceError(f"{self.url}: other bytes than those asked for.")
        self._validator = _validator(answer.headers)
        total = 0 if answer.length is None else offset + answer.length
        self._check_space(total - offset)
        with naming_write_errors(self.part):
            file = self.part.open("r+b" if offset else "wb", buffering=0)
        with file:
            file.seek(offset)
            while chunk := memoryview(_next(answer)):
                with naming_write_errors(self.part):
                    while chunk:
                        chunk = chunk[file.write(chunk) :]
                if self.progress is not None:
                    self.progress(file.tell(), total)
        if self._size() < total:
            raise _LostError(f"the connection broke after {self._size()} of {total} bytes")

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.part.parent).free
        if needed > free:
            raise OutputError(
                f"{self.part} cannot be written: it needs another {needed / 1e6:.0f} MB, its disk "
                f"has {free / 1e6:.0f} MB left. Free some space, or set KINEMA_HOME to a folder on "
                "another disk."
            )


def _next(answer: http.client.HTTPResponse) -> bytes:
    """Next bytes; empty at the end."""
    try:
        return answer.read1(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _LostError(str(error) or type(error).__name__) from error


def _validator(headers: Message) -> str:
    """Header that tells one version of a file from another; weak ones do not."""
    tag: str = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from https to http, where anybody may answer."""

    def redirect_request(  # noqa: PLR0917 - the signature of urllib
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """See `urllib.request.HTTPRedirectHandler`."""
        if req.type == "https" and not newurl.startswith("https://"):
            raise SourceError(f"{req.full_url}: redirects to {newurl}, which is not encrypted.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Opens http and https addresses only, through the proxies of the environment."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _SafeRedirects(),
    ):
        opener.add_handler(handler)
    return opener
