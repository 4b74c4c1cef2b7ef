"""Reads the frames of a grid in order, resized and cropped, and prefetches them in a thread.

Letters: C channels, H, W.
"""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import repeat
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from kinema.data.transforms import ViewTransform
from kinema.errors import UnreadableVideoError
from kinema.timeline.grid import Grid
from kinema.values import Preprocessing, Views
from kinema.video.decode import VideoFile

Item = TypeVar("Item")


class SmallFrames(Protocol):
    """Frames of a grid in order, resized and cropped."""

    @property
    def count(self) -> int:
        """Number of grid frames read so far."""

    @property
    def error(self) -> str | None:
        """Reason and position at which reading stopped; None if it did not."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        """(3, H, W) uint8 RGB each."""


class GridFrames:
    """`SmallFrames` decoded in this process; they end where the video is damaged."""

    def __init__(self, source: VideoFile, grid: Grid, preprocessing: Preprocessing) -> None:
        self.count = 0
        self.error: str | None = None
        self._source = source
        self._grid = grid
        self._transform = ViewTransform(preprocessing, Views())

    def __iter__(self) -> Iterator[torch.Tensor]:
        """See `SmallFrames`."""
        read, numbers_G = 0, self._grid.numbers_G
        try:
            for number, picture in enumerate(self._source.in_order()):
                read = number + 1
                # Low frame rates repeat a frame on the grid, high ones skip frames.
                times = int(np.searchsorted(numbers_G, number, side="right")) - self.count
                if times > 0:
                    self.count += times
                    yield from repeat(self._small(picture), times)
        except UnreadableVideoError as error:
            stopped_s, end_s = self._grid.shown_s[read], self._grid.shown_s[-1]
            self.error = f"{error} Reading stopped at {stopped_s:.2f} s of {end_s:.2f} s."

    def _small(self, picture: NDArray[np.uint8]) -> torch.Tensor:
        frame_CHW = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)
        small_CHW: torch.Tensor = self._transform(frame_CHW.unsqueeze(0))[0, 0]
        return small_CHW


def prefetch(items: Iterator[Item], most: int) -> Generator[Item, None, None]:
    """Yields the same items, and prepares up to `most` of them ahead in another thread."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="decode")
    end = object()
    waiting: deque[Future[Item | object]] = deque()
    try:
        waiting.extend(pool.submit(next, items, end) for _ in range(most))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, items, end))
            yield item  # type: ignore[misc]  # mypy cannot distinguish the sentinel from an item
    finally:
        pool.shutdown(cancel_futures=True)
