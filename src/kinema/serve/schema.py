"""Schemas of requests and answers, from which the OpenAPI document is generated."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

from kinema.errors import did_you_mean
from kinema.serve.limits import GUARDED
from kinema.serve.uploads import Video

_TOP = [
    {"label": 2, "name": "shaking hands", "prob": 0.81},
    {"label": 0, "name": "hugging", "prob": 0.12},
]
_SEGMENT = {"start_s": 1.25, "end_s": 7.5, "label": 2, "name": "shaking hands", "prob": 0.77}


# Binary data in an OpenAPI document; generators of clients make an upload of it.
_BINARY = {"type": "string", "format": "binary"}


def _example(**values: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [values]})


def _number(text: Any) -> Any:
    """Converts text of a form to a number, which a Literal of numbers does not do."""
    return int(text) if isinstance(text, str) and text.isdecimal() and len(text) < 9 else text


def _checked_file(given: Any) -> Any:
    if isinstance(given, str):
        raise PydanticCustomError("no_file", "Send it as a file, with a file name")
    return given


class _Asked(BaseModel):
    """Base of requests; a field that does not exist is an error."""

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


def describe_error(finding: Mapping[str, Any], fields: tuple[str | int, ...]) -> str:
    """Describes the first error of a request in a sentence.

    Args:
        finding: One of pydantic's errors.
        fields: Path of the field, without the part of the request (body, query).
    """
    if finding["type"] == "unknown_field":
        return str(finding["msg"])
    where = ".".join(map(str, fields)) or "the request"
    return f"{where}: {finding['msg']}."


class _FormSchema(GenerateJsonSchema):
    """Schema of a form, which cannot send null: clients would send the text "None"."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """The schema without null."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """The schema with its default, if that is a value."""
        if schema.get("default") is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)


def form_body(kind: type[BaseModel]) -> dict[str, Any]:
    """Describes a form for OpenAPI, by the name that `completed` adds."""
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    content = {"multipart/form-data": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


def text_of(kind: str) -> dict[str, Any]:
    """Describes an answer of text for OpenAPI, such as "text/plain"."""
    return {"content": {kind: {"schema": {"type": "string"}}}}


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """Adds the forms and the ways to send an API key to an OpenAPI document.

    A server without a key ignores it.
    """
    for form in (PredictForm, TimelineForm):
        document["components"]["schemas"][form.__name__] = form.model_json_schema(
            schema_generator=_FormSchema
        )
    document["components"]["securitySchemes"] = {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    for path, operations in document["paths"].items():
        for operation in operations.values() if path.startswith(GUARDED) else ():
            operation["security"] = [{"key": []}, {"bearer": []}, {}]
    return document


def raw_body() -> dict[str, Any]:
    """Describes a body of bytes for OpenAPI."""
    content = {"application/octet-stream": {"schema": _BINARY}}
    return {"requestBody": {"required": True, "content": content}}


class ErrorAnswer(BaseModel):
    """Reason why a request was refused or failed."""

    model_config = _example(
        error="unreadable",
        message="clip.mp4 cannot be read: it is damaged or not a video.",
        file="clip.mp4",
    )

    error: str = Field(description="Error code for programs.")
    message: str = Field(
        description="Sentence for people: what was expected, what came, how to fix it."
    )
    file: str | None = Field(default=None, description="File of the request that caused it.")


class ClassAnswer(BaseModel):
    """A class with its probability."""

    label: int
    name: str
    prob: float = Field(ge=0, le=1)


class ModelAnswer(BaseModel):
    """A model of this service."""

    model_config = _example(
        name="gestures", network="tsm_resnet18", classes=["left", "right"], frames=8, live=True
    )

    name: str = Field(description="Name for the field `model` of requests.")
    network: str
    classes: list[str]
    frames: int = Field(description="Frames per clip.")
    live: bool = Field(
        description="True if it supports live streams, which needs a causal network."
    )


class ModelsAnswer(BaseModel):
    """Models of this service; the first one is the default."""

    models: list[ModelAnswer]


ModelName = Annotated[
    str | None, Field(description="Model name from `/v1/models`; by default the first one.")
]


class Options(_Asked):
    """Options of a prediction."""

    model: ModelName = None
    clips: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="Clips over the length of the video, whose scores are averaged.",
    )
    crops: Annotated[Literal[1, 3, 10], BeforeValidator(_number)] = Field(
        default=1, description="Crops per clip."
    )
    top: int = Field(default=5, ge=1, le=100_000, description="Number of classes in the answer.")
    frames: bool = Field(
        default=False, description="True to return thumbnails of the frames that the network saw."
    )


class VideoForm(_Asked):
    """Base of forms with a video: either `file` or `path`."""

    file: Annotated[Video | None, WithJsonSchema(_BINARY), BeforeValidator(_checked_file)] = Field(
        default=None, description="Video file to upload."
    )
    path: str | None = Field(
        None,
        description="Video or folder of frames below the folder that the server allows, "
        "instead of `file`.",
        examples=["monday/clip.mp4"],
    )


class PredictForm(Options, VideoForm):
    """A video to predict: either `file` or `path`."""


class FramesQuery(Options):
    """Raw frames to predict: the body is (n, height, width, 3) bytes, RGB."""

    width: int = Field(ge=1, le=65536, examples=[320])
    height: int = Field(ge=1, le=65536, examples=[240])


class VideoAnswer(BaseModel):
    """Properties of the video."""

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
    image: str = Field(description="Thumbnail: JPEG as a data: URL.")


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
    seen: list[SeenFrame] = Field(description="Empty unless `frames` is true.")
    took_ms: float = Field(
        description="Milliseconds from the end of the request body to the answer."
    )


class TimelineForm(VideoForm):
    """A long video: either `file` or `path`."""

    model: ModelName = None
    window: Annotated[float, Field(gt=0, le=86400)] | None = Field(
        None, description="Window length in seconds; by default as in training, or 2.5."
    )
    stride: Annotated[float, Field(gt=0, le=86400)] | None = Field(
        None, description="Seconds from window to window; by default half a window."
    )
    smooth: int = Field(default=3, ge=1, le=9999, description="Odd number of windows to average.")
    enter: float = Field(
        default=0.5, ge=0, le=1, description="Probability at which a segment begins."
    )
    leave: float = Field(
        default=0.3, ge=0, le=1, description="Probability below which a segment ends."
    )
    min_length: float = Field(
        default=0.0,
        ge=0,
        le=86400,
        description="Shortest segment in seconds; shorter ones are dropped.",
    )
    background: list[str] = Field(
        default=[], description="Background classes, which make no segments."
    )
    top: int = Field(default=5, ge=1, le=20, description="Classes per window.")


class SegmentAnswer(BaseModel):
    """A segment of the video with one class."""

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
    """Timeline of a video; times are in seconds from the beginning of the file."""

    path: str
    duration_s: float
    window_s: float
    stride_s: float
    windows: list[WindowAnswer]
    segments: list[SegmentAnswer]
    error: str | None = Field(
        description="Place and reason if reading a damaged video stopped early."
    )


class JobAnswer(BaseModel):
    """State of a timeline job."""

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

    job: str = Field(description="Id for `/v1/timeline/{job}`.")
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    model: str
    file: str
    done: int = Field(description="Windows scored by now.")
    total: int = Field(description="Number of windows; 0 until it is known.")
    result: TimelineAnswer | None = None
    error: ErrorAnswer | None = None


class StreamStart(_Asked):
    """First message of a live stream, as JSON text; each further one is a frame, as bytes."""

    model: str | None = None
    format: Literal["image", "rgb24"] = "image"
    width: int | None = Field(default=None, ge=1, le=65536)
    height: int | None = Field(default=None, ge=1, le=65536)
    top: int = Field(default=5, ge=1, le=100_000)
    smooth_frames: int = Field(default=8, ge=1, le=10_000)
    enter: float = Field(default=0.6, ge=0, le=1)
    leave: float = Field(default=0.4, ge=0, le=1)
    api_key: str | None = None


class HealthAnswer(BaseModel):
    """State of the server."""

    model_config = _example(status="ready")

    status: Literal["alive", "ready", "starting", "stopping"]
