"""Frames as they come: from a file, a camera, an RTSP or HTTP address, or raw bytes on stdin.

A source is read by one thread: that which asks for its frames.
"""

import os
import select
import time
from dataclasses import dataclass

import numpy as np

from kinema.errors import OptionError, UnreadableVideoError
from kinema.live.live_source import POLL_S, Frames, LiveFrame, LiveSource, Stopped
from kinema.live.remote import Connection, address, camera
from kinema.video.decode import VideoFile

STDIN = "-"


@dataclass(frozen=True)
class RawFormat:
    """Frames as plain bytes, (H, W, 3) RGB one after the other.

    Attributes:
        width: In pixels.
        height: In pixels.
        rate_hz: Frames per second; None takes the times at which they arrive.
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
    """Opens whatever a user calls a source.

    Args:
        source: A video file, the number of a camera, an RTSP or HTTP address, or "-" for raw
            frames on stdin.
        connection: How an address or camera is reached.
        raw: What comes on stdin.

    Raises:
        OptionError: the address has an unknown scheme, or `raw` is missing or not for this source.
        UnreadableVideoError: it cannot be opened; the message says why.
    """
    if (source == STDIN) != (raw is not None):
        raise OptionError(
            f"Raw frames come from stdin ({STDIN!r}) and need their size and rate, such as "
            f"--raw 640x480@25; got the source {source!r} and {'none' if raw is None else 'both'}."
        )
    how = connection or Connection()
    if raw is not None:
        return RawFrames(raw)
    if source.isdecimal():
        return camera(int(source), how)
    if "://" in source:
        return address(source, how)
    return FileFrames(source)


class FileFrames:
    """The frames of one video file, without a pace of their own.

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
            UnreadableVideoError: there are fewer frames than the file promises.
        """
        times = self._file.times_s(range(self._file.info.frames))
        for number, (picture, time_s) in enumerate(zip(self._file.in_order(), times, strict=False)):
            if stopped():
                return
            yield LiveFrame(number, time_s, picture)

    def close(self) -> None:
        """Gives the file back."""
        self._file.close()


class RawFrames:
    """Raw frames from a pipe.

    Args:
        form: Their size and rate.
        descriptor: Where they are read; stdin by default.
    """

    name = "stdin"
    is_live = False
    reconnects = 0

    def __init__(self, form: RawFormat, *, descriptor: int = 0) -> None:
        self.form = form
        self._descriptor = descriptor

    def frames(self, stopped: Stopped) -> Frames:
        """See `LiveSource`.

        Raises:
            UnreadableVideoError: the bytes end in the middle of a frame.
        """
        form, number, began = self.form, 0, 0.0
        while (data := self._bytes(3 * form.width * form.height, number, stopped)) is not None:
            now = time.monotonic()
            began = began if number else now
            time_s = number / form.rate_hz if form.rate_hz else now - began
            picture = np.frombuffer(data, np.uint8).reshape(form.height, form.width, 3)
            yield LiveFrame(number, time_s, picture)
            number += 1

    def _bytes(self, wanted: int, number: int, stopped: Stopped) -> bytearray | None:
        """The bytes of a frame; None at the end or when it is to stop."""
        data = bytearray()
        while len(data) < wanted:
            if stopped():
                return None
            if not select.select([self._descriptor], [], [], POLL_S)[0]:
                continue
            part = os.read(self._descriptor, wanted - len(data))
            if not part and not data:
                return None
            if not part:
                raise UnreadableVideoError(
                    f"{self.name} ended in the middle of frame {number}: {len(data)} of its "
                    f"{wanted} bytes came. A frame has {self.form.width} x {self.form.height} x 3."
                )
            data += part
        return data

    def close(self) -> None:
        """Does nothing: others opened it."""
