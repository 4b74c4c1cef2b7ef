"""Opens live sources: files, cameras, RTSP and HTTP addresses, raw frames on stdin.

A source is read by a single thread, the one that iterates over its frames.
"""

import os
import select
import time
from dataclasses import dataclass

import numpy as np

from kinema.errors import OptionError, UnreadableVideoError
from kinema.live.connection import Connection, open_address, open_camera
from kinema.live.live_source import POLL_S, Frames, LiveFrame, LiveSource, Stopped
from kinema.video.decode import VideoFile

STDIN = "-"


@dataclass(frozen=True)
class RawFormat:
    """Format of raw frames: consecutive (H, W, 3) RGB bytes.

    Attributes:
        width: In pixels.
        height: In pixels.
        rate_hz: Frames per second; None uses arrival times.
    """

    width: int
    height: int
    rate_hz: float | None = None

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 1 or (self.rate_hz is not None and self.rate_hz <= 0):
            raise OptionError(f"Raw frames need positive sizes and rates, got {self}.")


def open_live(
    source: str, *, connection: Connection | None = None, raw: RawFormat | None = None
) -> LiveSource:
    """Opens a live source.

    Args:
        source: Video file, camera number, RTSP or HTTP address, or "-" for raw frames on stdin.
        connection: Timeouts and retries for cameras and addresses.
        raw: Format of raw frames on stdin.

    Raises:
        OptionError: the address has an unknown scheme, or `raw` is missing or does not fit the
            source.
        UnreadableVideoError: it cannot be opened; the message says why.
    """
    if (source == STDIN) != (raw is not None):
        raise OptionError(
            f"Raw frames are read from stdin ({STDIN!r}) and need their size and rate, such as "
            f"--raw 640x480@25; got the source {source!r} {'without' if raw is None else 'with'} "
            "a raw format."
        )
    connection = connection or Connection()
    if raw is not None:
        return RawFrames(raw)
    if source.isdecimal():
        return open_camera(int(source), connection)
    if "://" in source:
        return open_address(source, connection)
    return FileFrames(source)


class FileFrames:
    """Frames of a video file, without a pace of their own.

    Raises:
        UnreadableVideoError: it cannot be read; the message says why.
    """

    is_live = False
    reconnects = 0

    def __init__(self, path: str) -> None:
        self.name = path
        self._file = VideoFile(path)

    def frames(self, stopped: Stopped) -> Frames:
        """See `LiveSource`.

        Raises:
            UnreadableVideoError: fewer frames than the index has can be decoded.
        """
        info = self._file.info
        counts = {"time_steps": info.time_steps, "time_outliers": info.time_outliers}
        times = self._file.times_s(range(info.frames))
        for number, (picture, time_s) in enumerate(zip(self._file.in_order(), times, strict=False)):
            if stopped():
                return
            yield LiveFrame(number, time_s, picture, **counts)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class RawFrames:
    """Raw frames from a pipe.

    Args:
        raw: Size and rate.
        descriptor: File descriptor to read; stdin by default.
    """

    name = "stdin"
    is_live = False
    reconnects = 0

    def __init__(self, raw: RawFormat, *, descriptor: int = 0) -> None:
        self.raw = raw
        self._descriptor = descriptor

    def frames(self, stopped: Stopped) -> Frames:
        """See `LiveSource`.

        Raises:
            UnreadableVideoError: the bytes end in the middle of a frame.
        """
        raw, number, start_s = self.raw, 0, 0.0
        while (data := self._read_frame(number, stopped)) is not None:
            now = time.monotonic()
            start_s = start_s if number else now
            time_s = number / raw.rate_hz if raw.rate_hz else now - start_s
            picture = np.frombuffer(data, np.uint8).reshape(raw.height, raw.width, 3)
            yield LiveFrame(number, time_s, picture)
            number += 1

    def _read_frame(self, number: int, stopped: Stopped) -> bytearray | None:
        """Bytes of one frame; None at the end or when stopped."""
        size, data = 3 * self.raw.width * self.raw.height, bytearray()
        while len(data) < size:
            if stopped():
                return None
            # Polls, as a blocking read on a silent pipe could not be stopped.
            if not select.select([self._descriptor], [], [], POLL_S)[0]:
                continue
            part = os.read(self._descriptor, size - len(data))
            if not part and not data:
                return None
            if not part:
                raise UnreadableVideoError(
                    f"{self.name} ended in the middle of frame {number}: {len(data)} of its "
                    f"{size} bytes arrived. A frame has {self.raw.width} x {self.raw.height} x 3."
                )
            data += part
        return data

    def close(self) -> None:
        """Does nothing: the pipe belongs to its creator."""
