"""Cameras and network addresses as live sources, reopened when the connection is lost."""

import glob
import logging
import math
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Literal
from urllib.parse import urlsplit

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from kinema.errors import OptionError, UnreadableVideoError, check_range, did_you_mean
from kinema.live.live_source import (
    BURST_S,
    SMALLEST_S,
    Frames,
    LiveFrame,
    Stopped,
    log_step,
    sleep_until,
)
from kinema.video.container import main_video, open_container, to_end, wrap_s
from kinema.video.display import display_of, upright
from kinema.video.rising_times import RisingTimes, looking_ahead

_log = logging.getLogger(__name__)

SCHEMES = ("rtsp", "rtsps", "http", "https")

# Upper limit of the exponential back-off between reconnects.
LONGEST_BACK_OFF_S = 30.0
# Enough to find the codec of a stream; FFmpeg's default of 5 s would delay every start.
_ANALYZE_US = 1_000_000


@dataclass(frozen=True)
class Connection:
    """Timeouts and retries for cameras and network addresses.

    Attributes:
        retries: Consecutive attempts to reconnect a lost source. The first connection is never
            retried, so that a wrong address fails at once.
        back_off_s: Wait before the first attempt, doubled for each further one up to
            `LONGEST_BACK_OFF_S`.
        timeout_s: Timeout of opening the source and of each next frame.
        transport: Transport protocol of RTSP.
    """

    retries: int = 5
    back_off_s: float = 0.5
    timeout_s: float = 5.0
    transport: Literal["tcp", "udp"] = "tcp"

    def __post_init__(self) -> None:
        check_range(at_least=0, retries=self.retries, back_off_s=self.back_off_s)
        check_range(above=0, timeout_s=self.timeout_s)


def open_camera(index: int, connection: Connection) -> "ReconnectingSource":
    """Opens a camera of this machine.

    Raises:
        UnreadableVideoError: there is no such camera, or it cannot be opened.
    """
    device = f"/dev/video{index}"
    if not os.path.exists(device):
        present = ", ".join(sorted(glob.glob("/dev/video*"))) or "no camera"
        raise UnreadableVideoError(
            f"There is no camera {index}: {device} does not exist; this machine has {present}. "
            "A container needs access to the device (docker run --device)."
        )
    once = Connection(retries=0, timeout_s=connection.timeout_s)
    return ReconnectingSource(device, once, input_format="video4linux2")


def open_address(url: str, connection: Connection) -> "ReconnectingSource":
    """Opens an RTSP or HTTP address.

    Raises:
        OptionError: the URL has another scheme.
        UnreadableVideoError: it cannot be opened; the message says why.
    """
    scheme = url.split("://", maxsplit=1)[0].lower()
    if scheme not in SCHEMES:
        raise OptionError(f"{url}: unknown scheme {scheme!r}. " + did_you_mean(scheme, SCHEMES))
    timeout_us = str(round(1e6 * connection.timeout_s))
    options = {"analyzeduration": str(_ANALYZE_US)}
    if scheme.startswith("rtsp"):
        options |= {
            "rtsp_transport": connection.transport,
            "timeout": timeout_us,
            "fflags": "nobuffer",
        }
    else:
        options |= {"rw_timeout": timeout_us}
    return ReconnectingSource(url, connection, options=options)


class ReconnectingSource:
    """Live source that FFmpeg opens, and that is reopened when it is lost.

    A video of known length at an HTTP address resumes where it was lost: its beginning is sent
    and decoded again. Other sources resume at the current time.

    Args:
        address: URL or device.
        connection: Timeouts and retries.
        input_format: FFmpeg's name of the input format; detected by default.
        options: FFmpeg options.

    Attributes:
        damaged: Packets that could not be decoded and were skipped.

    Raises:
        UnreadableVideoError: it cannot be opened; the message says why.
    """

    def __init__(
        self,
        address: str,
        connection: Connection,
        *,
        input_format: str | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        self.name = without_password(address)
        self.reconnects = 0
        self.damaged = 0
        self._address = address
        self._connection = connection
        self._input_format = input_format
        self._options = options or {}
        self._to_rgb = VideoReformatter()
        self._container: InputContainer | None = self._open()
        self.is_live = address.startswith("rtsp") or not _has_end(self._container)

    def frames(self, stopped: Stopped) -> Frames:
        """See `LiveSource`.

        Raises:
            UnreadableVideoError: the source was lost and all retries failed.
        """
        clock, number, failures = _Clock(self.name, is_live=self.is_live), 0, 0
        while not stopped():
            reason = "it ended"
            try:
                container, stream = self._connected()
                frames = self._decoded(container, stream, stopped)
                for frame, time_s in clock.timed(frames, container, stream):
                    failures = 0
                    yield LiveFrame(
                        number,
                        time_s,
                        self._picture(frame),
                        self.reconnects,
                        clock.line.steps,
                        clock.line.outliers,
                    )
                    number += 1
                # Only a video of known length ends; a live source that ends was lost.
                if not self.is_live or stopped():
                    return
            except (av.FFmpegError, UnreadableVideoError) as error:
                reason = _reason(error)
            self.close()
            failures += 1
            self._back_off(failures, reason, stopped)

    def close(self) -> None:
        """Closes the connection and logs the number of skipped packets."""
        if self.damaged:
            message = "%s: %d packets so far could not be decoded and were skipped."
            _log.warning(message, self.name, self.damaged)
        if self._container is not None:
            self._container.close()
            self._container = None

    def _open(self) -> InputContainer:
        timeout_s = self._connection.timeout_s
        try:
            container = open_container(
                self._address,
                options=self._options,
                input_format=self._input_format,
                timeout_s=timeout_s,
            )
        except av.FFmpegError as error:
            reason = _reason(error, f"no answer for {timeout_s:g} s")
            raise UnreadableVideoError(f"{self.name} cannot be opened: {reason}.") from error
        stream = main_video(container)
        if stream is None or not stream.codec_context:
            container.close()
            raise UnreadableVideoError(f"{self.name} cannot be opened: it has no video stream.")
        return container

    def _connected(self) -> tuple[InputContainer, VideoStream]:
        """The open connection and its video; reconnects if it was closed."""
        if self._container is None:
            self._container = self._open()
            self.reconnects += 1
        stream = main_video(self._container)
        assert stream is not None  # checked by `_open`
        return self._container, stream

    def _decoded(
        self, container: InputContainer, stream: VideoStream, stopped: Stopped
    ) -> Iterator[VideoFrame]:
        """Frames of one connection; counts and skips packets that cannot be decoded."""
        for packet in to_end(container.demux(stream)):
            if stopped():
                return
            try:
                yield from packet.decode()
            except av.InvalidDataError:
                self.damaged += 1

    def _back_off(self, failures: int, reason: str, stopped: Stopped) -> None:
        """Waits before the next attempt, or raises if there is none left."""
        retries = self._connection.retries
        if failures > retries:
            again = f" and could not be reached again, tried {retries} times" if retries else ""
            raise UnreadableVideoError(f"{self.name} was lost{again}: {reason}.")
        wait_s = min(self._connection.back_off_s * 2 ** (failures - 1), LONGEST_BACK_OFF_S)
        values = self.name, reason, wait_s, failures, retries
        _log.warning("%s was lost: %s. Next attempt in %.1f s (%d of %d).", *values)
        sleep_until(time.monotonic() + wait_s, stopped)

    def _picture(self, frame: VideoFrame) -> NDArray[np.uint8]:
        rgb = self._to_rgb.reformat(frame, format="rgb24").to_ndarray().astype(np.uint8, copy=False)
        quarter_turns, mirrored = display_of(frame)
        return upright(rgb, quarter_turns, mirrored=mirrored)


class _Clock:
    """Times of frames since the first one, across connections.

    Args:
        name: Source in messages.
        is_live: True if a new connection goes on at the current time; False if it begins with the
            first frame of the video again.

    Attributes:
        line: Counts the steps of the clock.
    """

    def __init__(self, name: str, *, is_live: bool) -> None:
        self.line = RisingTimes()
        self._name = name
        self._is_live = is_live
        self._start_s: float | None = None
        self._last_s = -SMALLEST_S
        self._was_logged = False

    def timed(
        self, frames: Iterable[VideoFrame], container: InputContainer, stream: VideoStream
    ) -> Iterator[tuple[VideoFrame, float]]:
        """Yields the frames of one connection with their times, but for those seen before."""
        rate = stream.average_rate or stream.guessed_rate
        period_s = float(1 / rate) if rate else 0.0
        if not self._is_live or self._start_s is None:
            wrap = wrap_s(container)
            self.line = RisingTimes(
                period=period_s, smallest=SMALLEST_S, wrap=float(wrap) if wrap else None
            )
        came_s: float | None = None
        for (frame, own_s), later_s in self._ahead(self._with_own_times(frames, period_s)):
            before_s, came_s = came_s, time.monotonic()
            if before_s is None:
                time_s = self.line.begin(own_s, at=self._start(came_s))
            else:
                # A live source sends nothing ahead of time; in a video, holes are as recorded.
                most_s = came_s - before_s + BURST_S if self._is_live else math.inf
                time_s = self.line.place(own_s, later=later_s, most=most_s)
            if time_s > self._last_s:
                self._last_s = time_s
                if not self._was_logged and (self.line.steps or self.line.outliers):
                    log_step(self._name)
                    self._was_logged = True
                yield frame, time_s

    def _start(self, now_s: float) -> float:
        """Time of the first frame of a connection."""
        if self._start_s is None:
            self._start_s = now_s
        return max(now_s - self._start_s, self._last_s + SMALLEST_S) if self._is_live else 0.0

    def _with_own_times(
        self, frames: Iterable[VideoFrame], period_s: float
    ) -> Iterator[tuple[VideoFrame, float]]:
        """Yields frames with the times that they carry; these are steadier than arrival times."""
        own_s = -period_s
        for frame in frames:
            if frame.pts is not None and frame.time_base is not None:
                own_s = float(frame.pts * frame.time_base)
            else:
                own_s = time.monotonic() if self._is_live else own_s + period_s
            yield frame, own_s

    def _ahead(
        self, items: Iterable[tuple[VideoFrame, float]]
    ) -> Iterator[tuple[tuple[VideoFrame, float], float | None]]:
        """Looks ahead in videos; a live frame must not wait for the next ones."""
        if self._is_live:
            return ((item, None) for item in items)
        return looking_ahead(items, itemgetter(1))


def _has_end(container: InputContainer) -> bool:
    """True if the length is known, as a duration or as a size (which HLS does not have)."""
    return bool(container.duration) or (container.format.name != "hls" and container.size > 0)


def without_password(address: str) -> str:
    """Removes user name and password from an address, for messages."""
    parts = urlsplit(address)
    if parts.username is None and parts.password is None:
        return address
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _reason(error: Exception, when_late: str = "no frame arrived in time") -> str:
    """Readable reason of an error, without the address."""
    if isinstance(error, av.ExitError):  # our timeout
        return when_late
    if isinstance(error, UnreadableVideoError):
        return str(error).rpartition("cannot be opened: ")[2].rstrip(".")
    text = str(getattr(error, "strerror", "") or error)
    return text[:1].lower() + text[1:]
