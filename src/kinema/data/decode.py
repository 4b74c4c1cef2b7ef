"""Video files to frames: exact frame numbers, decoding only what is needed.

A frame's number is its place in the order in which decoding the whole file yields frames. MP4/MOV
and Matroska/WebM tell from their packets where every frame is, so only the groups of pictures
that hold wanted frames are decoded; other containers seek to wrong places or may leave frames out
(MPEG-TS, MPEG-PS, GIF, AVI with B-frames), so they are decoded from the start up to the last
wanted frame.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import av
import numpy as np
import torch
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from kinema.data.folder import FrameFolder, checked_indices
from kinema.errors import UnreadableVideoError
from kinema.types import VideoInfo

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"}
    | {".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"}
)

# Containers whose packet times and keyframe flags can be trusted for seeking.
_INDEXED = frozenset({"mov", "mp4", "matroska", "webm"})

# An AVI packet this small says "nothing changed" and may give no frame.
_EMPTY_PACKET_BYTES = 16


class FrameSource(Protocol):
    """Frames by number from a video file or a folder."""

    @property
    def info(self) -> VideoInfo:
        """Facts about the video."""

    def read(self, frame_indices: Sequence[int] | NDArray[np.int64]) -> torch.Tensor:
        """The wanted frames: (n, 3, H, W) uint8 RGB, in the order of the indices."""

    def close(self) -> None:
        """Gives the file back."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def is_video_path(path: str | Path) -> bool:
    """Whether a file name ends like a video's."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def open_source(path: str | Path) -> FrameSource:
    """Opens a video file or a folder of frames.

    Raises:
        UnreadableVideoError: it does not exist or cannot be read; the message says why.
    """
    source = Path(path)
    if source.is_dir():
        return FrameFolder(source)
    if not source.exists():
        raise UnreadableVideoError(f"{source} does not exist.")
    return VideoFile(source)


@dataclass(frozen=True)
class _FrameIndex:
    """Presentation times of all frames and, when they can be sought, their keyframes."""

    frames: int
    pts: tuple[int, ...] = ()
    keyframe_pts: tuple[int, ...] = ()

    @property
    def seekable(self) -> bool:
        return bool(self.keyframe_pts)

    def group_of(self, pts: int) -> int:
        """The last keyframe that is shown no later than this frame."""
        return max(0, bisect_right(self.keyframe_pts, pts) - 1)


class _Packet(NamedTuple):
    """What one coded picture tells before it is decoded."""

    pts: int | None
    keyframe: bool
    discard: bool
    bytes: int


class VideoFile:
    """One video file.

    Opening it reads its packet index and decodes its first frame.

    Args:
        path: The file.

    Raises:
        UnreadableVideoError: empty, truncated, no video in it, or not decodable.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.stat().st_size == 0:
            raise UnreadableVideoError(f"{self.path} is empty (0 bytes).")
        self._container, self._stream = self._open()
        self._to_rgb = VideoReformatter()  # keeps its tables from frame to frame
        try:
            self._index = self._scan()
            self._restart()
            first = next(self._decoded(), None)
            if first is None:
                raise self._unreadable("it has a video stream, but no frame could be decoded")
            self._size = (first.width, first.height)
            self._quarter_turns = round(first.rotation / 90) % 4
            self.info = self._describe()
        except BaseException:
            self.close()
            raise

    def read(self, frame_indices: Sequence[int] | NDArray[np.int64]) -> torch.Tensor:
        """Decodes the wanted frames.

        Args:
            frame_indices: Frame numbers from 0, in any order, repeated if wanted.

        Returns:
            (n, 3, H, W) uint8 RGB with the display rotation applied, a view of (n, H, W, 3).

        Raises:
            OptionError: a number is outside of the video.
            UnreadableVideoError: a frame cannot be decoded; the message names it.
        """
        wanted = checked_indices(frame_indices, self.info)
        unique = sorted(set(wanted))
        pictures = self._planned(unique) if self._index.seekable else None
        if pictures is None:
            pictures = self._sequential(unique)
        stacked = np.stack([pictures[number] for number in wanted])
        return torch.from_numpy(stacked).permute(0, 3, 1, 2)

    def times_s(self, frame_indices: Sequence[int] | NDArray[np.int64]) -> list[float]:
        """When the frames are shown, in seconds from the first frame."""
        if not self._index.seekable:
            rate = self.info.rate_hz
            return [int(i) / rate if rate else 0.0 for i in frame_indices]
        scale = float(self._stream.time_base or 0)
        first = self._index.pts[0]
        return [(self._index.pts[int(i)] - first) * scale for i in frame_indices]

    def close(self) -> None:
        """Gives the file back."""
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self) -> tuple[InputContainer, VideoStream]:
        try:
            container = av.open(str(self.path), mode="r")
        except av.FFmpegError as error:
            raise self._unreadable(_reason(error)) from error
        if not container.streams.video:
            kinds = ", ".join(sorted({s.type for s in container.streams})) or "no"
            container.close()
            raise self._unreadable(f"it has no video stream (only {kinds} streams)")
        stream = container.streams.video[0]
        # Loaders run one process per core, so one thread per decoder costs least.
        stream.codec_context.thread_count = 1
        return container, stream

    def _restart(self) -> None:
        self._container.close()
        self._container, self._stream = self._open()

    def _scan(self) -> _FrameIndex:
        """Reads the packets without decoding them."""
        try:
            packets = [
                _Packet(p.pts, p.is_keyframe, p.is_discard, p.size)
                for p in self._container.demux(self._stream)
                if p.size
            ]
        except av.FFmpegError as error:
            raise self._unreadable(_reason(error)) from error
        names = set(self._container.format.name.split(","))
        if not packets:
            raise self._unreadable("its video stream is empty")
        if "mov" in names and len(packets) < self._stream.frames:
            raise self._unreadable(
                f"it is truncated: its header promises {self._stream.frames} frames, "
                f"{len(packets)} are in the file"
            )
        shown = sorted(p.pts for p in packets if p.pts is not None and not p.discard)
        keyframes = sorted(p.pts for p in packets if p.pts is not None and p.keyframe)
        unique = len(set(shown)) == len(shown) == sum(not p.discard for p in packets)
        if names & _INDEXED and unique and keyframes and shown:
            return _FrameIndex(len(shown), pts=tuple(shown), keyframe_pts=tuple(keyframes))
        plain_avi = "avi" in names and not self._stream.codec_context.has_b_frames
        if plain_avi and min(p.bytes for p in packets) > _EMPTY_PACKET_BYTES:
            return _FrameIndex(len(packets))
        self._restart()
        return _FrameIndex(sum(1 for _ in self._decoded()))

    def _describe(self) -> VideoInfo:
        width, height = self._size[:: -1 if self._quarter_turns % 2 else 1]
        frames = self._index.frames
        rate = float(self._stream.average_rate or self._stream.guessed_rate or 0)
        duration = frames / rate if rate else 0.0
        return VideoInfo(
            path=str(self.path),
            frames=frames,
            rate_hz=rate,
            duration_s=duration,
            width=width,
            height=height,
            rotation_deg=90 * self._quarter_turns,
            codec=self._stream.codec_context.name,
            container=self._container.format.name,
        )

    def _decoded(self) -> Iterator[VideoFrame]:
        """Frames from where the container stands."""
        try:
            yield from self._container.decode(self._stream)
        except av.EOFError:
            return

    def _planned(self, unique: list[int]) -> dict[int, NDArray[np.uint8]] | None:
        """Decodes only the groups that hold wanted frames; None when the index was wrong."""
        index, pictures = self._index, dict[int, NDArray[np.uint8]]()
        groups: dict[int, list[int]] = {}
        for number in unique:
            groups.setdefault(index.group_of(index.pts[number]), []).append(number)
        for group, numbers in groups.items():
            missing = {index.pts[number]: number for number in numbers}
            last = max(missing)
            try:
                self._container.seek(index.keyframe_pts[group], stream=self._stream)
                for frame in self._decoded():
                    if frame.pts in missing:
                        pictures[missing.pop(frame.pts)] = self._picture(frame)
                    if not missing or (frame.pts is not None and frame.pts > last):
                        break
            except av.FFmpegError:
                return None
            if missing:
                return None
        return pictures

    def _sequential(self, unique: list[int]) -> dict[int, NDArray[np.uint8]]:
        """Decodes from the start up to the last wanted frame."""
        self._restart()
        wanted, pictures = set(unique), dict[int, NDArray[np.uint8]]()
        count, reason = 0, "the file ends there"
        try:
            for number, frame in enumerate(self._decoded()):
                count = number + 1
                if number in wanted:
                    pictures[number] = self._picture(frame)
                if number >= unique[-1]:
                    break
        except av.FFmpegError as error:
            reason = _reason(error)
        for number in unique:
            if number not in pictures:
                raise self._unreadable(
                    f"frame {number} of {self._index.frames} cannot be decoded; "
                    f"only the first {count} frames can ({reason})"
                )
        return pictures

    def _picture(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """(H, W, 3) RGB of one size, rotated upright."""
        width, height = self._size
        rgb = self._to_rgb.reformat(frame, width, height, "rgb24", threads=1).to_ndarray()
        rgb = rgb.astype(np.uint8, copy=False)
        return np.rot90(rgb, self._quarter_turns) if self._quarter_turns else rgb

    def _unreadable(self, reason: str) -> UnreadableVideoError:
        return UnreadableVideoError(f"{self.path} cannot be read: {reason}.")


def _reason(error: Any) -> str:
    """FFmpeg's words for what went wrong, without the path."""
    text = str(getattr(error, "strerror", "") or error)
    if "Invalid data" in text:
        return "it is damaged or not a video (invalid data)"
    return text[:1].lower() + text[1:]
