"""Captioned frames, written to a video file or shown in a window."""

from contextlib import suppress
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from kinema.errors import MissingExtraError, OptionError, OutputError
from kinema.system.closing import Closing
from kinema.system.encoders import installed_encoder
from kinema.system.files import naming_write_errors
from kinema.system.fonts import fallback_font

# Encoders in order of preference.
ENCODERS = ("libx264", "mpeg4")
# Timestamps in milliseconds, as live frames arrive irregularly.
_TICK = Fraction(1, 1000)


class Canvas(Protocol):
    """Output for captioned frames."""

    def add(self, picture: NDArray[np.uint8], caption: str, *, time_s: float) -> bool:
        """Adds a picture (H, W, 3); returns False to end the stream."""

    def close(self) -> None:
        """Closes the output."""


def with_caption(picture: NDArray[np.uint8], caption: str) -> NDArray[np.uint8]:
    """Copies an RGB picture (H, W, 3) and draws lines of text on a dark bar at its top."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    size_px = max(9, image.height // 18)
    installed = fallback_font(caption)
    font = (
        ImageFont.truetype(installed.fname, size_px)
        if installed
        else ImageFont.load_default(size_px)
    )
    draw = ImageDraw.Draw(image, "RGBA")
    margin_px = size_px // 2
    box = draw.multiline_textbbox((margin_px, margin_px), caption, font=font)
    draw.rectangle((0, 0, image.width, box[3] + margin_px), fill=(0, 0, 0, 150))
    draw.multiline_text((margin_px, margin_px), caption, font=font, fill=(255, 255, 255))
    return np.asarray(image)


class CaptionedVideo(Closing):
    """Video file of captioned frames with their own timestamps.

    Args:
        path: The file; its suffix selects the container.

    Raises:
        OptionError: no container has this suffix, or it does not support the encoder.
        OutputError: it cannot be written, also at a later frame.
    """

    def __init__(self, path: str | Path) -> None:
        self._last_tick = -1
        self._path = Path(path)
        codec = installed_encoder(ENCODERS)
        try:
            with naming_write_errors(self._path):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = av.open(str(path), "w")
            self._stream = cast(VideoStream, self._file.add_stream(codec, rate=30))
        except ValueError as error:
            raise OptionError(
                f"{path}: no video container has this suffix and supports {codec}; use .mp4."
            ) from error

    def add(self, picture: NDArray[np.uint8], caption: str, *, time_s: float) -> bool:
        """See `Canvas`; all pictures are resized to the first."""
        frame = av.VideoFrame.from_ndarray(with_caption(picture, caption), format="rgb24")
        if self._last_tick < 0:
            stream, width, height = self._stream, frame.width, frame.height
            stream.width, stream.height, stream.pix_fmt = width // 2 * 2, height // 2 * 2, "yuv420p"
            stream.codec_context.time_base = _TICK
        frame = frame.reformat(self._stream.width, self._stream.height)
        # Encoders refuse equal timestamps: frames of the same millisecond get the next one.
        self._last_tick = max(self._last_tick + 1, round(time_s / _TICK))
        frame.pts, frame.time_base = self._last_tick, _TICK
        with naming_write_errors(self._path):
            self._file.mux(self._stream.encode(frame))
        return True

    def close(self) -> None:
        """Flushes the encoder and closes the file.

        Raises:
            OutputError: the rest cannot be written; the file is deleted if nothing in it plays.
        """
        try:
            with naming_write_errors(self._path):
                if self._last_tick >= 0:
                    self._file.mux(self._stream.encode())
                self._file.close()
        except OutputError:
            with suppress(av.FFmpegError):
                self._file.close()
            if not _plays(self._path):
                with suppress(OSError):  # on a read-only disk there is none
                    self._path.unlink()
            raise


def _plays(path: Path) -> bool:
    try:
        with av.open(str(path)) as file:
            return any(True for _ in file.decode(video=0))
    except (av.FFmpegError, IndexError):  # IndexError: no video in it
        return False


class Window:
    """Window of captioned frames; q or Esc ends the stream.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(self, title: str) -> None:
        try:
            self._cv2: Any = import_module("cv2")  # untyped
        except ImportError as error:
            raise MissingExtraError(
                "A window needs OpenCV, which is not installed: pip install opencv-python. A "
                "captioned video file needs no extra package: --write OUT.mp4."
            ) from error
        self._title = title

    def add(self, picture: NDArray[np.uint8], caption: str, *, time_s: float) -> bool:
        """See `Canvas`."""
        self._cv2.imshow(self._title, with_caption(picture, caption)[..., ::-1].copy())
        return self._cv2.waitKey(1) & 0xFF not in (ord("q"), 27)

    def close(self) -> None:
        """Closes the window."""
        self._cv2.destroyAllWindows()
