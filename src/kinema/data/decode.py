"""Video files to frames: exact frame numbers, decoding only what is needed.

A frame's number is its place in the order in which decoding the whole file yields frames. MP4/MOV
and Matroska/WebM tell from their packets where every frame is, so only the groups of pictures
that hold wanted frames are decoded; other containers seek to wrong places or may leave frames out
(MPEG-TS, MPEG-PS, GIF, AVI with B-frames), and so may files that begin in the middle of a group,
so these are decoded from the start up to the last wanted frame.
"""

import os
import stat
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import av
import numpy as np
import torch
from av.codec import CodecContext
from av.container import InputContainer
from av.stream import Disposition
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

# What FFmpeg also opens: text as a drawing, and single images with names such as "png_pipe".
_NO_VIDEO = ("image2", "tty", "_pipe")

# An AVI packet this small says "nothing changed" and may give no frame.
_EMPTY_PACKET_BYTES = 16


_Item = TypeVar("_Item")


class FrameSource(Protocol):
    """Frames by number from a video file or a folder."""

    @property
    def info(self) -> VideoInfo:
        """Facts about the video."""

    def read(self, frame_indices: Sequence[int] | NDArray[np.int64]) -> torch.Tensor:
        """The wanted frames: (n, 3, H, W) uint8 RGB, in the order of the indices."""

    def verify(self) -> None:
        """Decodes every frame and keeps none; raises UnreadableVideoError if one is missing."""

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
    if os.path.isdir(path):
        return FrameFolder(path)
    return VideoFile(path)


@dataclass(frozen=True)
class _FrameIndex:
    """Number of frames, their times if all are known, and keyframes if they can be sought."""

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
        self._bytes = _file_bytes(self.path)
        self._container, self._stream = self._open()
        self._to_rgb = VideoReformatter()  # keeps its tables from frame to frame
        try:
            self._index = self._scan()
            first = self._first_frame()
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
        frames = torch.from_numpy(self._sequential(unique) if pictures is None else pictures)
        if wanted != unique:
            frames = frames[[bisect_left(unique, number) for number in wanted]]
        return frames.permute(0, 3, 1, 2)

    def times_s(self, frame_indices: Sequence[int] | NDArray[np.int64]) -> list[float]:
        """When the frames are shown, in seconds from the first frame.

        Where a file does not tell the times, they follow from its frame rate.

        Raises:
            OptionError: a number is outside of the video.
        """
        numbers, pts = checked_indices(frame_indices, self.info), self._index.pts
        if not pts:
            rate = self.info.rate_hz
            return [number / rate if rate else 0.0 for number in numbers]
        scale = float(self._stream.time_base or 0)
        return [(pts[number] - pts[0]) * scale for number in numbers]

    def verify(self) -> None:
        """Decodes every frame and keeps none.

        Raises:
            UnreadableVideoError: there are fewer frames than the file promises.
        """
        self._restart()
        count, reason = 0, "the others are lost or damaged"
        try:
            for _ in self._decoded():
                count += 1
        except av.FFmpegError as error:
            reason = _reason(error)
        if count < self.info.frames:
            raise self._unreadable(
                f"only {count} of its {self.info.frames} frames can be decoded ({reason})"
            )

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
        name = str(self.path.absolute())  # "a:b.mp4" alone would be taken for a URL
        try:
            try:
                container = av.open(name, mode="r")
            except UnicodeDecodeError:  # a title or comment that is not UTF-8
                container = av.open(name, mode="r", metadata_errors="replace")
        except av.FFmpegError as error:
            raise self._unreadable(_reason(error)) from error
        form = container.format.name
        moving = [
            stream
            for stream in container.streams.video
            if not stream.disposition & Disposition.attached_pic  # a cover image of a song
        ]
        if moving and not form.endswith(_NO_VIDEO):
            decoder: CodecContext | None = moving[0].codec_context  # PyAV's types hide the None
            if decoder is None:
                container.close()
                raise self._unreadable("there is no decoder for the codec of its video stream")
            # Loaders run one process per core, so one thread per decoder costs least.
            decoder.thread_count = 1
            return container, moving[0]
        kinds = ", ".join(sorted({s.type for s in container.streams if s.type != "video"})) or "no"
        container.close()
        if moving:
            raise self._unreadable(f"it is an image or text ({form}), not a video")
        raise self._unreadable(f"it has no video stream (only {kinds} streams)")

    def _restart(self) -> None:
        self._container.close()
        self._container, self._stream = self._open()

    def _scan(self) -> _FrameIndex:
        """Finds the frames by reading the packets, decoding only where these do not tell."""
        packets = self._packets()
        names = set(self._container.format.name.split(","))
        if "mov" in names:
            self._check_whole()
        shown = [p for p in packets if not p.discard]
        pts = sorted(p.pts for p in shown if p.pts is not None)
        timed = bool(pts) and len(set(pts)) == len(shown)
        if names & _INDEXED and timed and _begins_with_group(packets[0], pts[0]):
            keyframes = sorted(p.pts for p in packets if p.keyframe and p.pts is not None)
            return _FrameIndex(len(pts), tuple(pts), tuple(keyframes))
        plain_avi = "avi" in names and not self._stream.codec_context.has_b_frames
        if plain_avi and min(p.bytes for p in packets) > _EMPTY_PACKET_BYTES:
            return _FrameIndex(len(packets), tuple(pts) if timed else ())
        return self._count(len(shown))

    def _packets(self) -> list[_Packet]:
        try:
            packets = [
                _Packet(p.pts, p.is_keyframe, p.is_discard, p.size)
                for p in self._to_end(self._container.demux(self._stream))
                if p.size
            ]
        except av.FFmpegError as error:
            raise self._unreadable(_reason(error)) from error
        if not packets:
            raise self._unreadable("its video stream is empty")
        return packets

    def _check_whole(self) -> None:
        """Compares the places of the frames in the header of an MP4 or MOV with the file."""
        entries = self._stream.index_entries
        cut = sum(entry.pos + entry.size > self._bytes for entry in entries)
        if cut:
            raise self._unreadable(
                f"it is truncated: its header promises {len(entries)} frames, "
                f"{len(entries) - cut} are in the file"
            )

    def _count(self, promised: int) -> _FrameIndex:
        """Counts by decoding; of a damaged file it takes the number of its packets."""
        self._restart()
        times: list[int | None] = []
        frames = 0
        try:
            for frame in self._decoded():
                times.append(frame.pts)
        except av.FFmpegError:
            frames = promised
        frames = max(frames, len(times))
        known = tuple(t for t in times if t is not None)
        return _FrameIndex(frames, known if len(known) == frames else ())

    def _first_frame(self) -> VideoFrame:
        """Decodes it from the start; by seeking there, where that is safe, to open only once."""
        sought = False
        if self._index.seekable:
            with suppress(av.FFmpegError):
                self._container.seek(self._index.keyframe_pts[0], stream=self._stream)
                sought = True
        if not sought:
            self._restart()
        reason = "the stream holds none"
        try:
            for frame in self._decoded():
                return frame
        except av.FFmpegError as error:
            reason = _reason(error)
        raise self._unreadable(f"it has a video stream, but no frame could be decoded ({reason})")

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
        return self._to_end(self._container.decode(self._stream))

    @staticmethod
    def _to_end(items: Iterator[_Item]) -> Iterator[_Item]:
        try:
            yield from items
        except (av.EOFError, IndexError):
            # PyAV cannot flush a stream that appeared after the first packets: IndexError, at the
            # end of the file.
            return

    def _planned(self, unique: list[int]) -> NDArray[np.uint8] | None:
        """Decodes only the groups that hold wanted frames; None when the index was wrong."""
        index, pictures = self._index, self._buffer(len(unique))
        groups: dict[int, dict[int, int]] = {}
        for row, number in enumerate(unique):
            pts = index.pts[number]
            groups.setdefault(index.group_of(pts), {})[pts] = row
        for group, missing in groups.items():
            try:
                self._container.seek(index.keyframe_pts[group], stream=self._stream)
            except av.FFmpegError:
                return None
            self._take(missing, pictures)
            if missing:
                return None
        return pictures

    def _sequential(self, unique: list[int]) -> NDArray[np.uint8]:
        """Decodes from the start up to the last wanted frame."""
        self._restart()
        index, pictures = self._index, self._buffer(len(unique))
        missing = {index.pts[n] if index.seekable else n: row for row, n in enumerate(unique)}
        others = self._take(missing, pictures)
        if missing:
            number = unique[min(missing.values())]
            raise self._unreadable(f"frame {number} of {index.frames} cannot be decoded; {others}")
        return pictures

    def _buffer(self, frames: int) -> NDArray[np.uint8]:
        return np.empty((frames, self.info.height, self.info.width, 3), np.uint8)

    def _take(self, missing: dict[int, int], pictures: NDArray[np.uint8]) -> str:
        """Decodes until no frame is missing or all are passed.

        Args:
            missing: Row of `pictures` by the frame's time if the index is seekable, else by its
                number; found frames are removed.
            pictures: Filled with the frames that are found.

        Returns:
            What to say about frames that could be decoded when some are still missing.
        """
        reached, last = min(missing, default=0), max(missing, default=0)
        count, reason = 0, "the file ends there"
        try:
            for frame in self._decoded():
                place = frame.pts if self._index.seekable else count
                count += 1
                if place in missing:
                    pictures[missing.pop(place)] = self._picture(frame)
                reached = reached if place is None else place
                if not missing or reached > last:
                    break
        except av.FFmpegError as error:
            reason = _reason(error)
        if missing and reached > min(missing):
            return "later ones can (its data is lost or damaged)"
        return f"only the first {count} frames can ({reason})"

    def _picture(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """(H, W, 3) RGB of one size, rotated upright."""
        width, height = self._size
        rgb = self._to_rgb.reformat(frame, width, height, "rgb24", threads=1).to_ndarray()
        rgb = rgb.astype(np.uint8, copy=False)
        return np.rot90(rgb, self._quarter_turns) if self._quarter_turns else rgb

    def _unreadable(self, reason: str) -> UnreadableVideoError:
        return UnreadableVideoError(f"{self.path} cannot be read: {reason}.")


def _file_bytes(path: Path) -> int:
    """Size of a file that is there and not empty."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        raise UnreadableVideoError(f"{path} does not exist.") from None
    except OSError as error:
        raise UnreadableVideoError(f"{path} cannot be read: {_reason(error)}.") from error
    if not stat.S_ISREG(facts.st_mode):
        raise UnreadableVideoError(f"{path} is not a file.")
    if facts.st_size == 0:
        raise UnreadableVideoError(f"{path} is empty (0 bytes).")
    return facts.st_size


def _begins_with_group(first: _Packet, first_pts: int) -> bool:
    """Whether no frame needs a picture from before the file; such frames may be left out."""
    return first.keyframe and first.pts is not None and first.pts <= first_pts


def _reason(error: Any) -> str:
    """The words of FFmpeg or the system for what went wrong, without the path."""
    text = str(getattr(error, "strerror", "") or error)
    if "Invalid data" in text:
        return "it is damaged or not a video"
    if text == "End of file":
        return "it is truncated (end of file)"
    return text[:1].lower() + text[1:]
