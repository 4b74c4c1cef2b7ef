"""Decodes frames by number from video files, and only the parts of a file that hold them.

A frame's number is its position when the whole file is decoded in order. The frame index decides
the way to a frame ("seek", "skip" or "start", see `frame_index`):

- seek: from the keyframe of each group with wanted frames, without unreferenced pictures;
- skip: all packets are read, only groups with wanted frames are decoded;
- start: everything is decoded up to the last wanted frame. This is also the way out when a file
  is damaged or not as indexed.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
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
from kinema.system.files import find_path
from kinema.values import VideoInfo
from kinema.video.container import Container, reason_of
from kinema.video.display import upright
from kinema.video.folder import FrameFolder, checked_indices, read_distinct
from kinema.video.frame_index import FrameIndex, IndexedVideo, build_index
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
        """Decodes the wanted frames.

        Args:
            frame_indices: Frame numbers from 0, in any order, repeated if wanted.

        Returns:
            (n, 3, H, W) uint8 RGB, upright; on the CPU a view of (n, H, W, 3).

        Raises:
            OptionError: a number is outside of the video.
            UnreadableVideoError: a frame cannot be decoded; the message names it.
        """

    def in_order(self) -> Iterator[NDArray[np.uint8]]:
        """Decodes all frames from first to last, (H, W, 3) RGB each, upright.

        Raises:
            UnreadableVideoError: a frame is missing or, in a folder, differs in size.
        """

    def verify(self) -> None:
        """Decodes every frame and keeps none; raises UnreadableVideoError like `in_order`."""


def is_video_path(path: str | Path) -> bool:
    """True for file names with a video suffix, but not for hidden files (macOS writes ._x.mp4)."""
    path = Path(path)
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def open_source(
    path: str | Path,
    *,
    index_cache: IndexCache | None = None,
    threads: int = 1,
    options: Mapping[str, str] | None = None,
    most_pixels: int | None = None,
) -> FrameSource:
    """Opens a video file or a folder of frames.

    Args:
        path: The file or folder, see `VideoFile`.
        index_cache: Cache of frame indices.
        threads: See `VideoFile`.
        options: See `VideoFile`.
        most_pixels: See `VideoFile`.

    Raises:
        UnreadableVideoError: it does not exist or cannot be read; the message says why.
    """
    path = find_path(Path(path))
    if os.path.isdir(path):  # unlike Path.is_dir, also for names that are too long
        return FrameFolder(path)
    return VideoFile(
        path, index_cache=index_cache, threads=threads, options=options, most_pixels=most_pixels
    )


class VideoFile(Closing):
    """One video file.

    Opening it builds its frame index and decodes its first frame, unless both are in the cache.

    Args:
        path: The file; accented letters may have other bytes (NFC, NFD) on disk.
        index_cache: Cache of frame indices.
        threads: Decoder threads. One costs the least CPU time and suits a loader with one process
            per core; more give a single video sooner.
        options: FFmpeg options for every opening of the file. For untrusted files, a
            `format_whitelist` and a `protocol_whitelist` keep it from opening others.
        most_pixels: Largest width times height of every frame; None for no limit.

    Raises:
        UnreadableVideoError: empty, truncated, without video, or not decodable.
        TooManyPixelsError: a decoded frame is larger than `most_pixels`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        index_cache: IndexCache | None = None,
        threads: int = 1,
        options: Mapping[str, str] | None = None,
        most_pixels: int | None = None,
    ) -> None:
        self.path = find_path(Path(path))
        self._container = Container(
            self.path, threads=threads, options=options, most_pixels=most_pixels
        )
        self._cache = index_cache
        self._to_rgb = VideoReformatter()  # keeps its tables from frame to frame
        cached = None if index_cache is None else index_cache.get(self.path, self._container.stat)
        self._from_cache = cached is not None
        self._indexed = cached or self._build_index()

    def _build_index(self) -> IndexedVideo:
        indexed = build_index(self._container)
        if self._cache is not None:
            self._cache.put(self.path, self._container.stat, indexed)
        return indexed

    @property
    def info(self) -> VideoInfo:
        """Facts about the video."""
        return self._indexed.info

    @property
    def exact_stream(self) -> int | None:
        """Index of the video stream if every decoder gives the same frames, otherwise None.

        Other decoders may count differently where frames are counted by decoding, and may round
        differently where samples have more than 8 bits.
        """
        if self._indexed.index.access != "seek":
            return None
        self._container.open()
        stream = self._container.stream
        return stream.index if all(part.bits == 8 for part in stream.format.components) else None

    def times_s(self, frame_indices: Sequence[int] | NDArray[np.int64]) -> list[float]:
        """Presentation times in seconds from the first frame.

        They follow from the frame rate if the file has no times.

        Raises:
            OptionError: a number is outside of the video.
        """
        numbers, pts = checked_indices(frame_indices, self.info), self._indexed.index.pts
        if not pts:
            rate = self.info.rate_hz
            return [number / rate if rate else 0.0 for number in numbers]
        return [(pts[number] - pts[0]) * self._indexed.tick_s for number in numbers]

    @property
    def lead_s(self) -> float:
        """Seconds from the start of the file to its first frame; 0 if unknown.

        Audio may start before the video, and players and subtitles count from its start.
        """
        self._container.open()
        start_s, pts = self._container.start_s, self._indexed.index.pts
        if start_s is None or not pts:
            return 0.0
        return max(0.0, pts[0] * self._indexed.tick_s - start_s)

    def read(self, frame_indices: Sequence[int] | NDArray[np.int64]) -> torch.Tensor:
        """See `FrameSource`."""
        try:
            return read_distinct(frame_indices, self.info, self._decode)
        except UnreadableVideoError:
            if not self._from_cache:
                raise
            # The cached index may be wrong: build it from the file and try once more.
            self._indexed, self._from_cache = self._build_index(), False
            return self.read(frame_indices)

    def in_order(self) -> Iterator[NDArray[np.uint8]]:
        """See `FrameSource`."""
        yield from map(self._picture, self._all_frames())

    def verify(self) -> None:
        """See `FrameSource`."""
        for _ in self._all_frames():
            pass

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    def _all_frames(self) -> Iterator[VideoFrame]:
        """Every frame from the first on; an error at the end if some are missing."""
        self._container.reopen()
        count, reason = 0, "the others are lost or damaged"
        try:
            for frame in self._container.frames():
                count += 1
                yield frame
        except av.FFmpegError as error:
            reason = reason_of(error)
        if count < self.info.frames:
            raise self._container.unreadable(
                f"only {count} of its {self.info.frames} frames can be decoded ({reason})"
            )

    def _decode(self, numbers: list[int]) -> NDArray[np.uint8]:
        """Decodes frames with ascending numbers into (n, H, W, 3) RGB."""
        pictures = self._decode_groups(numbers)
        # Damaged or wrongly indexed files: decoding from the start finds every frame there is.
        return self._decode_from_start(numbers) if pictures is None else pictures

    def _decode_groups(self, numbers: list[int]) -> NDArray[np.uint8] | None:
        """Decodes only groups with wanted frames; None if a frame was not where the index says."""
        index, pictures = self._indexed.index, self._empty_pictures(len(numbers))
        rows = {index.key(number): row for row, number in enumerate(numbers)}
        try:
            found: Iterator[tuple[int, VideoFrame]] = iter(())
            if index.access == "seek":
                self._container.open(skip_analysis=True)
                found = _by_seeking(self._container, index, numbers)
            elif index.access == "skip":
                self._container.reopen()
                found = _by_skipping(self._container, index, numbers)
            for key, frame in found:
                pictures[rows.pop(key)] = self._picture(frame)
        except av.FFmpegError:
            return None
        return None if rows else pictures

    def _decode_from_start(self, numbers: list[int]) -> NDArray[np.uint8]:
        """Decodes from the start of the file; an error names the first frame that cannot be."""
        self._container.reopen()
        index, pictures = self._indexed.index, self._empty_pictures(len(numbers))
        rows = {index.key(number): row for row, number in enumerate(numbers)}
        position, last = min(rows, default=0), max(rows, default=0)
        count, reason = 0, "the file ends there"
        try:
            for frame in self._container.frames():
                # Times stay right behind a lost frame, where counting would be off by one.
                key = frame.pts if index.access == "seek" else count
                count += 1
                if key in rows:
                    pictures[rows.pop(key)] = self._picture(frame)
                position = position if key is None else key
                if not rows or position > last:
                    break
        except av.FFmpegError as error:
            reason = reason_of(error)
        if not rows:
            return pictures
        # Lost in the middle, or is it the end of the file that is missing?
        if position > min(rows):
            others = "later ones can (its data is lost or damaged)"
        else:
            others = f"only the first {count} frames can ({reason})"
        number = numbers[min(rows.values())]
        raise self._container.unreadable(
            f"frame {number} of {index.frames} cannot be decoded; {others}"
        )

    def _empty_pictures(self, frames: int) -> NDArray[np.uint8]:
        return np.empty((frames, self.info.height, self.info.width, 3), np.uint8)

    def _picture(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """(H, W, 3) RGB, upright; all frames get the size of the first."""
        width, height = self._indexed.coded_size
        rgb = self._to_rgb.reformat(frame, width, height, "rgb24", threads=1).to_ndarray()
        rgb = rgb.astype(np.uint8, copy=False)
        return upright(rgb, self.info.rotation_deg // 90, mirrored=self.info.mirrored)


def _by_seeking(
    container: Container, index: FrameIndex, numbers: Sequence[int]
) -> Iterator[tuple[int, VideoFrame]]:
    """Yields the wanted frames with their times; decodes from the keyframe of each group."""
    for keyframe, times in index.groups(numbers).items():
        container.seek(keyframe)
        unsent, wanted = set(times), set(times)
        for packet in container.packets():
            # Most B-frames are needed by no other picture: unless wanted, they need no decoding.
            if index.is_unreferenced(packet.pts) and packet.pts not in wanted:
                continue
            if packet.pts is not None:
                unsent.discard(packet.pts)
            # A decoder holds frames back to reorder them. Once all wanted packets are sent,
            # draining it gives their frames without decoding the rest of the group.
            frames = container.decode(packet) if unsent else container.decode_and_drain(packet)
            for frame in frames:
                if frame.pts is not None and frame.pts in wanted:
                    wanted.remove(frame.pts)
                    yield frame.pts, frame
            if not unsent:
                break


def _by_skipping(
    container: Container, index: FrameIndex, numbers: Sequence[int]
) -> Iterator[tuple[int, VideoFrame]]:
    """Yields the wanted frames with their numbers, where every packet is one frame.

    Ends early at the first group that is not as indexed.
    """
    packets, passed = container.packets(), 0
    for keyframe, group in index.groups(numbers).items():
        # Packets between two groups are read but not decoded.
        end = group[-1] + 1
        run = islice(packets, keyframe - passed, end - passed)
        wanted, found, number = set(group), {}, keyframe
        for packet in chain(run, [None]):  # None drains the decoder
            for frame in container.decode(packet):
                # AVI headers may claim keyframes that the codec does not have.
                if number == keyframe and not frame.key_frame:
                    return
                if number in wanted:
                    found[number] = frame
                number += 1
        container.decoder.flush_buffers()
        # A packet without a frame would shift all numbers: nothing of the group is certain.
        if number != end:
            return
        yield from found.items()
        passed = end
