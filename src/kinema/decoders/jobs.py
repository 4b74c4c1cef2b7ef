"""What a decoder process is asked to do, and within which limits."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from kinema.values import Preprocessing

# Why a file gave no frames. The first is the file's own fault, the next four are limits that it
# exceeds, and the last four are the ends of decoder processes.
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


@dataclass(frozen=True)
class VideoLimits:
    """What a video may have at most.

    Attributes:
        duration_s: Its length.
        frames: Its frames.
        pixels: Width times height of a frame.
    """

    duration_s: float
    frames: int
    pixels: int


@dataclass(frozen=True)
class DecoderCaps:
    """What a decoder process may use.

    Attributes:
        memory_bytes: Address space on top of what the process has when it starts.
        cpu_s: Processor time from one message to the next.
        open_files: Files at a time.
    """

    memory_bytes: int
    cpu_s: int
    open_files: int = 32


@dataclass(frozen=True)
class ClipsJob:
    """All views of one video.

    Answer: facts of the video, then for each clip its crops (X, T, 3, h, w) uint8, the frame
    numbers (T,) and their times in seconds (T,).
    """

    kind: ClassVar[str] = "clips"
    path: str
    preprocessing: Preprocessing
    clips: int
    crops: int
    limits: VideoLimits

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "ClipsJob":
        """Reads what `facts_of` wrote."""
        return cls(**{**facts, **_nested(facts)})


@dataclass(frozen=True)
class PictureJob:
    """One JPEG or PNG image, which follows as bytes. Answer: (H, W, 3) uint8 RGB."""

    kind: ClassVar[str] = "picture"
    pixels: int

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "PictureJob":
        """Reads what `facts_of` wrote."""
        return cls(**facts)


@dataclass(frozen=True)
class TimelineJob:
    """The frames of a timeline's grid.

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
        """Reads what `facts_of` wrote."""
        return cls(**{**facts, **_nested(facts)})


Job = ClipsJob | PictureJob | TimelineJob


def facts_of(job: Job) -> dict[str, Any]:
    """The plain form of a job, for a message."""
    return {"kind": job.kind, **asdict(job)}


def _nested(facts: Mapping[str, Any]) -> dict[str, Any]:
    how = Preprocessing.from_dict(facts["preprocessing"], source="the job")
    return {"preprocessing": how, "limits": VideoLimits(**facts["limits"])}
