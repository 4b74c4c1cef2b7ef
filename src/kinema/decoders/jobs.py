"""Jobs for decoder processes, and the limits that hold for them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from kinema.values import Preprocessing

# Reasons why a file gave no frames. The first is a fault of the file, the next four are limits
# that it exceeds, and the last four are ends of decoder processes.
FailureName = Literal[
    "unreadable",
    "too_long",
    "too_many_frames",
    "too_many_pixels",
    "too_many_windows",
    "decoding_needs_memory",
    "decoding_takes_long",
    "decoder_crashed",
    "decoder_lost",
]
# Failures after which a decoder that still lives is replaced.
ENDING: tuple[FailureName, ...] = ("decoding_needs_memory", "decoder_crashed")


@dataclass(frozen=True)
class VideoLimits:
    """Largest video that is decoded; `pixels` is width times height of a frame."""

    duration_s: float
    frames: int
    pixels: int


@dataclass(frozen=True)
class DecoderCaps:
    """Resources of one decoder process.

    Attributes:
        memory_bytes: Address space on top of what the process has when it starts.
        cpu_s: CPU time of one job; None for no limit.
        open_files: Files open at a time.
    """

    memory_bytes: int
    cpu_s: int | None
    open_files: int = 32


@dataclass(frozen=True)
class ClipsJob:
    """All views of one video.

    Answer: facts of the video, then for each clip its crops (X, T, 3, h, w) uint8, the frame
    indices (T,) and their times in seconds (T,).

    Attributes:
        path: The video file or folder of frames.
        preprocessing: Preprocessing of the network.
        clips: Clips along the video.
        crops: Crops of each clip.
        limits: Limits of a stranger's video, which must also be in a self-contained container;
            None to accept whatever FFmpeg opens.
    """

    path: str
    preprocessing: Preprocessing
    clips: int
    crops: int
    limits: VideoLimits | None


@dataclass(frozen=True)
class PictureJob:
    """One JPEG or PNG image, sent along as bytes. Answer: (H, W, 3) uint8 RGB."""

    pixels: int


@dataclass(frozen=True)
class TimelineJob:
    """Frames of a timeline's grid.

    Answer: the grid, then runs of small frames (n, 3, h, w) uint8 in order.
    """

    path: str
    preprocessing: Preprocessing
    window_s: float | None
    stride_s: float | None
    windows: int
    limits: VideoLimits


Job = ClipsJob | PictureJob | TimelineJob


_KINDS: dict[str, Any] = {kind.__name__: kind for kind in get_args(Job)}


def facts_of(job: Job) -> dict[str, Any]:
    """Converts a job to plain data for a message."""
    return {"kind": type(job).__name__, **asdict(job)}


def job_of(facts: Mapping[str, Any]) -> Job:
    """Reads the result of `facts_of`."""
    values = dict(facts)
    kind = _KINDS[values.pop("kind")]
    if "preprocessing" in values:
        how, limits = values["preprocessing"], values["limits"]
        values["preprocessing"] = Preprocessing.from_dict(how, source="the job")
        values["limits"] = limits and VideoLimits(**limits)
    job: Job = kind(**values)
    return job
