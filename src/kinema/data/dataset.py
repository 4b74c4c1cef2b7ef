"""Data sets of training clips, and of the views of a test protocol.

Letters: T frames, V views, H, W.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from kinema.data.sampling import sampling_of
from kinema.data.transforms import Augmentation, TrainTransform, ViewTransform
from kinema.errors import AnnotationError, UnreadableVideoError
from kinema.system.files import find_path
from kinema.values import Annotations, Preprocessing, Sample, Skipped, Views
from kinema.video.decode import FrameSource, open_source
from kinema.video.index_cache import IndexCache

# Maximum number of views per item of `VideoViews`, unless a clip has more crops.
VIEWS_PER_ITEM = 6

ClipTransform = Callable[[torch.Tensor, int], tuple[torch.Tensor, int]]


@dataclass(frozen=True)
class VideoDataset:
    """Annotated videos below a root folder, with their preprocessing.

    Attributes:
        annotations: The rows.
        root: Folder that paths are relative to.
        preprocessing: Sampling and size of clips.
        index_cache: File that caches the frame index of every video, so that only the first
            opening is slow; "" for none; None for a hidden file in `root`, if it is writable. If
            others can write to it, one in the cache folder takes its place. It does not affect
            frames.
    """

    annotations: Annotations
    root: str | Path
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    index_cache: str | None = None

    def __post_init__(self) -> None:
        _ = self._cache  # reports a bad path here instead of in every worker

    def __len__(self) -> int:
        return len(self.annotations.samples)

    def path(self, index: int) -> Path:
        """Path of a row's video; accented letters may have other bytes on disk than in the row."""
        return find_path(Path(self.root) / self.annotations.samples[index].path)

    def open(self, index: int) -> FrameSource:
        """Opens the video of a row.

        Raises:
            OptionError: the path of the index cache is unusable.
            UnreadableVideoError: the video does not exist or cannot be read.
        """
        return open_source(self.path(index), index_cache=self._cache)

    @cached_property
    def _cache(self) -> IndexCache | None:
        return IndexCache.chosen(self.index_cache, Path(self.root))

    def with_preprocessing(self, preprocessing: Preprocessing) -> "VideoDataset":
        """Returns the same videos with another preprocessing."""
        return replace(self, preprocessing=preprocessing)


@dataclass(frozen=True)
class ClipItem:
    """Training clip (T, 3, H, W), uint8, and its label."""

    frames_TCHW: torch.Tensor
    label: int


@dataclass(frozen=True)
class ViewBatch:
    """Views (V, T, 3, H, W), uint8, of one size, and the rows (V,) of their videos."""

    views_VTCHW: torch.Tensor
    indices_V: torch.Tensor


class TrainClips(Dataset[ClipItem | Skipped]):
    """A random clip of every video, determined by (seed, epoch, index).

    Clips do not depend on the number of workers or on the order of access, so a resumed run sees
    the same clips as an uninterrupted one.

    Args:
        dataset: The videos; all must have a label.
        transform: Spatial and color augmentation; may change the label of mirrored directions.
        seed: Random seed of the run.
    """

    def __init__(self, dataset: VideoDataset, transform: ClipTransform, *, seed: int) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed
        self.sampling = sampling_of(dataset.preprocessing)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> ClipItem | Skipped:
        """Returns the clip of (index, epoch), or the reason that the video cannot be read."""
        index, epoch = key
        sample = self.dataset.annotations.samples[index]
        assert sample.label is not None, "training rows are checked to have labels"
        # One generator per clip: the draw depends neither on the worker nor on the order of access.
        rng = np.random.default_rng((self.seed, epoch, index))
        try:
            with self.dataset.open(index) as source:
                start, total = _extent(sample, source)
                frames = source.read(start + self.sampling.train(total, rng))
        except UnreadableVideoError as error:
            return Skipped(sample.path, str(error))
        # torchvision's transforms draw from the global generator: seed it for this clip and put it
        # back afterward, since without workers the training itself draws from it too.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**62)))
            clip, label = self.transform(frames, sample.label)
        return ClipItem(clip, label)


class ClipDataset(Dataset[tuple[torch.Tensor, int]]):
    """A clip (T, 3, H, W), uint8, and the label of every video, for a training loop of your own.

    Works alone and in a `DataLoader` with workers. All that is random comes from PyTorch's global
    generator, so `torch.manual_seed` repeats it.

    Args:
        videos: The videos, with sampling and sizes.
        train: True draws frames, crop and mirroring at random, as training does; False takes the
            middle clip and the center crop, as a test does.
        transform: Function of (frames (T, 3, H, W) uint8, label) that returns clip and label, in
            place of the crop; such as a `TrainTransform` with another augmentation, or a transform
            of `torchvision.transforms.v2`.

    Raises:
        AnnotationError: with `train`, a video has no label; without it, such a label is -1.

    Example:
        `DataLoader(ClipDataset(videos, train=True), batch_size=8, shuffle=True, num_workers=2)`
    """

    def __init__(
        self, videos: VideoDataset, *, train: bool, transform: ClipTransform | None = None
    ) -> None:
        self.videos = videos
        self.train = train
        rows, how = videos.annotations, videos.preprocessing
        for sample in rows.samples if train else ():
            if sample.label is None:
                raise AnnotationError(f"{rows.source}: {sample.path} has no label to train on.")
        self._sampling = sampling_of(how)
        self._transform = transform or (
            TrainTransform(how, Augmentation(), rows.class_names) if train else _CenterCrop(how)
        )

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Returns the clip and the label of a row.

        Raises:
            IndexError: there is no such row.
            UnreadableVideoError: the video cannot be read.
        """
        sample = self.videos.annotations.samples[index]
        with self.videos.open(index) as source:
            start, total = _extent(sample, source)
            if self.train:
                drawn = self._sampling.train(total, _generator())
            else:
                (drawn,) = self._sampling.test(total, 1)
            frames = source.read(start + drawn)
        return self._transform(frames, -1 if sample.label is None else sample.label)


class _CenterCrop:
    def __init__(self, preprocessing: Preprocessing) -> None:
        self._crop = ViewTransform(preprocessing, Views())

    def __call__(self, frames_TCHW: torch.Tensor, label: int) -> tuple[torch.Tensor, int]:
        return self._crop(frames_TCHW)[0], label


def _generator() -> np.random.Generator:
    """numpy's generator with a seed from PyTorch's global one."""
    return np.random.default_rng(int(torch.randint(2**62, ())))


class VideoViews(Dataset[ViewBatch | Skipped]):
    """Views of every video (or row of `indices`) in chunks of whole clips, for constant memory."""

    def __init__(
        self, dataset: VideoDataset, views: Views, *, indices: list[int] | None = None
    ) -> None:
        self.dataset = dataset
        self.views = views
        self.indices = list(range(len(dataset))) if indices is None else indices
        self.sampling = sampling_of(dataset.preprocessing, views)
        self.transform = ViewTransform(dataset.preprocessing, views)
        self.clips_per_item = max(1, VIEWS_PER_ITEM // views.crops)
        self.items_per_video = -(-views.clips // self.clips_per_item)

    def __len__(self) -> int:
        return len(self.indices) * self.items_per_video

    def __getitem__(self, item: int) -> ViewBatch | Skipped:
        # Items of one video are consecutive, so its views arrive together. A clip is never split,
        # since its crops share the decoded frames.
        position, chunk = divmod(item, self.items_per_video)
        index = self.indices[position]
        sample = self.dataset.annotations.samples[index]
        first = chunk * self.clips_per_item
        try:
            with self.dataset.open(index) as source:
                start, total = _extent(sample, source)
                clips = self.sampling.test(total, self.views.clips)
                chosen = start + clips[first : first + self.clips_per_item]
                frames = source.read(chosen.reshape(-1))
        except UnreadableVideoError as error:
            return Skipped(sample.path, str(error))
        clips_KTCHW = torch.unflatten(frames, 0, (len(chosen), -1))
        views_VTCHW = torch.cat([self.transform(clip) for clip in clips_KTCHW])
        return ViewBatch(views_VTCHW, torch.full((len(views_VTCHW),), index))


def _extent(sample: Sample, source: FrameSource) -> tuple[int, int]:
    """First frame and number of frames of a row within its video, which must have them."""
    available = source.info.frames
    total = available - sample.start_frame if sample.frames is None else sample.frames
    if total < 1 or sample.start_frame + total > available:
        raise UnreadableVideoError(
            f"{source.info.path} has {available} frames, but its annotation needs {total} frames "
            f"from frame {sample.start_frame} on."
        )
    return sample.start_frame, total
