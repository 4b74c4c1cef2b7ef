"""Reads the frames of a grid in order, resized and cropped, and prefetches them in a thread.

Letters: C channels, H, W.
"""

from collections import deque
from collections.abc import Generator, Iterator, Sequence
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
        """(3, H, W) uint8 RGB each, or (S, 3, H, W) with snippets of S frames."""


class GridFrames:
    """`SmallFrames` decoded in this process; they end where the video is damaged."""

    def __init__(self, source: VideoFile, grid: Grid, preprocessing: Preprocessing) -> None:
        self.count = 0
        self.error: str | None = None
        self._source = source
        self._grid = grid
        self._transform = ViewTransform(preprocessing, Views())
        self._snippet = preprocessing.snippet
        # Frames of the video that end the snippet of each frame of the grid: without neighbors, the
        # frames of the grid themselves. At the ends of the video a snippet keeps its length.
        last = source.info.frames - 1
        ends_G = np.maximum(grid.numbers_G + self._snippet // 2, self._snippet - 1)
        self._ends_G = np.minimum(ends_G, last)

    def __iter__(self) -> Iterator[torch.Tensor]:
        """See `SmallFrames`."""
        read, ends_G = 0, self._ends_G
        newest: deque[NDArray[np.uint8]] = deque(maxlen=self._snippet)
        try:
            for number, picture in enumerate(self._source.in_order()):
                read = number + 1
                newest.append(picture)
                # Low frame rates repeat a frame on the grid, high ones skip frames.
                times = int(np.searchsorted(ends_G, number, side="right")) - self.count
                if times > 0:
                    self.count += times
                    yield from repeat(self._small(newest), times)
        except UnreadableVideoError as error:
            stopped_s, end_s = self._grid.shown_s[read], self._grid.shown_s[-1]
            self.error = f"{error} Reading stopped at {stopped_s:.2f} s of {end_s:.2f} s."

    def _small(self, pictures: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """The picture, or all of a snippet; a video shorter than that repeats its last one."""
        missing = self._snippet - len(pictures)
        frames_SHWC = torch.from_numpy(np.stack([*pictures, *[pictures[-1]] * missing]))
        small_SCHW: torch.Tensor = self._transform(frames_SHWC.permute(0, 3, 1, 2))[0]
        return small_SCHW[0] if self._snippet == 1 else small_SCHW


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
