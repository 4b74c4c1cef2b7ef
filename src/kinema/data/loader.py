"""Data loaders: worker processes, seeds, shards, and the policy for unreadable videos.

Letters: B clips, V views, T frames, H, W.
"""

import logging
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.utils.data import DataLoader

from kinema.data.dataset import ClipItem, TrainClips, VideoDataset, VideoViews, ViewBatch
from kinema.errors import OptionError, UnreadableVideoError, check_range
from kinema.values import Skipped, Views

_log = logging.getLogger(__name__)

Unreadable = Literal["error", "skip"]


@dataclass(frozen=True)
class TrainBatch:
    """Clips (B, T, 3, H, W), uint8, and labels (B,), int64; B is 0 if no video was readable."""

    clips_BTCHW: torch.Tensor
    labels_B: torch.Tensor


@dataclass
class ClipOrder:
    """Batch sampler: a permutation determined by (seed, epoch), divided among the processes.

    Drops an incomplete last batch, so every process takes the same number of steps. A data set
    smaller than a batch becomes one batch with repeated videos.
    """

    videos: int
    batch_size: int
    seed: int
    rank: int
    world: int
    epoch: int = 0
    skip_batches: int = 0

    @property
    def batches(self) -> int:
        """Batches per epoch and process."""
        return max(1, self.videos // (self.batch_size * self.world))

    def __len__(self) -> int:
        return self.batches - self.skip_batches

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        # Every process draws the same permutation, from seed and epoch alone, and takes its own
        # slices. No state has to be saved: a resumed run only skips the batches already done.
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.videos)
        wanted = self.batches * self.batch_size * self.world
        order = np.resize(order, wanted)  # cuts the remainder, or repeats a tiny data set
        for batch in range(self.skip_batches, self.batches):
            start = (batch * self.world + self.rank) * self.batch_size
            # The epoch travels with the index: persistent workers do not see a changed attribute.
            yield [(int(i), self.epoch) for i in order[start : start + self.batch_size]]


class _Loader:
    """Loader that applies the policy for unreadable videos."""

    def __init__(self, unreadable: Unreadable) -> None:
        self._unreadable = unreadable
        self._skipped: dict[str, Skipped] = {}

    @property
    def skipped(self) -> list[Skipped]:
        """Unreadable videos so far (policy "skip"), each once."""
        return list(self._skipped.values())

    def _skip(self, video: Skipped) -> None:
        # The policy is applied here: an error raised in a worker would carry its traceback.
        if self._unreadable == "error":
            raise UnreadableVideoError(
                f'{video.reason} To skip and count unreadable videos, set unreadable = "skip".'
            )
        self._skipped[video.path] = video


class TrainLoader(_Loader):
    """Training loader of a process; iterates over the batches of the epoch set by `set_epoch`.

    Args:
        clips: Training clips.
        batch_size: Clips per batch of this process.
        seed: Random seed of the order.
        workers: Decoding processes; 0 decodes in the calling process.
        rank: Rank of this process among `world`.
        world: Number of training processes.
        unreadable: "error" stops at an unreadable video and names it; "skip" drops it from its
            batch and lists it in `skipped`.

    Attributes:
        videos: Number of videos per epoch.
        wait_s: Seconds that the consumer waited for data since the last `set_epoch`.

    Raises:
        OptionError: batch size or data set is empty.
    """

    def __init__(
        self,
        clips: TrainClips,
        *,
        batch_size: int,
        seed: int,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        unreadable: Unreadable = "error",
    ) -> None:
        super().__init__(unreadable)
        check_range(at_least=1, batch_size=batch_size)
        if len(clips) == 0:
            raise OptionError(f"{clips.dataset.annotations.source} has no videos to train on.")
        self._order = ClipOrder(len(clips), batch_size, seed, rank, world)
        self._loader = DataLoader(
            clips,
            batch_sampler=self._order,
            num_workers=workers,
            collate_fn=_collated,
            persistent_workers=workers > 0,
            worker_init_fn=_start_worker,
        )
        self.videos = len(clips)
        self.wait_s = 0.0

    def set_epoch(self, epoch: int, *, skip_batches: int = 0) -> None:
        """Sets the epoch of the next iteration, skipping its first batches when resuming."""
        self._order.epoch = epoch
        self._order.skip_batches = skip_batches
        self.wait_s = 0.0

    def __len__(self) -> int:
        return self._order.batches

    def __iter__(self) -> Iterator[TrainBatch]:
        started = time.perf_counter()
        for batch, skipped in self._loader:
            for video in skipped:
                is_new = video.path not in self._skipped
                self._skip(video)
                if is_new:
                    _log.warning("%s It is left out.", video.reason)
            self.wait_s += time.perf_counter() - started
            yield batch
            started = time.perf_counter()


class ViewLoader(_Loader):
    """Iterates once over all views of the videos (or of `indices`), for tests."""

    def __init__(
        self,
        dataset: VideoDataset,
        views: Views,
        *,
        batch_views: int = 8,
        workers: int = 0,
        unreadable: Unreadable = "error",
        indices: list[int] | None = None,
    ) -> None:
        super().__init__(unreadable)
        check_range(at_least=1, batch_views=batch_views)
        self._batch_views = batch_views
        self._loader = DataLoader(
            VideoViews(dataset, views, indices=indices),
            batch_size=None,
            num_workers=workers,
            worker_init_fn=_start_worker,
        )

    def __iter__(self) -> Iterator[ViewBatch]:
        """Yields batches of consecutive views of the same size."""
        waiting: list[ViewBatch] = []
        for item in self._loader:
            if isinstance(item, Skipped):
                self._skip(item)
                continue
            # At full resolution sizes differ between videos, and a batch needs one size.
            if waiting and item.views_VTCHW.shape[1:] != waiting[0].views_VTCHW.shape[1:]:
                yield from self._batches(waiting)
                waiting = []
            waiting.append(item)
            if sum(len(w.views_VTCHW) for w in waiting) >= self._batch_views:
                yield from self._batches(waiting)
                waiting = []
        if waiting:
            yield from self._batches(waiting)

    def _batches(self, items: list[ViewBatch]) -> Iterator[ViewBatch]:
        views = torch.cat([item.views_VTCHW for item in items])
        indices = torch.cat([item.indices_V for item in items])
        for start in range(0, len(views), self._batch_views):
            stop = start + self._batch_views
            yield ViewBatch(views[start:stop], indices[start:stop])


def _collated(items: list[ClipItem | Skipped]) -> tuple[TrainBatch, list[Skipped]]:
    """Stacks clips in the worker: each tensor passed between processes costs a file descriptor."""
    readable = [item for item in items if isinstance(item, ClipItem)]
    skipped = [item for item in items if isinstance(item, Skipped)]
    labels_B = torch.tensor([item.label for item in readable], dtype=torch.int64)
    clips_BTCHW = torch.empty(0, 0, 3, 0, 0, dtype=torch.uint8)
    if readable:
        clips_BTCHW = torch.stack([item.frames_TCHW for item in readable])
    return TrainBatch(clips_BTCHW, labels_B), skipped


def _start_worker(_: int) -> None:
    """Sets one thread, and ignores Ctrl-C, which a terminal sends to all processes."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
