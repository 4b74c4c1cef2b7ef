"""Settings and access rules of the service, and the errors that refuse requests."""

import errno
import hmac
import ipaddress
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from kinema.decoders.jobs import VideoLimits
from kinema.decoders.pool import DecoderSettings  # noqa: F401  # the command line reads its defaults here
from kinema.errors import KinemaError

_log = logging.getLogger(__name__)

MIB = 1 << 20

# Everything else is public: the page and the health checks hold no secrets.
GUARDED = ("/v1/", "/metrics")
# Answered even over the limits of connections.
HEALTH = ("/healthz", "/readyz")


def plain_path(scope: Mapping[str, Any]) -> str:
    """Path of a request without the prefix that a proxy has taken away."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


class Limits(BaseModel):
    """Upper bounds for requests, videos and streams of one service."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    upload_bytes: int = Field(default=256 * MIB, ge=1, description="Bytes of a request body.")
    duration_s: float = Field(default=600.0, gt=0, description="Seconds of a video to predict.")
    frames: int = Field(default=100_000, ge=1, description="Frames of a video to predict.")
    pixels: int = Field(default=4096 * 2304, ge=1, description="Width times height of a frame.")
    views: int = Field(default=60, ge=1, description="Clips times crops of one request.")
    timeline_bytes: int = Field(
        default=4096 * MIB, ge=1, description="Bytes of a video for a timeline."
    )
    timeline_duration_s: float = Field(
        default=6 * 3600.0, gt=0, description="Seconds of a video for a timeline."
    )
    timeline_frames: int = Field(
        default=2_000_000, ge=1, description="Frames of a video for a timeline."
    )
    timeline_windows: int = Field(default=20_000, ge=1, description="Windows of one timeline.")
    requests: int = Field(default=32, ge=1, description="Concurrent requests with a body.")
    waiting: int = Field(default=16, ge=0, description="Requests waiting for a decoder.")
    upload_s: float = Field(
        default=300.0, gt=0, description="Seconds for a request body to arrive."
    )
    request_s: float = Field(
        default=60.0, gt=0, description="Seconds from the request body to the answer."
    )
    streams: int = Field(default=8, ge=0, description="Concurrent live streams.")
    connections: int = Field(default=512, ge=1, description="Open connections.")
    client_connections: int = Field(
        default=128, ge=1, description="Open connections of one client address."
    )
    client_per_minute: int = Field(
        default=0,
        ge=0,
        description="Requests with a body, and new streams, of one client address; 0 for no limit.",
    )
    head_s: float = Field(
        default=15.0,
        gt=0,
        description="Seconds until the head of a request is complete, from the start of the "
        "connection or the previous answer.",
    )
    unread_s: float = Field(
        default=30.0, gt=0, description="Longest time that a client may leave an answer unread."
    )
    frame_bytes: int = Field(default=16 * MIB, ge=1, description="Bytes of one frame of a stream.")
    stream_idle_s: float = Field(
        default=60.0, gt=0, description="Longest pause between two frames of a stream, in seconds."
    )

    @property
    def video(self) -> VideoLimits:
        """Limits of a video to predict."""
        return VideoLimits(self.duration_s, self.frames, self.pixels)

    @property
    def timeline_video(self) -> VideoLimits:
        """Limits of a video for a timeline."""
        return VideoLimits(self.timeline_duration_s, self.timeline_frames, self.pixels)

    def check_frame(self, width: int, height: int, short_side_px: int) -> None:
        """Refuses a frame with too many pixels, as sent or after its short side is resized.

        Raises:
            RefusedError: it has too many (413).
        """
        resized = round(short_side_px**2 * max(width, height) / min(width, height))
        if max(width * height, resized) > self.pixels:
            raise RefusedError(
                413,
                "too_many_pixels",
                f"A frame of {width} x {height} has {width * height} pixels, and {resized} with a "
                f"short side of {short_side_px}; the limit is {self.pixels}.",
            )


class BatchSettings(BaseModel):
    """A batch runs when it is full, or when its first clip has waited long enough."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clips: int = Field(default=16, ge=1, description="Largest batch, in clips.")
    delay_s: float = Field(
        default=0.005, ge=0, description="Longest time a clip waits for its batch to fill."
    )


class JobSettings(BaseModel):
    """Limits on the number and lifetime of timeline jobs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    running: int = Field(default=1, ge=1, description="Timelines computed concurrently.")
    waiting: int = Field(default=8, ge=0, description="Timelines waiting to be computed.")
    kept: int = Field(default=20, ge=1, description="Finished timelines kept for fetching.")
    kept_s: float = Field(default=3600.0, gt=0, description="Seconds for which they are kept.")
    decode_s: int = Field(
        default=600, ge=1, description="Seconds for decoding 16 frames, or for the frame index."
    )
    cpu_s: int = Field(
        default=2 * 3600, ge=1, description="CPU seconds for decoding the video of one timeline."
    )


@dataclass(eq=False)  # errors are compared by identity
class RefusedError(KinemaError):
    """A request is refused; becomes an HTTP answer with a code for programs."""

    status: int
    code: str
    message: str
    file: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message


def refusal_of_system(error: OSError) -> RefusedError | None:
    """Converts a lack of disk space or file descriptors to an answer, with a line in the log.

    Returns:
        None for other errors.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        text = "The disk of the server is full: there is no room for the upload."
        refusal = RefusedError(507, "disk_full", text)
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        text = "The server has as many open files as the system allows. Try again."
        refusal = RefusedError(503, "too_many_files", text)
    else:
        return None
    _log.warning("%s (%s)", refusal, error.strerror)
    return refusal


class Access(BaseModel):
    """API key, allowed hosts and origins, and the folder of the server that requests may read."""

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
    hosts: tuple[str, ...] = Field(
        default=(),
        description="Host names and addresses of this server, beside the loopback names and the "
        "address at which a connection arrives.",
    )

    @field_validator("hosts")
    @classmethod
    def _only_names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if _HOST.fullmatch(host) is None and not _is_address(host):
                raise ValueError(f"{host!r} is no host name or address, such as kinema.example")
        return tuple(_plain_host(host) for host in hosts)

    def check_host(self, headers: Mapping[str, str], own: str) -> None:
        """Raises a 421 for a host that is not this server.

        A page of another site can let its own name resolve to this machine (DNS rebinding). For
        the browser it then has the same origin as the server, so that only the name gives it away.

        Args:
            headers: Headers of the request.
            own: Address at which the connection arrived.
        """
        given = headers.get("host", "")
        host = _plain_host(re.sub(r":\d*$", "", given))
        if host not in (*_LOOPBACK, *self.hosts, _plain_host(own)):
            raise RefusedError(
                421,
                "host",
                f"This server does not answer for the host {given!r}; --allowed-host allows a "
                "name.",
                headers={"Connection": "close"},
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
        if path.startswith(GUARDED):
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


_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Letters, digits and hyphens between dots, as in RFC 1123; underscores occur in container networks.
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*\.?")


def _plain_host(host: str) -> str:
    """One spelling of each host: lower case, no brackets, no last dot, the shortest IPv6."""
    plain = host.lower().removesuffix(".")
    if plain.startswith("[") and plain.endswith("]"):
        plain = plain[1:-1]
    return str(ipaddress.ip_address(plain)) if _is_address(plain) else plain


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def key_of(headers: Mapping[str, str]) -> str | None:
    """Reads the API key from the headers of a request."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return token.strip()
    return headers.get("x-api-key")


class Slots:
    """Counting semaphore that refuses instead of waiting; for one thread, or an event loop."""

    def __init__(self, most: int, code: str, message: str) -> None:
        self.taken = 0
        self._most = most
        self._refusal = code, message

    def __enter__(self) -> None:
        if self.taken >= self._most:
            raise RefusedError(503, *self._refusal)
        self.taken += 1

    def __exit__(self, *_: object) -> None:
        self.taken -= 1
