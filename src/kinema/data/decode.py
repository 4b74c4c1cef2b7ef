"""Video files to frames: exact frame numbers, decoding only what is needed.

A frame's number is its place in the order in which decoding the whole file yields frames. MP4/MOV
and Matroska/WebM tell from their packets where every frame is, so only the groups of pictures
that hold wanted frames are decoded, and of these no picture that no wanted one needs. In AVI
without B-frames every packet is a frame, so all are read and only those of the wanted groups are
decoded. Other containers seek to wrong places or may leave frames out (MPEG-TS, MPEG-PS, GIF, AVI
with B-frames), and so may files that begin in the middle of a group, so these are decoded from the
start up to the last wanted frame.
"""

import os
import stat
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, TypeVar

import av
import numpy as np
import torch
from av.codec import CodecContext
from av.container import InputContainer
from av.packet import Packet as AvPacket
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from kinema.data.folder import FrameFolder, checked_indices
from kinema.data.packet_index import (
    NO_PTS,
    FrameIndex,
    IndexCache,
    IndexedVideo,
    Packets,
    unreferenced_test,
)
from kinema.errors import UnreadableVideoError
from kinema.types import VideoInfo

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"}
    | {".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"}
)

# Containers whose packet times and keyframe flags can be trusted for seeking.
_INDEXED = frozenset({"mov", "mp4", "matroska", "webm"})

# Codecs whose key frames begin anew, in AVI without B-frames, where a packet is a frame.
_ONE_FRAME_PER_PACKET = frozenset({"mjpeg", "mpeg4"})

# Opens without decoding: enough where all that could be found out is known.
_KNOWN_ALREADY = {"probesize": "32", "analyzeduration": "0", "skip_frame": "all"}

# What FFmpeg also opens: text as a drawing, and single images with names such as "png_pipe".
_NO_VIDEO = ("image2", "tty", "_pipe")

# An AVI packet this small says "nothing changed" and may give no frame.
_EMPTY_PACKET_BYTES = 16


_Item = TypeVar("_Item")
CodedPacket: TypeAlias = "AvPacket[VideoStream]"


class FrameSource(Protocol):
    """Frames by number from a video file or a folder."""

    @property
    def info(self) -> VideoInfo:
        """Facts about the video."""

    def read(self, frame_indices: Sequence[int] | NDArray[np.int64]) -> torch.Tensor:
        """The wanted frames: (n, 3, H, W) uint8 RGB, in the order of the indices."""

    def in_order(self) -> Iterator[NDArray[np.uint8]]:
        """All frames from first to last: (H, W, 3) RGB each."""

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


def open_source(
    path: str | Path, *, index_cache: IndexCache | None = None, threads: int = 1
) -> FrameSource:
    """Opens a video file or a folder of frames.

    Args:
        path: The file or folder.
        index_cache: Remembers what opening a file finds out.
        threads: See `VideoFile`.

    Raises:
        UnreadableVideoError: it does not exist or cannot be read; the message says why.
    """
    if os.path.isdir(path):
        return FrameFolder(path)
    return VideoFile(path, index_cache=index_cache, threads=threads)


class VideoFile:
    """One video file.

    Opening it reads its packet index and decodes its first frame, unless the cache knows both.

    Args:
        path: The file.
        index_cache: Where the index is looked up and kept.
        threads: Frames that are decoded at a time. One costs the least CPU time and is right where
            every core has a process of its own; more answer sooner where one video is waited for.

    Raises:
        UnreadableVideoError: empty, truncated, no video in it, or not decodable.
    """

    def __init__(
        self, path: str | Path, *, index_cache: IndexCache | None = None, threads: int = 1
    ) -> None:
        self.path = Path(path)
        self._threads = threads
        self._facts = _file_facts(self.path)
        self._cache = index_cache
        self._container: InputContainer | None = None
        self._to_rgb = VideoReformatter()  # keeps its tables from frame to frame
        known = None if index_cache is None else index_cache.get(self.path, self._facts)
        self._is_remembered = known is not None
        self._known = known or self._learned()

    @property
    def info(self) -> VideoInfo:
        """Facts about the video."""
        return self._known.info

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
        try:
            frames = torch.from_numpy(self._pictures(unique))
        except UnreadableVideoError:
            if not self._is_remembered:
                raise
            self._known, self._is_remembered = self._learned(), False  # the cache may be wrong
            return self.read(frame_indices)
        if wanted != unique:
            frames = frames[[bisect_left(unique, number) for number in wanted]]
        return frames.permute(0, 3, 1, 2)

    def times_s(self, frame_indices: Sequence[int] | NDArray[np.int64]) -> list[float]:
        """When the frames are shown, in seconds from the first frame.

        Where a file does not tell the times, they follow from its frame rate.

        Raises:
            OptionError: a number is outside of the video.
        """
        numbers, pts = checked_indices(frame_indices, self.info), self._known.index.pts
        if not pts:
            rate = self.info.rate_hz
            return [number / rate if rate else 0.0 for number in numbers]
        return [(pts[number] - pts[0]) * self._known.tick_s for number in numbers]

    def in_order(self) -> Iterator[NDArray[np.uint8]]:
        """Decodes all frames from first to last.

        Returns:
            (H, W, 3) RGB each, upright.

        Raises:
            UnreadableVideoError: there are fewer frames than the file promises.
        """
        yield from map(self._picture, self._whole())

    def verify(self) -> None:
        """Decodes every frame and keeps none.

        Raises:
            UnreadableVideoError: there are fewer frames than the file promises.
        """
        for _ in self._whole():
            pass

    def close(self) -> None:
        """Gives the file back."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, options: dict[str, str]) -> tuple[InputContainer, VideoStream]:
        name = str(self.path.absolute())  # "a:b.mp4" alone would be taken for a URL
        try:
            try:
                container = av.open(name, mode="r", options=options)
            except UnicodeDecodeError:  # a title or comment that is not UTF-8
                container = av.open(name, options=options, metadata_errors="replace")
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
            decoder.thread_count = self._threads
            if self._threads > 1:
                decoder.thread_type = "FRAME"
            return container, moving[0]
        kinds = ", ".join(sorted({s.type for s in container.streams if s.type != "video"})) or "no"
        container.close()
        if moving:
            raise self._unreadable(f"it is an image or text ({form}), not a video")
        raise self._unreadable(f"it has no video stream (only {kinds} streams)")

    def _restart(self) -> None:
        """Stands at the start of the file again."""
        self._reopen({})

    def _reopen(self, options: dict[str, str]) -> InputContainer:
        self.close()
        self._container, self._stream = self._open(options)
        return self._container

    def _packets(self) -> Iterator[CodedPacket]:
        """Coded packets from where the container stands; those without content are left out."""
        assert self._container is not None, "opened before"
        return (p for p in self._to_end(self._container.demux(self._stream)) if p.size)

    def _learned(self) -> IndexedVideo:
        """Finds out what there is to know of the file, and has it remembered."""
        container = self._reopen({})
        try:
            index = self._scan(set(container.format.name.split(",")))
            known = self._described(index, self._first_frame(index))
        except BaseException:
            self.close()
            raise
        if self._cache is not None:
            self._cache.put(self.path, self._facts, known)
        return known

    def _scan(self, names: set[str]) -> FrameIndex:
        """Finds the frames by reading the packets, decoding only where these do not tell."""
        packets = self._all_packets()
        if "mov" in names:
            self._check_whole()
        shown = ~packets.discard
        pts = packets.times(shown)
        timed = len(pts) > 0 and len(np.unique(pts)) == shown.sum()
        if names & _INDEXED and timed and _begins_with_group(packets, pts):
            keyframes = packets.times(packets.keyframe)
            unneeded = packets.times(shown & packets.unreferenced)
            return FrameIndex(
                len(pts),
                "seek",
                tuple(pts.tolist()),
                tuple(keyframes.tolist()),
                frozenset(unneeded.tolist()),
            )
        decoder = self._stream.codec_context
        plain_avi = "avi" in names and not decoder.has_b_frames
        if plain_avi and packets.bytes.min() > _EMPTY_PACKET_BYTES:
            times = tuple(pts.tolist()) if timed else ()
            keys = tuple(np.flatnonzero(packets.keyframe).tolist())
            if decoder.name in _ONE_FRAME_PER_PACKET and keys[:1] == (0,):
                return FrameIndex(len(packets.pts), "skip", times, keys)
            return FrameIndex(len(packets.pts), "start", times)
        return self._count(int(shown.sum()))

    def _all_packets(self) -> Packets:
        decoder = self._stream.codec_context
        unreferenced = unreferenced_test(decoder.name, decoder.extradata)
        try:
            packets = Packets.read(self._packets(), unreferenced)
        except av.FFmpegError as error:
            raise self._unreadable(_reason(error)) from error
        if len(packets.pts) == 0:
            raise self._unreadable("its video stream is empty")
        return packets

    def _check_whole(self) -> None:
        """Compares the places of the frames in the header of an MP4 or MOV with the file."""
        entries, size = self._stream.index_entries, self._facts.st_size
        cut = sum(entry.pos + entry.size > size for entry in entries)
        if cut:
            raise self._unreadable(
                f"it is truncated: its header promises {len(entries)} frames, "
                f"{len(entries) - cut} are in the file"
            )

    def _count(self, promised: int) -> FrameIndex:
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
        return FrameIndex(frames, "start", known if len(known) == frames else ())

    def _first_frame(self, index: FrameIndex) -> VideoFrame:
        """Decodes it from the start; by seeking there, where that is safe, to open only once."""
        if index.reach == "seek":
            with suppress(av.FFmpegError):
                self._seek(index.keyframes[0])
                for frame in (f for p in islice(self._packets(), 1) for f in self._at_once(p)):
                    return frame
        self._restart()
        reason = "the stream holds none"
        try:
            for frame in self._decoded():
                return frame
        except av.FFmpegError as error:
            reason = _reason(error)
        raise self._unreadable(f"it has a video stream, but no frame could be decoded ({reason})")

    def _described(self, index: FrameIndex, first: VideoFrame) -> IndexedVideo:
        assert self._container is not None, "opened before"
        quarter_turns = round(first.rotation / 90) % 4
        width, height = (first.width, first.height)[:: -1 if quarter_turns % 2 else 1]
        rate = float(self._stream.average_rate or self._stream.guessed_rate or 0)
        info = VideoInfo(
            path=str(self.path),
            frames=index.frames,
            rate_hz=rate,
            duration_s=index.frames / rate if rate else 0.0,
            width=width,
            height=height,
            rotation_deg=90 * quarter_turns,
            codec=self._stream.codec_context.name,
            container=self._container.format.name,
        )
        tick_s = float(self._stream.time_base or 0)
        return IndexedVideo(info, index, (first.width, first.height), tick_s)

    def _whole(self) -> Iterator[VideoFrame]:
        """Every frame from the first on; an error at the end if some are missing."""
        self._restart()
        count, reason = 0, "the others are lost or damaged"
        try:
            for frame in self._decoded():
                count += 1
                yield frame
        except av.FFmpegError as error:
            reason = _reason(error)
        if count < self.info.frames:
            raise self._unreadable(
                f"only {count} of its {self.info.frames} frames can be decoded ({reason})"
            )

    def _decoded(self) -> Iterator[VideoFrame]:
        """Frames from where the container stands."""
        assert self._container is not None, "opened before"
        return self._to_end(self._container.decode(self._stream))

    @staticmethod
    def _to_end(items: Iterator[_Item]) -> Iterator[_Item]:
        try:
            yield from items
        except (av.EOFError, IndexError):
            # PyAV cannot flush a stream that appeared after the first packets: IndexError, at the
            # end of the file.
            return

    def _seek(self, pts: int) -> None:
        assert self._container is not None, "opened before"
        self._container.seek(pts, stream=self._stream)  # empties the decoder too

    def _at_once(self, packet: CodedPacket) -> list[VideoFrame]:
        """Decodes a packet and takes all frames the decoder would hold back for later ones."""
        decoder = self._stream.codec_context
        return [*decoder.decode(packet), *decoder.decode(None)]

    def _pictures(self, unique: list[int]) -> NDArray[np.uint8]:
        pictures = self._planned(unique)
        return self._sequential(unique) if pictures is None else pictures

    def _planned(self, unique: list[int]) -> NDArray[np.uint8] | None:
        """Decodes only what the wanted frames need; None if the index is wrong or has no plan."""
        index, pictures = self._known.index, self._buffer(len(unique))
        rows = {index.place(number): row for row, number in enumerate(unique)}
        try:
            if index.reach == "seek":
                for place, frame in self._sought(index.groups(unique)):
                    pictures[rows.pop(place)] = self._picture(frame)
            elif index.reach == "skip":
                for place, frame in self._skipped_to(index.groups(unique)):
                    pictures[rows.pop(place)] = self._picture(frame)
        except av.FFmpegError:
            return None
        return None if rows else pictures

    def _sought(self, groups: dict[int, list[int]]) -> Iterator[tuple[int, VideoFrame]]:
        """Wanted frames with their times; the pictures that no other needs are left out."""
        if self._container is None:
            self._reopen(_KNOWN_ALREADY)
        decoder = self._stream.codec_context
        for keyframe, times in groups.items():
            self._seek(keyframe)
            wanted, coming = set(times), set(times)
            for packet in self._packets():
                if packet.pts in self._known.index.unreferenced and packet.pts not in wanted:
                    continue
                coming.discard(packet.pts or 0)
                for frame in decoder.decode(packet) if coming else self._at_once(packet):
                    if frame.pts is not None and frame.pts in wanted:
                        wanted.remove(frame.pts)
                        yield frame.pts, frame
                if not coming:
                    break

    def _skipped_to(self, groups: dict[int, list[int]]) -> Iterator[tuple[int, VideoFrame]]:
        """Wanted frames with their numbers, where every packet is one frame."""
        self._restart()
        packets, passed = self._packets(), 0
        for keyframe, numbers in groups.items():
            end = numbers[-1] + 1
            run = islice(packets, keyframe - passed, end - passed)
            kept = self._kept(run, keyframe, numbers)
            if not kept:
                return
            yield from ((number, kept[number]) for number in numbers)
            passed = end

    def _kept(
        self, packets: Iterable[CodedPacket], keyframe: int, numbers: list[int]
    ) -> dict[int, VideoFrame]:
        """The wanted frames of a run that ends with the last; none if it is not as indexed."""
        decoder = self._stream.codec_context
        wanted, kept, number = set(numbers), {}, keyframe
        for packet in chain(packets, [None]):
            for frame in decoder.decode(packet):
                if number == keyframe and not frame.key_frame:
                    return {}
                if number in wanted:
                    kept[number] = frame
                number += 1
        decoder.flush_buffers()
        return kept if number == numbers[-1] + 1 else {}

    def _sequential(self, unique: list[int]) -> NDArray[np.uint8]:
        """Decodes from the start up to the last wanted frame."""
        self._restart()
        index, pictures = self._known.index, self._buffer(len(unique))
        missing = {index.place(number): row for row, number in enumerate(unique)}
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
            missing: Row of `pictures` by the place of the frame; found frames are removed.
            pictures: Filled with the frames that are found.

        Returns:
            What to say about frames that could be decoded when some are still missing.
        """
        reached, last = min(missing, default=0), max(missing, default=0)
        by_time = self._known.index.reach == "seek"
        count, reason = 0, "the file ends there"
        try:
            for frame in self._decoded():
                place = frame.pts if by_time else count
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
        width, height = self._known.coded_size
        rgb = self._to_rgb.reformat(frame, width, height, "rgb24", threads=1).to_ndarray()
        rgb = rgb.astype(np.uint8, copy=False)
        quarter_turns = self.info.rotation_deg // 90
        return np.rot90(rgb, quarter_turns) if quarter_turns else rgb

    def _unreadable(self, reason: str) -> UnreadableVideoError:
        return UnreadableVideoError(f"{self.path} cannot be read: {reason}.")


def _file_facts(path: Path) -> os.stat_result:
    """Size and times of a file that is there and not empty."""
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
    return facts


def _begins_with_group(packets: Packets, pts: NDArray[np.int64]) -> bool:
    """Whether no frame needs a picture from before the file; such frames may be left out."""
    return bool(packets.keyframe[0]) and NO_PTS < packets.pts[0] <= pts[0]


def _reason(error: Any) -> str:
    """The words of FFmpeg or the system for what went wrong, without the path."""
    text = str(getattr(error, "strerror", "") or error)
    if "Invalid data" in text:
        return "it is damaged or not a video"
    if text == "End of file":
        return "it is truncated (end of file)"
    return text[:1].lower() + text[1:]
