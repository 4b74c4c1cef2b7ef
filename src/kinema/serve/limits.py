"""What the service accepts at most, and what it answers when that is exceeded."""

from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from kinema.decoders.jobs import FailureName, VideoLimits
from kinema.errors import KinemaError

MIB = 1 << 20

# How long a client is asked to wait before it tries again, in seconds.
RETRY_AFTER_S = 2


class Limits(BaseModel):
    """The limits of one service."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    upload_bytes: int = Field(default=256 * MIB, ge=1, description="Bytes of a request.")
    duration_s: float = Field(default=600.0, gt=0, description="Length of a video to predict.")
    frames: int = Field(default=100_000, ge=1, description="Frames of a video to predict.")
    pixels: int = Field(default=4096 * 2304, ge=1, description="Width times height of a frame.")
    views: int = Field(default=60, ge=1, description="Clips times crops of a request.")
    timeline_bytes: int = Field(
        default=4096 * MIB, ge=1, description="Bytes of a timeline's video."
    )
    timeline_duration_s: float = Field(default=6 * 3600.0, gt=0, description="Its length.")
    timeline_frames: int = Field(default=2_000_000, ge=1, description="Its frames.")
    timeline_windows: int = Field(default=20_000, ge=1, description="Windows of a timeline.")
    requests: int = Field(default=32, ge=1, description="Requests with a body at a time.")
    waiting: int = Field(default=16, ge=0, description="Requests that wait for a decoder.")
    upload_s: float = Field(default=300.0, gt=0, description="Time for a request's body to arrive.")
    request_s: float = Field(default=60.0, gt=0, description="Time from the body to the answer.")
    streams: int = Field(default=8, ge=0, description="Live streams at a time.")
    frame_bytes: int = Field(default=16 * MIB, ge=1, description="Bytes of one frame of a stream.")
    stream_idle_s: float = Field(
        default=60.0, gt=0, description="Time from frame to frame of a stream."
    )

    @property
    def video(self) -> VideoLimits:
        """Of a video to predict."""
        return VideoLimits(self.duration_s, self.frames, self.pixels)

    @property
    def timeline_video(self) -> VideoLimits:
        """Of a video for a timeline."""
        return VideoLimits(self.timeline_duration_s, self.timeline_frames, self.pixels)

    def check_frame(self, width: int, height: int, short_side_px: int) -> None:
        """Refuses a frame that has too many pixels, or gets them when its short side is resized.

        Raises:
            RefusedError: it has.
        """
        resized = round(short_side_px**2 * max(width, height) / min(width, height))
        if max(width * height, resized) > self.pixels:
            raise RefusedError(
                413,
                "too_many_pixels",
                f"A frame of {width} x {height} has {width * height} pixels, and {resized} with a "
                f"short side of {short_side_px}; the limit is {self.pixels}.",
            )


STATUS_OF_FAILURE: dict[FailureName, int] = {
    "unreadable": 422,
    "too_long": 413,
    "too_many_frames": 413,
    "too_many_pixels": 413,
    "too_many_windows": 413,
    "decoding_needs_memory": 422,
    "decoding_takes_long": 422,
    "decoder_crashed": 422,
    "decoder_lost": 503,
}


@dataclass(eq=False)  # errors are told apart by identity
class RefusedError(KinemaError):
    """A request that is not carried out.

    Attributes:
        status: HTTP status.
        code: One word for machines.
        message: A sentence for people.
        file: The file of the request that it is about.
        headers: For the answer.
    """

    status: int
    code: str
    message: str
    file: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message


def busy(code: str, message: str) -> RefusedError:
    """The service can do it later."""
    return RefusedError(503, code, message, headers={"Retry-After": str(RETRY_AFTER_S)})


class Places:
    """A number of places that may be taken at a time; for one thread, or an event loop.

    Args:
        most: How many.
        code: Word of the refusal when all are taken.
        message: Sentence of that refusal; `{most}` is the number.
    """

    def __init__(self, most: int, *, code: str, message: str) -> None:
        self.most = most
        self.taken = 0
        self._code = code
        self._message = message

    def __enter__(self) -> None:
        if self.taken >= self.most:
            raise busy(self._code, self._message.format(most=self.most))
        self.taken += 1

    def __exit__(self, *_: object) -> None:
        self.taken -= 1
