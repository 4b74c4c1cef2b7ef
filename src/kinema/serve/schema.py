"""What requests and answers look like; the OpenAPI document is made from it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import UploadFile
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from kinema.errors import did_you_mean

_TOP = [
    {"label": 2, "name": "shaking hands", "prob": 0.81},
    {"label": 0, "name": "hugging", "prob": 0.12},
]
_SEGMENT = {"start_s": 1.25, "end_s": 7.5, "label": 2, "name": "shaking hands", "prob": 0.77}


def _example(**values: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [values]})


def _number(text: Any) -> Any:
    """Forms hold text, and a choice of numbers takes numbers only."""
    return int(text) if isinstance(text, str) and text.isdecimal() else text


class _Asked(BaseModel):
    """What a client sends; a field that does not exist is an error, not left out."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _all_known(cls, given: Any) -> Any:
        for name in given if isinstance(given, Mapping) else ():
            if not name.isprintable():
                raise PydanticCustomError(
                    "unknown_field",
                    "The body is a file, not a form with a file in it: curl -F file=@video.mp4",
                )
            if name not in cls.model_fields:
                hint = did_you_mean(name, cls.model_fields)
                raise PydanticCustomError(
                    "unknown_field",
                    "There is no field {name}. {hint}",
                    {"name": repr(name), "hint": hint},
                )
        return given


def what_is_wrong(finding: Mapping[str, Any], fields: tuple[str | int, ...]) -> str:
    """A sentence about the first finding of a request.

    Args:
        finding: One of pydantic's errors.
        fields: Where it is, without the part of the request.
    """
    if finding["type"] == "unknown_field":
        return str(finding["msg"])
    where = ".".join(map(str, fields)) or "the request"
    return f"{where}: {finding['msg']}."


class ErrorAnswer(BaseModel):
    """Why a request was not carried out."""

    model_config = _example(
        error="unreadable",
        message="clip.mp4 cannot be read: it is damaged or not a video.",
        file="clip.mp4",
    )

    error: str = Field(description="One word for machines.")
    message: str = Field(description="What was wanted, what came, and how to mend it.")
    file: str | None = Field(default=None, description="The file that it is about.")


class ClassAnswer(BaseModel):
    """A class with its probability."""

    label: int
    name: str
    prob: float = Field(ge=0, le=1)


class ModelAnswer(BaseModel):
    """A network of this service."""

    model_config = _example(
        name="gestures", network="tsm_resnet18", classes=["left", "right"], frames=8, live=True
    )

    name: str = Field(description="What requests call it.")
    network: str
    classes: list[str]
    frames: int = Field(description="Frames of one clip.")
    live: bool = Field(description="Whether it can follow a live stream: it must be causal.")


class ModelsAnswer(BaseModel):
    """The networks of this service; the first one is the default."""

    models: list[ModelAnswer]


class Options(_Asked):
    """How a video is predicted."""

    model: str | None = Field(
        default=None, description="A name of `/v1/models`; the first by default."
    )
    clips: int = Field(default=1, ge=1, le=1000, description="Clips over the length of the video.")
    crops: Annotated[Literal[1, 3, 10], BeforeValidator(_number)] = Field(
        default=1, description="Crops of each clip."
    )
    top: int = Field(default=5, ge=1, le=100_000, description="Classes to name.")
    frames: bool = Field(
        default=False, description="Whether to send the frames that the network saw."
    )


class _Source(_Asked):
    file: UploadFile | None = Field(default=None, description="The video.")
    path: str | None = Field(
        None,
        description="A video or folder of frames below the folder that the server allows, instead "
        "of `file`.",
        examples=["monday/clip.mp4"],
    )


class PredictForm(Options, _Source):
    """A video to predict: either `file` or `path`."""


class FramesQuery(Options):
    """Raw frames to predict: the body is (n, height, width, 3) bytes, RGB."""

    width: int = Field(ge=1, le=65536, examples=[320])
    height: int = Field(ge=1, le=65536, examples=[240])


class VideoAnswer(BaseModel):
    """Facts about the video."""

    frames: int
    duration_s: float
    rate_hz: float
    width: int
    height: int
    codec: str


class SeenFrame(BaseModel):
    """A frame that the network saw."""

    clip: int
    frame: int
    time_s: float
    image: str = Field(description="A small JPEG as a data: address.")


class PredictAnswer(BaseModel):
    """The most probable classes, best first."""

    model_config = _example(
        model="gestures",
        file="clip.mp4",
        top=_TOP,
        video={
            **{"frames": 250, "duration_s": 10.0, "rate_hz": 25.0},
            **{"width": 340, "height": 256, "codec": "h264"},
        },
        seen=[],
        took_ms=84.2,
    )

    model: str
    file: str
    top: list[ClassAnswer]
    video: VideoAnswer
    seen: list[SeenFrame] = Field(description="Empty unless `frames` was asked for.")
    took_ms: float = Field(description="From the whole body to the answer.")


class TimelineForm(_Source):
    """A long video: either `file` or `path`."""

    model: str | None = Field(
        default=None, description="A name of `/v1/models`; the first by default."
    )
    window: Annotated[float, Field(gt=0, le=86400)] | None = Field(
        None, description="Seconds of one window; the training's window, or 2.5."
    )
    stride: Annotated[float, Field(gt=0, le=86400)] | None = Field(
        None, description="Seconds from window to window; half a window."
    )
    smooth: int = Field(default=3, ge=1, le=9999, description="Windows that are averaged; odd.")
    enter: float = Field(default=0.5, ge=0, le=1, description="Probability that begins a segment.")
    leave: float = Field(default=0.3, ge=0, le=1, description="Probability below which it ends.")
    min_length: float = Field(
        default=0.0, ge=0, le=86400, description="Seconds; shorter ones are left out."
    )
    background: list[str] = Field(default=[], description="Classes that mean that nothing happens.")
    top: int = Field(default=5, ge=1, le=20, description="Classes of each window.")


class SegmentAnswer(BaseModel):
    """A stretch of the video in which one class happens."""

    start_s: float
    end_s: float
    label: int
    name: str
    prob: float


class WindowAnswer(BaseModel):
    """A window and its most probable classes."""

    start_s: float
    end_s: float
    top: list[ClassAnswer]


class TimelineAnswer(BaseModel):
    """What happens when; times are seconds from the beginning of the file."""

    path: str
    duration_s: float
    window_s: float
    stride_s: float
    windows: list[WindowAnswer]
    segments: list[SegmentAnswer]
    error: str | None = Field(description="Where reading a damaged video stopped.")


class JobAnswer(BaseModel):
    """A timeline in the making."""

    model_config = _example(
        job="wQ3yNf0o3Xw8Yd2a",
        state="done",
        model="gestures",
        file="match.mp4",
        done=7,
        total=7,
        result={
            **{"path": "match.mp4", "duration_s": 10.0, "window_s": 2.5, "stride_s": 1.25},
            "windows": [{"start_s": 0.0, "end_s": 2.5, "top": _TOP}],
            **{"segments": [_SEGMENT], "error": None},
        },
        error=None,
    )

    job: str = Field(description="Ask for it at `/v1/timeline/{job}`.")
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    model: str
    file: str
    done: int = Field(description="Windows that are scored.")
    total: int = Field(description="Windows in all; 0 until it is known.")
    result: TimelineAnswer | None = None
    error: ErrorAnswer | None = None


class StreamStart(_Asked):
    """The first message of a live stream, as JSON text; every other one is one frame, as bytes."""

    model: str | None = None
    format: Literal["image", "rgb24"] = "image"
    width: int | None = Field(default=None, ge=1, le=65536)
    height: int | None = Field(default=None, ge=1, le=65536)
    top: int = Field(default=5, ge=1, le=100_000)
    smooth_frames: int = Field(default=8, ge=1, le=10_000)
    enter: float = Field(default=0.6, ge=0, le=1)
    leave: float = Field(default=0.4, ge=0, le=1)
    api_key: str | None = None


class StreamResult(BaseModel):
    """The answer to one frame of a live stream."""

    type: Literal["result"] = "result"
    frame: int
    time_s: float
    top: list[ClassAnswer]
    shown: ClassAnswer | None
    changed: bool
    latency_ms: float


class HealthAnswer(BaseModel):
    """Whether the process lives, or accepts work."""

    model_config = _example(status="ready")

    status: Literal["alive", "ready", "starting", "stopping"]
