"""Frames from cameras and addresses, which may get lost and are then opened again."""

import glob
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from kinema.errors import OptionError, UnreadableVideoError, did_you_mean
from kinema.live.live_source import Frames, LiveFrame, Stopped, sleep_until
from kinema.video.container import open_container
from kinema.video.display import display_of, upright

_log = logging.getLogger(__name__)

SCHEMES = ("rtsp", "rtsps", "http", "https")

# No wait between two attempts to reconnect is longer.
LONGEST_BACK_OFF_S = 30.0
# Enough to find the codec of a stream; FFmpeg's own 5 s would delay every start.
_ANALYZE_US = 1_000_000


@dataclass(frozen=True)
class Connection:
    """How an address or camera is reached.

    Attributes:
        retries: Attempts in a row to reach a lost source again; the first attempt of all has none,
            so that a wrong address is told at once.
        back_off_s: Wait before the first of them; every further wait is twice as long, up to
            `LONGEST_BACK_OFF_S`.
        timeout_s: Longest wait for an answer to opening, and for a next frame.
        transport: How RTSP sends its frames.
    """

    retries: int = 5
    back_off_s: float = 0.5
    timeout_s: float = 5.0
    transport: Literal["tcp", "udp"] = "tcp"

    def __post_init__(self) -> None:
        if self.retries < 0 or self.back_off_s < 0:
            raise OptionError(
                f"retries and back_off_s must not be negative, got {self.retries} and "
                f"{self.back_off_s}."
            )
        if not self.timeout_s > 0:
            raise OptionError(f"timeout_s must be above 0, got {self.timeout_s}.")


def camera(index: int, how: Connection) -> "LiveStream":
    """A camera of this machine.

    Raises:
        UnreadableVideoError: there is no such camera, or it cannot be opened.
    """
    device = f"/dev/video{index}"
    if not os.path.exists(device):
        there = ", ".join(sorted(glob.glob("/dev/video*"))) or "no camera"
        raise UnreadableVideoError(
            f"There is no camera {index}: {device} does not exist; this machine has {there}. "
            "A container sees a camera only when its device is handed in (docker --device)."
        )
    once = Connection(retries=0, timeout_s=how.timeout_s)
    return LiveStream(device, once, form="video4linux2")


def address(url: str, how: Connection) -> "LiveStream":
    """A camera or video behind an RTSP or HTTP address.

    Raises:
        OptionError: the scheme is another one.
        UnreadableVideoError: it cannot be opened; the message says why.
    """
    scheme = url.split("://", maxsplit=1)[0].lower()
    if scheme not in SCHEMES:
        raise OptionError(f"{url}: unknown scheme {scheme!r}. " + did_you_mean(scheme, SCHEMES))
    timeout_us = str(round(1e6 * how.timeout_s))
    options = {"analyzeduration": str(_ANALYZE_US)}
    if scheme.startswith("rtsp"):
        options |= {"rtsp_transport": how.transport, "timeout": timeout_us, "fflags": "nobuffer"}
    else:
        options |= {"rw_timeout": timeout_us}
    return LiveStream(url, how, options=options)


class LiveStream:
    """What FFmpeg opens and what may get lost: an address or a camera.

    A lost source is opened again. A video of known length behind an HTTP address then goes on
    where it was left (its start is sent and decoded again); with all others time has gone on.

    Args:
        address: The URL or device.
        how: Timeouts and retries.
        form: The name of FFmpeg's input format where it cannot find out.
        options: Options for FFmpeg.

    Attributes:
        damaged: Packets that could not be decoded and were left out.

    Raises:
        UnreadableVideoError: it cannot be opened; the message says why.
    """

    def __init__(
        self,
        address: str,
        how: Connection,
        *,
        form: str | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        self.name = without_password(address)
        self.reconnects = 0
        self.damaged = 0
        self._address = address
        self._how = how
        self._form = form
        self._options = options or {}
        self._to_rgb = VideoReformatter()
        self._container: InputContainer | None = self._open()
        self.is_live = address.startswith("rtsp") or not _has_end(self._container)

    def frames(self, stopped: Stopped) -> Frames:
        """See `LiveSource`.

        Raises:
            UnreadableVideoError: it was lost and could not be reached again.
        """
        clock, number, failures = _Clock(has_end=not self.is_live), 0, 0
        while not stopped():
            reason = "it ended"
            try:
                for frame in self._decoded(stopped):
                    time_s = clock.time_s(frame)
                    if time_s is not None:
                        failures = 0
                        yield LiveFrame(number, time_s, self._picture(frame), self.reconnects)
                        number += 1
                if not self.is_live or stopped():
                    return
            except (av.FFmpegError, UnreadableVideoError) as error:
                reason = _reason(error)
            self.close()
            failures += 1
            self._wait(failures, reason, stopped)
            clock.reconnect()

    def close(self) -> None:
        """Gives the connection back, and says what was left out."""
        if self.damaged:
            said = "%s: %d packets so far could not be decoded and were left out."
            _log.warning(said, self.name, self.damaged)
        if self._container is not None:
            self._container.close()
            self._container = None

    def _open(self) -> InputContainer:
        wait_s = self._how.timeout_s
        try:
            container = open_container(
                self._address, options=self._options, form=self._form, timeout_s=wait_s
            )
        except av.FFmpegError as error:
            reason = _reason(error, f"no answer for {wait_s:g} s")
            raise UnreadableVideoError(f"{self.name} cannot be opened: {reason}.") from error
        if not container.streams.video or not container.streams.video[0].codec_context:
            container.close()
            raise UnreadableVideoError(f"{self.name} cannot be opened: it has no video stream.")
        return container

    def _decoded(self, stopped: Stopped) -> Iterator[VideoFrame]:
        """The frames of this connection; packets that cannot be decoded are counted."""
        if self._container is None:
            self._container = self._open()
            self.reconnects += 1
        for packet in self._container.demux(self._container.streams.video[0]):
            if stopped():
                return
            try:
                yield from packet.decode()
            except av.InvalidDataError:
                self.damaged += 1

    def _wait(self, failures: int, reason: str, stopped: Stopped) -> None:
        """Waits before the next attempt, if there is one."""
        retries = self._how.retries
        if failures > retries:
            again = f" and could not be reached again, tried {retries} times" if retries else ""
            raise UnreadableVideoError(f"{self.name} was lost{again}: {reason}.")
        wait_s = min(self._how.back_off_s * 2 ** (failures - 1), LONGEST_BACK_OFF_S)
        said = self.name, reason, wait_s, failures, retries
        _log.warning("%s was lost: %s. Next attempt in %.1f s (%d of %d).", *said)
        sleep_until(time.monotonic() + wait_s, stopped)

    def _picture(self, frame: VideoFrame) -> NDArray[np.uint8]:
        rgb = self._to_rgb.reformat(frame, format="rgb24").to_ndarray().astype(np.uint8, copy=False)
        quarter_turns, mirrored = display_of(frame)
        return upright(rgb, quarter_turns, mirrored=mirrored)


class _Clock:
    """Times of frames since the first one, over all connections.

    Args:
        has_end: Whether each connection begins with the same first frame again.
    """

    def __init__(self, *, has_end: bool) -> None:
        self._has_end = has_end
        self._began = time.monotonic()
        self._last_s: float | None = None
        self._zero: tuple[float, float] | None = None  # a frame's own time and ours

    def reconnect(self) -> None:
        """The own times of the frames begin anew."""
        if not self._has_end:
            self._zero = None

    def time_s(self, frame: VideoFrame) -> float | None:
        """The time of a frame; None if it was there before."""
        now = time.monotonic()
        if self._last_s is None:
            self._began = now
        own = now
        if frame.pts is not None and frame.time_base is not None:
            own = float(frame.pts * frame.time_base)
        if self._zero is None:
            self._zero = own, now - self._began
        time_s = own - self._zero[0] + self._zero[1]
        if self._has_end and self._last_s is not None and time_s <= self._last_s:
            return None
        self._last_s = time_s if self._last_s is None else max(time_s, self._last_s)
        return self._last_s


def _has_end(container: InputContainer) -> bool:
    """Whether the length is known: as a time, or as a number of bytes, which HLS has not."""
    return bool(container.duration) or (container.format.name != "hls" and container.size > 0)


def without_password(address: str) -> str:
    """An address as it may be shown: user names and passwords are left out."""
    parts = urlsplit(address)
    if parts.username is None and parts.password is None:
        return address
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _reason(error: Exception, when_late: str = "no frame came in time") -> str:
    """Why it went wrong, without the address."""
    if isinstance(error, av.ExitError):  # our timeout
        return when_late
    if isinstance(error, UnreadableVideoError):
        return str(error).rpartition("cannot be opened: ")[2].rstrip(".")
    text = str(getattr(error, "strerror", "") or error)
    return text[:1].lower() + text[1:]
