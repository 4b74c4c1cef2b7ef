"""Folders of JPEG or PNG frames, read like video files."""

import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from kinema.errors import OptionError, UnreadableVideoError
from kinema.system.closing import Closing
from kinema.system.files import near_path
from kinema.values import VideoInfo
from kinema.video.frame_names import frame_order

FRAME_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
# Errors of Pillow for damaged files; struct.error comes from their EXIF data.
BAD_IMAGE = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)


class FrameFolder(Closing):
    """A folder whose JPEG or PNG files are the frames of a video, in the order of their numbers.

    Optical flow, depth, masks, thumbnails and hidden files beside them are left out, see
    `kinema.video.frame_names`. A folder has no frame rate, so `info.rate_hz` and
    `info.duration_s` are 0.

    Raises:
        UnreadableVideoError: it does not exist, holds no frames, its names do not say which
            pictures are the frames, or the first frame cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._files = _frame_files(self.path)
        height, width, _ = self._picture(0).shape
        self.info = VideoInfo(
            path=str(self.path),
            frames=len(self._files),
            rate_hz=0.0,
            duration_s=0.0,
            width=width,
            height=height,
            rotation_deg=0,
            codec=self._files[0].suffix.lower().lstrip("."),
            container="folder",
        )

    def read(self, frame_indices: Sequence[int] | NDArray[np.int64]) -> torch.Tensor:
        """See `FrameSource`."""
        return read_distinct(frame_indices, self.info, self._pictures)

    def in_order(self) -> Iterator[NDArray[np.uint8]]:
        """See `FrameSource`."""
        for number in range(self.info.frames):
            yield self._picture_of_size(number)

    def verify(self) -> None:
        """See `FrameSource`."""
        for _ in self.in_order():
            pass

    def close(self) -> None:
        """Does nothing: no file stays open."""

    def _pictures(self, numbers: list[int]) -> NDArray[np.uint8]:
        pictures = np.empty((len(numbers), self.info.height, self.info.width, 3), np.uint8)
        for row, number in enumerate(numbers):
            pictures[row] = self._picture_of_size(number)
        return pictures

    def _picture_of_size(self, number: int) -> NDArray[np.uint8]:
        picture = self._picture(number)
        height, width, _ = picture.shape
        if (height, width) != (self.info.height, self.info.width):
            raise UnreadableVideoError(
                f"{self._files[number]} is {width}x{height}, the first frame of the folder is "
                f"{self.info.width}x{self.info.height}."
            )
        return picture

    def _picture(self, number: int) -> NDArray[np.uint8]:
        file = self._files[number]
        try:
            with Image.open(file) as image:
                return rgb_of(image)
        except BAD_IMAGE as error:
            raise UnreadableVideoError(f"{file} cannot be read as an image: {error}.") from error


def is_frame(file: Path) -> bool:
    """True for file names with a frame suffix, but not for hidden files."""
    return file.suffix.lower() in FRAME_SUFFIXES and not file.name.startswith(".")


def _frame_files(folder: Path) -> list[Path]:
    """Frame files of a folder in their order."""
    try:
        files = [file for file in folder.iterdir() if is_frame(file)]
    except FileNotFoundError:
        raise UnreadableVideoError(f"{folder} does not exist.{near_path(folder)}") from None
    except OSError as error:
        raise UnreadableVideoError(f"{folder} cannot be read: {error.strerror}.") from error
    if not files:
        raise UnreadableVideoError(
            f"{folder} holds no frames: expected file names ending in "
            f"{', '.join(sorted(FRAME_SUFFIXES))}."
        )
    return [folder / name for name in frame_order(folder, (file.name for file in files))]


def rgb_of(image: Image.Image) -> NDArray[np.uint8]:
    """Converts an image of any mode to (H, W, 3), upright by its EXIF data.

    Damaged images raise one of `BAD_IMAGE`.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # Pillow's own conversion would clip to 8 bits
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == "P":
        image = image.convert("RGBA")  # a palette may hold transparency
    return np.asarray(image.convert("RGB"))


def checked_indices(frame_indices: Sequence[int] | NDArray[np.int64], info: VideoInfo) -> list[int]:
    """Converts frame numbers to plain integers.

    Raises:
        OptionError: a number is outside of the video.
    """
    wanted = [int(i) for i in frame_indices]
    for number in wanted:
        if not 0 <= number < info.frames:
            raise OptionError(f"{info.path} has frames 0 to {info.frames - 1}, asked for {number}.")
    return wanted


def read_distinct(
    frame_indices: Sequence[int] | NDArray[np.int64],
    info: VideoInfo,
    decode: Callable[[list[int]], NDArray[np.uint8]],
) -> torch.Tensor:
    """Implements `FrameSource.read`: decodes every wanted frame once.

    `decode` makes (n, H, W, 3) of n ascending frame numbers; the result is a view (n, 3, H, W).
    """
    wanted = checked_indices(frame_indices, info)
    unique, places = np.unique(wanted, return_inverse=True)
    frames = torch.from_numpy(decode(unique.tolist()))
    if wanted != unique.tolist():
        frames = frames[places]
    return frames.permute(0, 3, 1, 2)
