"""Jobs for decoder processes, and the limits that hold for them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

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
    """Largest video that is decoded.

    Attributes:
        duration_s: Length.
        frames: Number of frames.
        pixels: Width times height of a frame.
    """

    duration_s: float
    frames: int
    pixels: int


@dataclass(frozen=True)
class DecoderCaps:
    """Resources of one decoder process.

    Attributes:
        memory_bytes: Address space on top of what the process has when it starts.
        cpu_s: CPU time from one message to the next; None for no limit.
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

    kind: ClassVar[str] = "clips"
    path: str
    preprocessing: Preprocessing
    clips: int
    crops: int
    limits: VideoLimits | None

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "ClipsJob":
        """Reads the result of `facts_of`."""
        return cls(**{**facts, **_nested(facts)})


@dataclass(frozen=True)
class PictureJob:
    """One JPEG or PNG image, sent along as bytes. Answer: (H, W, 3) uint8 RGB."""

    kind: ClassVar[str] = "picture"
    pixels: int

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "PictureJob":
        """Reads the result of `facts_of`."""
        return cls(**facts)


@dataclass(frozen=True)
class TimelineJob:
    """Frames of a timeline's grid.

    Answer: the grid, then runs of small frames (n, 3, h, w) uint8 in order.
    """

    kind: ClassVar[str] = "timeline"
    path: str
    preprocessing: Preprocessing
    window_s: float | None
    stride_s: float | None
    windows: int
    limits: VideoLimits

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "TimelineJob":
        """Reads the result of `facts_of`."""
        return cls(**{**facts, **_nested(facts)})


Job = ClipsJob | PictureJob | TimelineJob


def facts_of(job: Job) -> dict[str, Any]:
    """Converts a job to plain data for a message."""
    return {"kind": job.kind, **asdict(job)}


def _nested(facts: Mapping[str, Any]) -> dict[str, Any]:
    how = Preprocessing.from_dict(facts["preprocessing"], source="the job")
    limits = facts["limits"] and VideoLimits(**facts["limits"])
    return {"preprocessing": how, "limits": limits}
