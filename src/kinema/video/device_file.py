"""Decodes on a GPU with torchcodec: NVDEC decodes, and the frames stay in GPU memory.

PyAV still builds the frame index. Both decoders give the same frames only where seeking is exact
and samples have 8 bits; every other file is decoded with PyAV.
"""

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kinema.errors import UnreadableVideoError, missing_extra
from kinema.system.closing import Closing
from kinema.values import VideoInfo
from kinema.video.decode import FrameSource, VideoFile, open_source
from kinema.video.folder import checked_indices
from kinema.video.index_cache import IndexCache


def open_on_device(
    path: str | Path, device: torch.device | str, *, index_cache: IndexCache | None = None
) -> FrameSource:
    """Opens a video for decoding on a device, where that gives the same frames.

    Args:
        path: A video file, or a folder of frames.
        device: Such as "cuda" or "cuda:1"; "cpu" also decodes with torchcodec.
        index_cache: Cache of frame indices.

    Raises:
        MissingExtraError: torchcodec or its FFmpeg libraries are not installed.
        UnreadableVideoError: the video does not exist or cannot be read; the message says why.
    """
    source = open_source(path, index_cache=index_cache)
    if not isinstance(source, VideoFile) or source.exact_stream is None:
        return source
    return DeviceFile(source, torch.device(device))


class DeviceFile(Closing):
    """A video file decoded with torchcodec.

    Args:
        file: The same file, opened by PyAV; closed together with this one.
        device: Device that decodes.

    Raises:
        MissingExtraError: torchcodec or its FFmpeg libraries are not installed.
        UnreadableVideoError: the device cannot decode this file.
    """

    def __init__(self, file: VideoFile, device: torch.device) -> None:
        try:
            decoders = importlib.import_module("torchcodec.decoders")
        except (ImportError, RuntimeError) as error:  # without FFmpeg its libraries do not load
            file.close()
            raise missing_extra(
                "Decoding on a device",
                "torchcodec with FFmpeg's libraries",
                "nvdec",
                note=f" and install FFmpeg with your system's packages ({_first_line(error)})",
            ) from error
        self._file = file
        try:
            self._decoder = decoders.VideoDecoder(
                str(file.path),
                stream_index=file.exact_stream,
                dimension_order="NCHW",
                device=str(device),
                seek_mode="exact",
            )
        except (RuntimeError, ValueError) as error:
            file.close()
            raise UnreadableVideoError(
                f"{file.path} cannot be decoded on {device}: {_first_line(error)}"
            ) from error

    @property
    def info(self) -> VideoInfo:
        """Facts about the video."""
        return self._file.info

    def read(self, frame_indices: Sequence[int] | NDArray[np.int64]) -> torch.Tensor:
        """See `FrameSource`; the frames are on the device."""
        wanted = checked_indices(frame_indices, self.info)
        try:
            frames: torch.Tensor = self._decoder.get_frames_at(wanted).data
        except (RuntimeError, IndexError) as error:
            raise UnreadableVideoError(
                f"{self._file.path}: frames {wanted} cannot be decoded: {_first_line(error)}"
            ) from error
        return frames

    def in_order(self) -> Iterator[NDArray[np.uint8]]:
        """See `FrameSource`; decoded with PyAV."""
        return self._file.in_order()

    def verify(self) -> None:
        """See `FrameSource`; decoded with PyAV."""
        self._file.verify()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
