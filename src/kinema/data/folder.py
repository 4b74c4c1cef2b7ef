"""Folders of JPEG or PNG frames, read like a video."""

import re
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from kinema.errors import OptionError, UnreadableVideoError
from kinema.types import VideoInfo

FRAME_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


class FrameFolder:
    """A folder whose JPEG or PNG files are the frames of a video, in the order of their numbers.

    A folder does not tell its frame rate, so `info.rate_hz` and `info.duration_s` are 0.

    Args:
        path: The folder.

    Raises:
        UnreadableVideoError: there is no frame in it, or the first one cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        files = [f for f in self.path.iterdir() if f.suffix.lower() in FRAME_SUFFIXES]
        if not files:
            raise UnreadableVideoError(
                f"{self.path} holds no frames: expected files that end in "
                f"{', '.join(sorted(FRAME_SUFFIXES))}."
            )
        self._files = sorted(files, key=_natural)
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
        """Reads the wanted frames.

        Args:
            frame_indices: Frame numbers from 0, in any order, repeated if wanted.

        Returns:
            (n, 3, H, W) uint8 RGB, a view of (n, H, W, 3).

        Raises:
            OptionError: a number is outside of the folder.
            UnreadableVideoError: a file cannot be read or has another size than the first one.
        """
        wanted = checked_indices(frame_indices, self.info)
        pictures = {number: self._picture(number) for number in set(wanted)}
        size = (self.info.height, self.info.width, 3)
        for number, picture in pictures.items():
            if picture.shape != size:
                raise UnreadableVideoError(
                    f"{self._files[number]} is {picture.shape[1]}x{picture.shape[0]}, the first "
                    f"frame of the folder is {size[1]}x{size[0]}."
                )
        return torch.from_numpy(np.stack([pictures[n] for n in wanted])).permute(0, 3, 1, 2)

    def close(self) -> None:
        """Nothing is held open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _picture(self, number: int) -> NDArray[np.uint8]:
        file = self._files[number]
        try:
            with Image.open(file) as image:
                return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise UnreadableVideoError(f"{file} cannot be read as an image: {error}.") from error


def checked_indices(frame_indices: Sequence[int] | NDArray[np.int64], info: VideoInfo) -> list[int]:
    """Frame numbers as plain numbers.

    Raises:
        OptionError: one is outside of the video.
    """
    wanted = [int(i) for i in frame_indices]
    for number in wanted:
        if not 0 <= number < info.frames:
            raise OptionError(f"{info.path} has frames 0 to {info.frames - 1}, asked for {number}.")
    return wanted


def _natural(file: Path) -> tuple[list[tuple[bool, int, str]], str]:
    """Sorts img_2.jpg before img_10.jpg."""
    parts = re.split(r"(\d+)", file.stem)
    return [(p.isdigit(), int(p) if p.isdigit() else 0, p) for p in parts], file.name
