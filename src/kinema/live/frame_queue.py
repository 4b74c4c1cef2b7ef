"""Frames on their way from the thread that decodes them to the network, and which are dropped."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Literal

from kinema.live.live_source import POLL_S, LiveFrame, LiveSource, at_pace

DropName = Literal["oldest", "newest", "never"]
Wanted = Callable[[LiveFrame], bool]

# Frames that wait when none of them gives way to a newer one.
WAITING_FRAMES = 4


class FrameQueue:
    """Decodes a source in a thread; iterating gives its frames.

    Args:
        source: The frames; closed by the thread when it ends.
        drop: What happens to a frame that finds the queue full: it takes the place of the "oldest",
            so that the one frame that waits is the newest; it is dropped itself, "newest"; or
            "never", and the source has to wait.
        wanted: Chooses frames; others are neither handed on nor counted.
        paced: Whether every frame is held back until its time has come.

    Attributes:
        dropped: Frames that were wanted but found no place.
    """

    def __init__(
        self, source: LiveSource, *, drop: DropName, wanted: Wanted, paced: bool = False
    ) -> None:
        self.dropped = 0
        self._source = source
        self._drop = drop
        self._wanted = wanted
        self._paced = paced
        self._places = 1 if drop == "oldest" else WAITING_FRAMES
        self._waiting: deque[tuple[LiveFrame, float]] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._decode, name="kinema-decode", daemon=True)

    def __iter__(self) -> Iterator[tuple[LiveFrame, float]]:
        """The frames, with the moment (`time.perf_counter`) at which each was decoded.

        Raises:
            UnreadableVideoError: what the source raises, after the frames before it.
        """
        self._thread.start()
        try:
            while (item := self._next()) is not None:
                yield item
            if self._error is not None and not self._stopped:
                raise self._error
        finally:
            self.close()

    def stop(self) -> None:
        """Ends the frames; may be called in a signal handler, as it takes no lock."""
        self._stopped = True

    def close(self) -> None:
        """Ends the frames and waits for the thread, no longer than a timeout of the source."""
        self.stop()
        if self._thread.ident is None:  # never started
            self._source.close()
        else:
            self._thread.join()

    def _is_stopped(self) -> bool:
        return self._stopped

    def _next(self) -> tuple[LiveFrame, float] | None:
        with self._changed:
            while not self._waiting and not self._ended and not self._stopped:
                self._changed.wait(POLL_S)
            if self._stopped or not self._waiting:
                return None
            item = self._waiting.popleft()
            self._changed.notify_all()
            return item

    def _decode(self) -> None:
        try:
            frames = self._source.frames(self._is_stopped)
            with closing(self._source), closing(frames):
                for frame in at_pace(frames, self._is_stopped) if self._paced else frames:
                    if self._stopped:
                        break
                    if self._wanted(frame):
                        self._put(frame)
        except BaseException as error:  # raised again in the thread that reads
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _put(self, frame: LiveFrame) -> None:
        item = frame, time.perf_counter()
        with self._changed:
            while self._drop == "never" and len(self._waiting) == self._places:
                if self._stopped:
                    return
                self._changed.wait(POLL_S)
            if len(self._waiting) == self._places:
                self.dropped += 1
                if self._drop == "newest":
                    return
                self._waiting.popleft()
            self._waiting.append(item)
            self._changed.notify_all()
