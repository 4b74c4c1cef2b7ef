"""Queue between the decoding thread and the network, with a rule for dropping frames."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Literal

from kinema.live.live_source import (
    BURST_S,
    POLL_S,
    SMALLEST_S,
    Frames,
    LiveFrame,
    LiveSource,
    Stopped,
    log_step,
    sleep_until,
)
from kinema.video.rising_times import RisingTimes

DropName = Literal["oldest", "newest", "never"]

# Queue length, except for drop="oldest", which keeps only the newest frame.
QUEUED_FRAMES = 4


class FrameQueue:
    """Decodes a source in a thread; iterating yields its frames.

    Args:
        source: The live source; closed by the thread when it ends.
        drop: Rule for a new frame when the queue is full. "oldest" replaces the waiting frame, so
            that the newest one waits; "newest" drops the new frame; "never" makes the source wait.
        select: Predicate that selects frames; others are skipped and do not count as dropped.
        paced: Holds every frame back until its time.

    Attributes:
        dropped: Selected frames that were dropped.
    """

    def __init__(
        self,
        source: LiveSource,
        *,
        drop: DropName,
        select: Callable[[LiveFrame], bool],
        paced: bool = False,
    ) -> None:
        self.dropped = 0
        self._source = source
        self._drop = drop
        self._select = select
        self._paced = paced
        self._capacity = 1 if drop == "oldest" else QUEUED_FRAMES
        self._queue: deque[tuple[LiveFrame, float]] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._decode, name="kinema-decode", daemon=True)

    def __iter__(self) -> Iterator[tuple[LiveFrame, float]]:
        """Yields frames with the moment (`time.perf_counter`) at which each was decoded.

        Raises:
            UnreadableVideoError: error of the source, raised after the frames before it.
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
        """Ends the iteration. Takes no lock, so signal handlers may call it."""
        self._stopped = True

    def close(self) -> None:
        """Ends the iteration and joins the thread, within the timeout of the source."""
        self.stop()
        if self._thread.ident is None:  # never started
            self._source.close()
        else:
            self._thread.join()

    def _is_stopped(self) -> bool:
        return self._stopped

    def _next(self) -> tuple[LiveFrame, float] | None:
        with self._changed:
            # Polls, as `stop` cannot notify without taking the lock.
            while not self._queue and not self._ended and not self._stopped:
                self._changed.wait(POLL_S)
            if self._stopped or not self._queue:
                return None
            item = self._queue.popleft()
            self._changed.notify_all()
            return item

    def _decode(self) -> None:
        """Body of the thread."""
        try:
            frames = self._source.frames(self._is_stopped)
            with closing(self._source), closing(frames):
                rising = _rising(frames, self._source)
                for frame in _paced(rising, self._is_stopped) if self._paced else rising:
                    if self._stopped:
                        break
                    if self._select(frame):
                        self._put(frame)
        except BaseException as error:  # raised again in the consuming thread
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _put(self, frame: LiveFrame) -> None:
        item = frame, time.perf_counter()
        with self._changed:
            while self._drop == "never" and len(self._queue) == self._capacity:
                if self._stopped:
                    return
                self._changed.wait(POLL_S)
            if len(self._queue) == self._capacity:
                self.dropped += 1
                if self._drop == "newest":
                    return
                self._queue.popleft()
            self._queue.append(item)
            self._changed.notify_all()


def _rising(frames: Frames, source: LiveSource) -> Frames:
    """Puts the times of a source that does not do so itself on one rising line."""
    line, came_s, was_logged = RisingTimes(smallest=SMALLEST_S), 0.0, False
    for number, frame in enumerate(frames):
        before_s, came_s = came_s, time.monotonic()
        most_s = came_s - before_s + BURST_S if source.is_live else math.inf
        if number == 0:
            line.begin(frame.time_s, at=frame.time_s)
            yield frame
            continue
        time_s = line.place(frame.time_s, most=most_s)
        if not was_logged and (line.steps or line.outliers):
            log_step(source.name)
            was_logged = True
        yield replace(
            frame,
            time_s=time_s,
            time_steps=frame.time_steps + line.steps,
            time_outliers=frame.time_outliers + line.outliers,
        )


def _paced(frames: Frames, stopped: Stopped) -> Frames:
    """Holds every frame back until its time."""
    start_s: float | None = None
    for frame in frames:
        if start_s is None:
            start_s = time.monotonic() - frame.time_s
        sleep_until(start_s + frame.time_s, stopped)
        yield frame
