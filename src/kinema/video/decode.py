"""Video files to frames: exact frame numbers, decoding only what is needed.

A frame's number is its place in the order in which decoding the whole file yields frames. What
`probe` found out decides how wanted frames are reached. Where the places of all frames are known,
only the groups of pictures that hold wanted frames are decoded, and of these no picture that no
wanted one needs. Where every packet is a frame, all are read and only those of the wanted groups
are decoded. Other files are decoded from the start up to the last wanted frame.
"""

import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

import av
import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from kinema.errors import UnreadableVideoError
from kinema.system.closing import Closing
from kinema.values import VideoInfo
from kinema.video.container import CodedPacket, Container, reason_of
from kinema.video.display import upright
from kinema.video.folder import FrameFolder, checked_indices
from kinema.video.frame_index import IndexedVideo, probe
from kinema.video.index_cache import IndexCache

VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"}
    | {".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"}
)


class FrameSource(Closing, Protocol):
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


def is_video_path(path: str | Path) -> bool:
    """Whether a file name ends like a video's; hidden files (macOS's ._x.mp4) do not count."""
    path = Path(path)
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def open_source(
    path: str | Path,
    *,
    index_cache: IndexCache | None = None,
    threads: int = 1,
    options: Mapping[str, str] | None = None,
) -> FrameSource:
    """Opens a video file or a folder of frames.

    Args:
        path: The file or folder.
        index_cache: Remembers what opening a file finds out.
        threads: See `VideoFile`.
        options: See `VideoFile`.

    Raises:
        UnreadableVideoError: it does not exist or cannot be read; the message says why.
    """
    if os.path.isdir(path):
        return FrameFolder(path)
    return VideoFile(path, index_cache=index_cache, threads=threads, options=options)


class VideoFile(Closing):
    """One video file.

    Opening it reads its packet index and decodes its first frame, unless the cache knows both.

    Args:
        path: The file.
        index_cache: Where the index is looked up and kept.
        threads: Frames that are decoded at a time. One costs the least CPU time and is right where
            every core has a process of its own; more answer sooner where one video is waited for.
        options: For FFmpeg whenever it opens the file. Of files from strangers, a
            `format_whitelist` and a `protocol_whitelist` keep it from opening other ones.

    Raises:
        UnreadableVideoError: empty, truncated, no video in it, or not decodable.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        index_cache: IndexCache | None = None,
        threads: int = 1,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.path = Path(path)
        self._container = Container(self.path, threads=threads, options=options)
        self._cache = index_cache
        self._to_rgb = VideoReformatter()  # keeps its tables from frame to frame
        known = None if index_cache is None else index_cache.get(self.path, self._container.facts)
        self._is_remembered = known is not None
        self._known = known or self._learned()

    @property
    def info(self) -> VideoInfo:
        """Facts about the video."""
        return self._known.info

    @property
    def exact_stream(self) -> int | None:
        """Number of the stream, where every decoder gets the same frames; else None.

        Others may count frames that this one counted by decoding in another way, and round
        samples of more than 8 bits otherwise.
        """
        if self._known.index.reach != "seek":
            return None
        if not self._container.is_open:
            self._container.restart()
        stream = self._container.stream
        return stream.index if all(part.bits == 8 for part in stream.format.components) else None

    def read(self, frame_indices: Sequence[int] | NDArray[np.int64]) -> torch.Tensor:
        """Decodes the wanted frames.

        Args:
            frame_indices: Frame numbers from 0, in any order, repeated if wanted.

        Returns:
            (n, 3, H, W) uint8 RGB turned and mirrored as it is to be shown, a view of (n, H, W, 3).

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

    @property
    def lead_s(self) -> float:
        """Seconds from the beginning of the file to its first frame; 0 if it does not tell.

        Where sound begins before the pictures, players and subtitles count from the sound.
        """
        if not self._container.is_open:
            self._container.restart()
        start_s, pts = self._container.start_s, self._known.index.pts
        if start_s is None or not pts:
            return 0.0
        return max(0.0, pts[0] * self._known.tick_s - start_s)

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
        self._container.close()

    def _learned(self) -> IndexedVideo:
        """Finds out what there is to know of the file, and has it remembered."""
        known = probe(self._container)
        if self._cache is not None:
            self._cache.put(self.path, self._container.facts, known)
        return known

    def _whole(self) -> Iterator[VideoFrame]:
        """Every frame from the first on; an error at the end if some are missing."""
        self._container.restart()
        count, reason = 0, "the others are lost or damaged"
        try:
            for frame in self._container.decoded():
                count += 1
                yield frame
        except av.FFmpegError as error:
            reason = reason_of(error)
        if count < self.info.frames:
            raise self._container.unreadable(
                f"only {count} of its {self.info.frames} frames can be decoded ({reason})"
            )

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
        if not self._container.is_open:
            self._container.restart(known=True)
        decoder, index = self._container.decoder, self._known.index
        for keyframe, times in groups.items():
            self._container.seek(keyframe)
            wanted, coming = set(times), set(times)
            for packet in self._container.packets():
                if index.is_unreferenced(packet.pts) and packet.pts not in wanted:
                    continue
                coming.discard(packet.pts or 0)
                for frame in decoder.decode(packet) if coming else self._container.at_once(packet):
                    if frame.pts is not None and frame.pts in wanted:
                        wanted.remove(frame.pts)
                        yield frame.pts, frame
                if not coming:
                    break

    def _skipped_to(self, groups: dict[int, list[int]]) -> Iterator[tuple[int, VideoFrame]]:
        """Wanted frames with their numbers, where every packet is one frame."""
        self._container.restart()
        packets, passed = self._container.packets(), 0
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
        decoder = self._container.decoder
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
        self._container.restart()
        index, pictures = self._known.index, self._buffer(len(unique))
        missing = {index.place(number): row for row, number in enumerate(unique)}
        others = self._take(missing, pictures)
        if missing:
            number = unique[min(missing.values())]
            raise self._container.unreadable(
                f"frame {number} of {index.frames} cannot be decoded; {others}"
            )
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
            for frame in self._container.decoded():
                place = frame.pts if by_time else count
                count += 1
                if place in missing:
                    pictures[missing.pop(place)] = self._picture(frame)
                reached = reached if place is None else place
                if not missing or reached > last:
                    break
        except av.FFmpegError as error:
            reason = reason_of(error)
        if missing and reached > min(missing):
            return "later ones can (its data is lost or damaged)"
        return f"only the first {count} frames can ({reason})"

    def _picture(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """(H, W, 3) RGB of one size, upright."""
        width, height = self._known.coded_size
        rgb = self._to_rgb.reformat(frame, width, height, "rgb24", threads=1).to_ndarray()
        rgb = rgb.astype(np.uint8, copy=False)
        return upright(rgb, self.info.rotation_deg // 90, mirrored=self.info.mirrored)
