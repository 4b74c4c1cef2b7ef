"""Pictures with a caption: into a video file or onto the screen."""

from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from kinema.errors import MissingExtraError, OptionError
from kinema.system.closing import Closing
from kinema.system.files import naming_write_errors
from kinema.system.fonts import fallback_font

# Encoders in order of preference; the second is part of every FFmpeg build.
ENCODERS = ("libx264", "mpeg4")
# Times are kept in milliseconds: live frames come irregularly.
_TICK = Fraction(1, 1000)


class Canvas(Protocol):
    """Where captioned pictures go."""

    def add(self, picture: NDArray[np.uint8], caption: str, *, time_s: float) -> bool:
        """Takes a picture (H, W, 3); returns whether more are wanted."""

    def close(self) -> None:
        """Ends it."""


def with_caption(picture: NDArray[np.uint8], caption: str) -> NDArray[np.uint8]:
    """A copy of an RGB picture (H, W, 3) with lines of text on a dark bar at its top."""
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
    """A video file of captioned pictures, at their own times.

    Args:
        path: The file; its suffix chooses the container.

    Raises:
        OptionError: there is no container of this suffix, or the encoders do not go into it.
        OutputError: the folder cannot be made.
    """

    def __init__(self, path: str | Path) -> None:
        self._last_tick = -1
        with naming_write_errors(Path(path)):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        codec = next(name for name in ENCODERS if name in av.codecs_available)
        try:
            self._file = av.open(str(path), "w")
            self._stream = cast(VideoStream, self._file.add_stream(codec, rate=30))
        except ValueError as error:
            raise OptionError(
                f"{path}: no video container has this suffix and takes {codec}, take .mp4."
            ) from error

    def add(self, picture: NDArray[np.uint8], caption: str, *, time_s: float) -> bool:
        """See `Canvas`; all pictures get the size of the first."""
        frame = av.VideoFrame.from_ndarray(with_caption(picture, caption), format="rgb24")
        if self._last_tick < 0:
            self._begin(frame.width, frame.height)
        frame = frame.reformat(self._stream.width, self._stream.height)
        self._last_tick = max(self._last_tick + 1, round(time_s / _TICK))
        frame.pts, frame.time_base = self._last_tick, _TICK
        self._file.mux(self._stream.encode(frame))
        return True

    def close(self) -> None:
        """Writes what is left."""
        if self._last_tick >= 0:
            self._file.mux(self._stream.encode())
        self._file.close()

    def _begin(self, width: int, height: int) -> None:
        stream = self._stream
        stream.width, stream.height, stream.pix_fmt = width // 2 * 2, height // 2 * 2, "yuv420p"
        stream.codec_context.time_base = _TICK


class Window:
    """A window of captioned pictures, closed with q or Esc.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(self, title: str) -> None:
        self._cv2 = _opencv()
        self._title = title

    def add(self, picture: NDArray[np.uint8], caption: str, *, time_s: float) -> bool:
        """See `Canvas`."""
        self._cv2.imshow(self._title, with_caption(picture, caption)[..., ::-1].copy())
        return self._cv2.waitKey(1) & 0xFF not in (ord("q"), 27)

    def close(self) -> None:
        """Takes the window from the screen."""
        self._cv2.destroyAllWindows()


def _opencv() -> Any:
    try:
        cv2 = import_module("cv2")  # untyped
    except ImportError as error:
        raise MissingExtraError(
            "A window needs OpenCV, which is not installed: pip install opencv-python. A captioned "
            "video file needs nothing more: --write OUT.mp4."
        ) from error
    return cv2
