"""Frozen dataclasses that travel between rooms; no model and no video code.

Letters: B clips, T frames, N = B*T, C channels, H, W, K classes.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
from annotated_types import Gt
from numpy.typing import NDArray

from kinema.errors import CheckpointError, OptionError, check_range, check_whole, did_you_mean
from kinema.notebook import bar, html_table, percent

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Recipes check this range; pydantic's own type would cost every program half a second to import.
PositiveInt = Annotated[int, Gt(0)]
SamplingName = Literal["segments", "dense", "interval", "shuffled_segments"]
SAMPLINGS: tuple[SamplingName, ...] = get_args(SamplingName)
ResizeName = Literal["pil", "opencv"]
AverageName = Literal["scores", "probs"]
ClipPlaces = Literal["even", "twice", "uniform"]  # of several clips in the segments of a video


def check_snippet(snippet: int) -> None:
    """Raises OptionError for a number of frames that has no center."""
    check_range(at_least=1, snippet=snippet)
    if snippet % 2 == 0:
        raise OptionError(f"snippet must be odd, so that its frames have a center, got {snippet}.")


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video file or frame folder.

    `frames` is the exact number of addressable frames and `duration_s` the time from the start of
    the first one to the end of the last one; `width` and `height` are in pixels after
    `rotation_deg` (counter-clockwise, a multiple of 90) has been applied. A `mirrored` video is
    stored with left and right swapped, which is undone before the rotation. Where the times of a
    file do not rise, they are joined: `time_steps` counts places where they start again, and
    `time_outliers` single frames that got another time.
    """

    path: str
    frames: int
    rate_hz: float
    duration_s: float
    width: int
    height: int
    rotation_deg: int
    codec: str
    container: str
    mirrored: bool = False
    time_steps: int = 0
    time_outliers: int = 0


@dataclass(frozen=True)
class Sample:
    """Row of an annotation file: a video (path relative to the root) and its label.

    `label` is None in test lists without labels. `start_frame` (0-based) and `frames` restrict
    the row to a part of the video; `frames` None means up to the end.
    """

    path: str
    label: int | None
    start_frame: int = 0
    frames: int | None = None


@dataclass(frozen=True)
class Annotations:
    """Rows of an annotation file, and the class names that labels refer to."""

    samples: tuple[Sample, ...]
    class_names: tuple[str, ...]
    source: str


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """Sampling and size of clips, and the mean over them, for every network.

    Attributes:
        sampling: "segments" takes a frame from each of T equal parts of the video (TSN), "dense"
            T evenly spaced frames from a window, "interval" the same with test clips that reach
            the last frame (SampleFrames of mmaction2), "shuffled_segments" segments in random
            order (a control for the use of order).
        window_frames: Length of the window in frames, for "dense" and "interval".
        short_side_px: Short side of the resized frames.
        crop_px: Side of the square crop.
        resize: "pil" resizes with antialiasing and rounds the long side down, as PIL and
            torchvision do; "opencv" without antialiasing, the long side rounded to the nearest
            pixel, as mmaction2 does with OpenCV.
        average: Mean over the views of a video: of "scores", before softmax, or of "probs"; then
            the scores of the video are the logarithms of the mean probabilities.
    """

    sampling: SamplingName = "segments"
    window_frames: PositiveInt = 64
    short_side_px: PositiveInt = 256
    crop_px: PositiveInt = 224
    resize: ResizeName = "pil"
    average: AverageName = "scores"

    @property
    def has_window(self) -> bool:
        """True if clips are consecutive parts of the video, with one spacing of their frames."""
        return self.sampling in ("dense", "interval")


@dataclass(frozen=True, kw_only=True)
class Preprocessing(ClipSettings):
    """Preprocessing of a network's clips, stored in every checkpoint and used by every task.

    Attributes:
        frames: T, frames of one clip.
        snippet: Neighboring frames of the video for each of the T, which is their center; 1 for
            all networks but those with a short-term branch (TDN: 5). A clip then has T * snippet
            frames.
        mean: Mean per RGB channel, for values in 0..1.
        std: Standard deviation per RGB channel, for values in 0..1.
    """

    frames: PositiveInt = 8
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    snippet: PositiveInt = 1

    def __post_init__(self) -> None:
        check_range(at_least=1, frames=self.frames)
        check_snippet(self.snippet)
        known = (SAMPLINGS, get_args(ResizeName), get_args(AverageName))
        for name, names in zip(("sampling", "resize", "average"), known, strict=True):
            if (value := getattr(self, name)) not in names:
                raise OptionError(
                    f"{name} must be one of {', '.join(names)}, got {value!r}. "
                    + did_you_mean(str(value), names)
                )
        if self.has_window and self.window_frames < self.frames:
            raise OptionError(
                f"window_frames ({self.window_frames}) must hold at least frames ({self.frames})."
            )
        if not 1 <= self.crop_px <= self.short_side_px:
            raise OptionError(
                f"crop_px ({self.crop_px}) must be between 1 and short_side_px "
                f"({self.short_side_px})."
            )
        if len(self.mean) != 3 or len(self.std) != 3:
            raise OptionError("mean and std need one number for each of the 3 RGB channels.")
        for mean, std in zip(self.mean, self.std, strict=True):
            check_range(mean=mean)
            check_range(above=0, std=std)

    @property
    def clip_frames(self) -> int:
        """Frames that are read for a clip: T * snippet."""
        return self.frames * self.snippet

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for config.json."""
        data = {"frames": self.frames} | asdict(self)
        # Left out where it is 1, so that earlier versions read the folders of other networks.
        return data if self.snippet > 1 else {k: v for k, v in data.items() if k != "snippet"}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, source: str) -> Self:
        """Reads the plain data of `to_dict`.

        Raises:
            CheckpointError: a key is unknown; the message names `source`.
        """
        known = {f.name for f in fields(cls)}
        for key in data:
            if key not in known:
                raise CheckpointError(
                    f"{source}: unknown preprocessing key {key!r}. " + did_you_mean(key, known)
                )
        values = dict(data)
        for key in ("mean", "std"):
            if key in values:
                values[key] = tuple(float(v) for v in values[key])
        return cls(**values)


@dataclass(frozen=True)
class Views:
    """Views of a video at test time: `clips` in time x `crops` in space.

    With `full_resolution` and one crop a view is the whole frame.

    Attributes:
        clips: Clips per video.
        crops: Crops per clip: 1 (center), 3 (along the long side) or 10 (corners and center, and
            their mirror images).
        full_resolution: Crops span the whole short side instead of `crop_px`.
        resize_px: Side to which square crops are finally resized; default: not resized.
        twice_sample: The two clips take the middle and the start of every segment, as
            `--twice_sample` of TSM's code, instead of interleaving evenly.
        uniform_sample: The clips spread from the first to the last frame of every segment, as
            `uniform-2` of TANet's code, instead of interleaving evenly.
    """

    clips: PositiveInt = 1
    crops: int = 1
    full_resolution: bool = False
    resize_px: PositiveInt | None = None
    twice_sample: bool = False
    uniform_sample: bool = False

    def __post_init__(self) -> None:
        check_whole(clips=self.clips)
        check_range(at_least=1, clips=self.clips, resize_px=self.resize_px)
        if self.crops not in (1, 3, 10):
            raise OptionError(f"crops must be 1, 3 or 10, got {self.crops}.")
        if self.resize_px is not None and self.full_resolution and self.crops == 1:
            raise OptionError("resize_px is for square crops, not for the whole frame.")
        if self.twice_sample and self.clips != 2:
            raise OptionError(f"twice_sample is for two clips, got clips={self.clips}.")
        if self.uniform_sample and self.clips == 1:
            raise OptionError("uniform_sample is for several clips, got clips=1.")
        if self.uniform_sample and self.twice_sample:
            raise OptionError("twice_sample and uniform_sample exclude each other.")

    @property
    def clip_places(self) -> ClipPlaces:
        """Places of the clips in the segments of a video."""
        return "twice" if self.twice_sample else "uniform" if self.uniform_sample else "even"

    @property
    def count(self) -> int:
        """Number of views of a video."""
        return self.clips * self.crops

    def side_px(self, how: ClipSettings) -> int | None:
        """Side of the square views in pixels; None for whole frames, whose sizes differ."""
        if self.full_resolution and self.crops == 1:
            return None
        return self.resize_px or (how.short_side_px if self.full_resolution else how.crop_px)


@dataclass(frozen=True)
class Skipped:
    """A video that could not be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class ClassProb:
    """A class with its probability (after softmax)."""

    label: int
    name: str
    prob: float

    def to_dict(self, *, digits: int | None = None) -> dict[str, Any]:
        """Returns the JSON form, the probability rounded to `digits` decimals."""
        prob = self.prob if digits is None else round(self.prob, digits)
        return {"label": self.label, "name": self.name, "prob": prob}


@dataclass(frozen=True)
class Prediction:
    """Most probable classes of a video, best first, and all scores before softmax."""

    path: str
    top: tuple[ClassProb, ...]
    scores: NDArray[np.float32]

    def _repr_html_(self) -> str:
        rows = [(entry.name, percent(entry.prob), bar(0, entry.prob)) for entry in self.top]
        return html_table(self.path, ("class", "probability", ""), rows)


@dataclass(frozen=True)
class ClassResult:
    """Accuracy of one class; `accuracy` is None for a class without videos."""

    label: int
    name: str
    videos: int
    correct: int

    @property
    def accuracy(self) -> float | None:
        """Fraction of the class's videos with the right top-1 class."""
        return self.correct / self.videos if self.videos else None


@dataclass(frozen=True)
class Report:
    """Result of a test protocol.

    `scores` (V, K) are mean scores before softmax of the V readable videos, in the order of
    `paths`; `labels` (V,) is -1 where the annotation has none. Accuracies are fractions in 0..1
    over the labeled videos, None if no video has a label. `confusion` (K, K) counts videos by
    (true class, predicted class).
    """

    top1: float | None
    top5: float | None
    mean_class: float | None
    views: Views
    skipped: tuple[Skipped, ...]
    per_class: tuple[ClassResult, ...]
    confusion: NDArray[np.int64]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    paths: tuple[str, ...]
    class_names: tuple[str, ...]

    @property
    def videos(self) -> int:
        """Number of scored videos."""
        return len(self.paths)

    def _repr_html_(self) -> str:
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        caption = (
            f"top-1 {percent(self.top1)}, top-5 {percent(self.top5)}, mean class "
            f"{percent(self.mean_class)} of {self.videos} videos{skipped}"
        )
        rows = [
            (c.name, f"{c.correct} of {c.videos}", percent(c.accuracy), bar(0, c.accuracy or 0))
            for c in self.per_class
        ]
        return html_table(caption, ("class", "correct", "accuracy", ""), rows)


@dataclass(frozen=True)
class WeightsReport:
    """Tensors of a network that a weight file filled.

    `copied` tensors come from the file, `derived` start from slices or inflations of its tensors,
    `new` keep their random initialization, `unused` are in the file but not in the network (such
    as another classifier).
    """

    source: str
    copied: tuple[str, ...]
    new: tuple[str, ...]
    unused: tuple[str, ...]
    derived: tuple[str, ...] = ()

    def __str__(self) -> str:
        counts = f"{len(self.copied)} tensors copied, {len(self.derived)} derived"
        return (
            f"{self.source}: {counts}, {len(self.new)} new{_some(self.new)}, "
            f"{len(self.unused)} unused{_some(self.unused)}"
        )


def _some(names: tuple[str, ...]) -> str:
    """Formats the first names in parentheses; empty without names."""
    return f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""


@dataclass(frozen=True)
class SiteCost:
    """Cost of a temporal module for one clip.

    Attributes:
        site: Name in the backbone.
        place: Stage, block and position, such as "res4.0 after_conv1"; empty for a part of the
            backbone itself.
        module: Class of the module.
        params: Parameters.
        macs: Multiply-accumulates.
    """

    site: str
    place: str
    module: str
    params: int
    macs: int


@dataclass(frozen=True)
class Reach:
    """Temporal receptive field of a network.

    Attributes:
        look_back: Past frames that a frame's scores depend on; None for the whole clip. Summed
            over the modules, as if they were in sequence.
        look_ahead: The same for future frames.
        frames_in_weights: True if the shape of a weight depends on the number of frames.
    """

    look_back: int | None
    look_ahead: int | None
    frames_in_weights: bool

    @property
    def receptive_field(self) -> int | None:
        """Number of frames that a frame's scores depend on; None for the whole clip."""
        if self.look_back is None or self.look_ahead is None:
            return None
        return self.look_back + 1 + self.look_ahead


@dataclass(frozen=True)
class VideoCost:
    """Multiply-accumulates (MACs) of the test of a video, in 10^9.

    Attributes:
        gmacs_per_view: GMACs of one view, the "GFLOPs" of the papers.
        views: Views of the video: clips x crops.
        gmacs: GMACs of all views.
    """

    gmacs_per_view: float
    views: int
    gmacs: float


@dataclass(frozen=True)
class Cost:
    """Parameters and multiply-accumulates (MACs) of one view of a network.

    Counts convolutions, linear layers and matrix products, as the papers do, for a clip of
    `frames` frames of `size_px` pixels.
    """

    params: int
    macs: int
    temporal_params: int
    temporal_macs: int
    frames: int
    size_px: int
    sites: tuple[SiteCost, ...] = ()

    def per_video(self, views: Views) -> VideoCost:
        """Cost of all views of a video."""
        return VideoCost(self.macs / 1e9, views.count, self.macs * views.count / 1e9)
