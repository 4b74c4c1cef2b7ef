"""Decodes on a GPU with torchcodec: NVDEC decodes, and the frames stay in GPU memory.

PyAV still builds the frame index. Both decoders give the same frames only where seeking is exact
and samples have 8 bits; every other file is decoded with PyAV.
"""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kinema.errors import UnreadableVideoError, missing_extra
from kinema.system.files import find_path
from kinema.video.decode import FrameSource, VideoFile
from kinema.video.folder import FrameFolder, checked_indices
from kinema.video.index_cache import IndexCache


def open_on_device(
    path: str | Path, device: torch.device | str, *, index_cache: IndexCache | None = None
) -> FrameSource:
    """Opens a video for decoding on a device, where that gives the same frames.

    Args:
        path: See `open_source`.
        device: Such as "cuda" or "cuda:1"; "cpu" also decodes with torchcodec.
        index_cache: Cache of frame indices.

    Raises:
        MissingExtraError: torchcodec or its FFmpeg libraries are not installed.
        UnreadableVideoError: the video does not exist or cannot be read; the message says why.
    """
    path = find_path(Path(path))
    if os.path.isdir(path):  # unlike Path.is_dir, also for names that are too long
        return FrameFolder(path)
    return DeviceFile(path, device, index_cache=index_cache)


class DeviceFile(VideoFile):
    """A video file whose `read` decodes with torchcodec, where that gives the same frames.

    Raises:
        MissingExtraError: torchcodec or its FFmpeg libraries are not installed.
        UnreadableVideoError: the file cannot be read, or not by the device.
    """

    def __init__(
        self, path: str | Path, device: torch.device | str, *, index_cache: IndexCache | None = None
    ) -> None:
        super().__init__(path, index_cache=index_cache)
        self._device_decoder = None
        if self.exact_stream is not None:
            self._device_decoder = self._open_on(device)

    def _open_on(self, device: torch.device | str) -> Any:
        try:
            decoders = importlib.import_module("torchcodec.decoders")
        except (ImportError, RuntimeError) as error:  # without FFmpeg its libraries do not load
            self.close()
            raise missing_extra(
                "Decoding on a device",
                "torchcodec with FFmpeg's libraries",
                "nvdec",
                note=f" and install FFmpeg with your system's packages ({_first_line(error)})",
            ) from error
        try:
            return decoders.VideoDecoder(
                str(self.path),
                stream_index=self.exact_stream,
                dimension_order="NCHW",
                device=str(device),
                seek_mode="exact",
            )
        except (RuntimeError, ValueError) as error:
            self.close()
            raise UnreadableVideoError(
                f"{self.path} cannot be decoded on {device}: {_first_line(error)}"
            ) from error

    def read(self, frame_indices: Sequence[int] | NDArray[np.int64]) -> torch.Tensor:
        """See `FrameSource`; the frames are on the device if it decodes."""
        if self._device_decoder is None:
            return super().read(frame_indices)
        wanted = checked_indices(frame_indices, self.info)
        try:
            frames: torch.Tensor = self._device_decoder.get_frames_at(wanted).data
        except (RuntimeError, IndexError) as error:
            raise UnreadableVideoError(
                f"{self.path}: frames {wanted} cannot be decoded: {_first_line(error)}"
            ) from error
        return frames


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
