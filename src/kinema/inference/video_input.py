"""Videos in the forms that people have them: paths, addresses, bytes, open files, arrays, pictures.

Letters: n frames of a video, B videos, H, W.
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from kinema.errors import InputShapeError, InputTypeError, OptionError, UnreadableVideoError
from kinema.video.decode import open_source
from kinema.video.device_file import open_on_device
from kinema.video.folder import BAD_IMAGE, rgb_of
from kinema.video.remote import local_file, without_secrets
from kinema.video.temporary_copy import copied_file

Frames: TypeAlias = NDArray[Any] | torch.Tensor
# A single video of every form but arrays and lists of frames.
VideoFile: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]
Video: TypeAlias = VideoFile | Frames | Sequence[Image.Image | Frames]
ReadFrames = Callable[[NDArray[np.int64]], torch.Tensor]

_FORMS = (
    "Give a path, an address, bytes, a file object opened in binary mode, an array (n, H, W, 3) of "
    "uint8 or of floats from 0 to 1, a list of frames, or a list of videos"
)


@dataclass(frozen=True)
class OpenedVideo:
    """A video: its name in messages, its number of frames, and a reader (m,) -> (m, 3, H, W)."""

    name: str
    frames: int
    read: ReadFrames


def several_videos(given: object) -> Iterable[Any] | None:
    """The videos of a list, a batch (B, n, H, W, 3) or another iterable; None for one video.

    A list of frames is one video.

    Raises:
        InputShapeError: a batch holds no video.
    """
    if _is_file(given) or isinstance(given, Image.Image | Mapping | Set):
        return None
    if _is_array(given):
        array = given if isinstance(given, torch.Tensor) else np.asarray(given)
        if array.ndim == 5 and not len(array):
            raise InputShapeError(f"The batch {tuple(array.shape)} holds 0 videos.")
        names = array.ndim == 1 and isinstance(array, np.ndarray) and array.dtype.kind in "OUT"
        return list(array) if array.ndim == 5 or names else None
    if not isinstance(given, Iterable):
        return None
    if isinstance(given, list | tuple) and given and all(map(_is_picture, given)):
        return None
    return given


@contextmanager
def opened_video(given: object, *, decode_on: torch.device | str | None) -> Iterator[OpenedVideo]:
    """Opens one video of any form.

    Args:
        given: The video.
        decode_on: GPU that decodes files; None for the CPU.

    Raises:
        InputTypeError: it is no video; the message lists the forms.
        InputShapeError: frames in memory have another shape or type.
        OptionError: `decode_on` for frames, which are decoded already.
        UnreadableVideoError: it cannot be read; the message says why.
    """
    if not _is_file(given):
        if decode_on is not None:
            raise OptionError("decode_on is for files and addresses, not for frames in memory.")
        frames = _frames_of(given)
        read = reader_of(frames)
        yield OpenedVideo("frames in memory", len(frames), read)
        return
    with ExitStack() as stack:
        file: str | Path
        if isinstance(given, str | os.PathLike):
            path = given if isinstance(given, str | Path) else os.fsdecode(given)
            name, file = without_secrets(path), stack.enter_context(local_file(path))
        elif isinstance(given, bytes | bytearray | memoryview):
            name = "bytes in memory"
            file = stack.enter_context(copied_file(io.BytesIO(given), name))
        else:
            name = given.name if isinstance(getattr(given, "name", None), str) else "file object"
            file = stack.enter_context(copied_file(given, name))
        if decode_on is None:
            opened = open_source(file, threads=torch.get_num_threads())
        else:
            opened = open_on_device(file, decode_on)
        source = stack.enter_context(opened)
        yield OpenedVideo(name, source.info.frames, source.read)


def reader_of(frames: Frames) -> ReadFrames:
    """Returns a reader of frames in memory; copies only the requested frames.

    Raises:
        InputShapeError: they are not RGB frames (n, H, W, 3) or (n, 3, H, W), uint8 or float, or,
            when they are read, a float is not from 0 to 1.
    """
    shape = tuple(frames.shape)
    floats, storage = _is_float(frames), _storage_of(frames)
    known = not storage and (floats or frames.dtype in (torch.uint8, np.uint8))
    if not known or len(shape) != 4 or 3 not in (shape[1], shape[3]) or 0 in shape:
        picture = " One picture is not a video: give a list of frames." if len(shape) == 3 else ""
        raise InputShapeError(
            "A video in memory is RGB frames of shape (n, H, W, 3) or (n, 3, H, W), uint8 or "
            f"floats from 0 to 1, got {shape} {frames.dtype}{storage}.{picture}"
        )

    def read(chosen: NDArray[np.int64]) -> torch.Tensor:
        if isinstance(frames, torch.Tensor):
            picked = frames.detach()[torch.from_numpy(chosen)]
        else:
            few = frames[chosen]
            # PyTorch takes neither another byte order nor long doubles.
            picked = torch.from_numpy(few.astype(np.float64) if floats else few)
        if floats:
            picked = _bytes_of(picked)
        return picked.permute(0, 3, 1, 2) if shape[3] == 3 else picked

    return read


def one_array(frames: Iterable[Any]) -> Frames:
    """Stacks pictures and arrays of one size to (n, H, W, 3) or (n, 3, H, W).

    Raises:
        InputShapeError: their sizes differ.
        UnreadableVideoError: a picture is damaged.
    """
    try:
        return np.stack([_picture_array(frame) for frame in frames])
    except (TypeError, ValueError) as error:
        raise InputShapeError(
            f"A list of frames is expected to hold frames of one size: {error}."
        ) from error


def _frames_of(given: object) -> Frames:
    if isinstance(given, torch.Tensor):
        return given
    if isinstance(given, Image.Image):
        raise InputShapeError("One picture is not a video: give a list of frames.")
    if _is_array(given):
        return np.asarray(given)
    if isinstance(given, list | tuple) and given and all(map(_is_picture, given)):
        return one_array(given)
    raise InputTypeError(f"{_kind_of(given)} is not a video. {_FORMS}.")


def _is_file(given: object) -> TypeGuard[VideoFile]:
    """True for a path, address, bytes or file object."""
    if isinstance(given, type):
        return False
    is_path = isinstance(given, str | os.PathLike | bytes | bytearray | memoryview)
    return is_path or hasattr(given, "read")


def _is_array(given: object) -> bool:
    """True for a tensor, an array of numpy, or what numpy turns into one, such as a column."""
    return not isinstance(given, type) and (
        isinstance(given, torch.Tensor | np.ndarray | np.generic) or hasattr(given, "__array__")
    )


def _is_picture(item: object) -> bool:
    """True for a picture or an array of one frame."""
    if isinstance(item, Image.Image):
        return True
    return isinstance(item, torch.Tensor | np.ndarray) and item.ndim in (2, 3)


def _picture_array(frame: object) -> NDArray[Any]:
    if isinstance(frame, Image.Image):
        try:
            return rgb_of(frame)
        except BAD_IMAGE as error:
            raise UnreadableVideoError(f"A picture of the list cannot be read: {error}.") from error
    return frame.detach().cpu().numpy() if isinstance(frame, torch.Tensor) else np.asarray(frame)


def _is_float(frames: Frames) -> bool:
    if isinstance(frames, torch.Tensor):
        return frames.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    return frames.dtype.kind == "f"


def _storage_of(frames: Frames) -> str:
    """Says that a tensor is sparse or has no data."""
    if not isinstance(frames, torch.Tensor):
        return ""
    if frames.is_meta:
        return " on the meta device"
    return "" if frames.layout == torch.strided else f", {str(frames.layout)[6:]}"


def _bytes_of(floats: torch.Tensor) -> torch.Tensor:
    floats = floats.double()
    low, high = float(floats.min()), float(floats.max())
    if not (low >= 0 and high <= 1):  # also for nan
        raise InputShapeError(
            f"Frames of floats must be from 0 to 1, got {low:g} to {high:g}. Values from 0 to 255 "
            "are uint8; normalized clips go to the network itself, recognizer.net(clips)."
        )
    return (floats * 255).round().to(torch.uint8)


def _kind_of(given: object) -> str:
    return "None" if given is None else type(given).__name__
