"""Frame index of a video file, built from its packets.

The packets of MP4/MOV and Matroska/WebM give the time of every frame and the keyframes to seek to.
In AVI without B-frames every packet is one frame. In other containers seeking lands in wrong
places and packets may give no frame (MPEG-TS, MPEG-PS, GIF, AVI with B-frames), and the same holds
for files that begin inside of a group of pictures or whose times do not rise: their frames are
counted by decoding, and their times put on one rising line.
"""

import logging
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from kinema.values import VideoInfo
from kinema.video.container import Container, reason_of
from kinema.video.display import display_of
from kinema.video.rising_times import RisingTimes, looking_ahead

_log = logging.getLogger(__name__)

# Containers whose packet times and keyframe flags are reliable enough for seeking.
_SEEKABLE = frozenset({"mov", "mp4", "matroska", "webm"})

# Codecs that decode from any keyframe on in AVI without B-frames, where a packet is one frame.
_ONE_FRAME_PER_PACKET = frozenset({"mjpeg", "mpeg4"})

# An AVI packet this small means "nothing changed" and may give no frame.
_EMPTY_PACKET_BYTES = 16

# H.264 unit types that a picture without references to it may contain: slice, SEI, delimiter,
# filler. Other units, such as a new parameter set, are needed by later packets.
_SLICE, _HARMLESS_UNITS = 1, frozenset({1, 6, 9, 12})

# Codecs send a picture at most this many packets before or after its place in time: the pictures
# that a decoder of H.264 or H.265 holds (A.3.1 and A.4.2).
_REORDERED = 16

# Ways to reach a frame: decode from the start of the file; seek to a keyframe; read all packets
# from the start but decode only groups of pictures with wanted frames.
Access = Literal["start", "seek", "skip"]

# Placeholder for the time of a packet without one.
NO_PTS = np.iinfo(np.int64).min


@dataclass(frozen=True)
class FrameIndex:
    """Number and times of all frames, and the way to reach them.

    Attributes:
        frames: Exact number of frames.
        access: Way to reach a frame.
        pts: Presentation times in ticks of the stream, ascending; empty if some are unknown.
        keyframes: Entry points of the decoder, ascending: times for "seek", frame numbers for
            "skip".
        unreferenced: Times of pictures that no other picture needs, ascending ("seek" only).
        last_ticks: Duration of the last frame; 0 if unknown.

    Numbers are stored as machine integers, as hours of video have several hundred thousand frames.
    """

    frames: int
    access: Access = "start"
    pts: Sequence[int] = ()
    keyframes: Sequence[int] = ()
    unreferenced: Sequence[int] = ()
    last_ticks: int = 0

    def __post_init__(self) -> None:
        for name in ("pts", "keyframes", "unreferenced"):
            numbers = np.asarray(getattr(self, name), np.int64)
            object.__setattr__(self, name, array("q", numbers.tobytes()))

    def is_unreferenced(self, pts: int | None) -> bool:
        """True if no other picture needs the one with this time."""
        if pts is None:
            return False
        place = bisect_left(self.unreferenced, pts)
        return place < len(self.unreferenced) and self.unreferenced[place] == pts

    def key(self, number: int) -> int:
        """Identifies a decoded frame: its time for "seek", otherwise its number."""
        return self.pts[number] if self.access == "seek" else number

    def groups(self, numbers: Iterable[int]) -> dict[int, list[int]]:
        """Groups the keys of frames by the last keyframe shown no later than the frame."""
        found: dict[int, list[int]] = {}
        for number in numbers:
            key = self.key(number)
            keyframe = self.keyframes[max(0, bisect_right(self.keyframes, key) - 1)]
            found.setdefault(keyframe, []).append(key)
        return found


@dataclass(frozen=True)
class IndexedVideo:
    """Everything known about a video before its frames are decoded.

    Attributes:
        info: Public facts.
        index: Frame index.
        coded_size: Width and height in pixels before rotation.
        tick_s: Length of one tick of `index.pts` in seconds.
    """

    info: VideoInfo
    index: FrameIndex
    coded_size: tuple[int, int]
    tick_s: float


def build_index(container: Container) -> IndexedVideo:
    """Reads all packets of a file and decodes its first frame; leaves the file open.

    Raises:
        UnreadableVideoError: truncated, without video, or not decodable.
    """
    container.reopen()
    try:
        index, line = _joined(_index_frames(container), container)
        # The first frame proves that the file decodes and has the size and the rotation.
        first = _first_frame(container, index)
        tick_s = float(container.stream.time_base or 0)
        info = replace(
            _video_info(container, index, first),
            time_steps=line.steps,
            time_outliers=line.outliers,
        )
        return IndexedVideo(info, index, (first.width, first.height), tick_s)
    except BaseException:
        container.close()
        raise


@dataclass(frozen=True)
class _Packets:
    """Facts about all packets, available without decoding; one array per fact."""

    pts: NDArray[np.int64]
    keyframe: NDArray[np.bool_]
    discard: NDArray[np.bool_]
    bytes: NDArray[np.int64]
    unreferenced: NDArray[np.bool_]
    ticks: NDArray[np.int64]  # durations

    @classmethod
    def read(cls, container: Container) -> "_Packets":
        decoder = container.decoder
        is_unreferenced = unreferenced_test(decoder.name, decoder.extradata)
        # Compact arrays in one pass, as hours of video have several hundred thousand packets.
        pts, sizes, ticks, flags = array("q"), array("q"), array("q"), bytearray()
        try:
            for packet in container.packets():
                pts.append(NO_PTS if packet.pts is None else packet.pts)
                sizes.append(packet.size)
                ticks.append(packet.duration or 0)
                flags.append(
                    packet.is_keyframe | packet.is_discard << 1 | is_unreferenced(packet) << 2
                )
        except av.FFmpegError as error:
            raise container.unreadable(reason_of(error)) from error
        if not pts:
            raise container.unreadable("its video stream is empty")
        bits = np.frombuffer(flags, np.uint8)
        return cls(
            pts=np.frombuffer(pts, np.int64),
            keyframe=(bits & 1) > 0,
            discard=(bits & 2) > 0,
            bytes=np.frombuffer(sizes, np.int64),
            unreferenced=(bits & 4) > 0,
            ticks=np.frombuffer(ticks, np.int64),
        )

    def times(self, chosen: NDArray[np.bool_]) -> "array[int]":
        """Known times of the chosen packets, ascending."""
        return array("q", np.sort(self.pts[chosen & (self.pts != NO_PTS)]).tobytes())

    def rise(self, *, most_moved: int) -> bool:
        """True if no shown packet is further than this from its place in order of time."""
        shown = self.pts[~self.discard]
        moved = np.argsort(np.argsort(shown)) - np.arange(len(shown))
        keyframes = self.pts[self.keyframe & ~self.discard]
        return bool(np.abs(moved).max() <= most_moved and np.all(np.diff(keyframes) > 0))


def _index_frames(container: Container) -> FrameIndex:
    """Builds the index from packets, and decodes only where these are not reliable."""
    formats, decoder = set(container.format.split(",")), container.decoder
    packets = _Packets.read(container)
    if "mov" in formats:
        _check_not_truncated(container)
    # Packets marked "discard" (edit lists) are decoded but never shown.
    shown = ~packets.discard
    pts = packets.times(shown)
    timed = len(pts) > 0 and len(np.unique(pts)) == shown.sum()
    # Seeking is exact only if the file begins with the keyframe of its first group. Otherwise
    # the first frames may need pictures that are not in the file, and decoders leave them out.
    most_moved = _REORDERED if decoder.has_b_frames else 0
    seekable = formats & _SEEKABLE and timed and packets.rise(most_moved=most_moved)
    # In MP4 durations count from one packet to the next, so the last packet has the last frame's.
    last_ticks = int(packets.ticks[-1])
    if seekable and packets.keyframe[0] and NO_PTS < packets.pts[0] <= pts[0]:
        keyframes = packets.times(packets.keyframe)
        unreferenced = packets.times(shown & packets.unreferenced)
        return FrameIndex(len(pts), "seek", pts, keyframes, unreferenced, last_ticks)
    # In AVI without B-frames a frame's number is its packet's number, so whole groups can be
    # skipped without decoding; seeking in AVI is not exact.
    plain_avi = "avi" in formats and not decoder.has_b_frames
    if plain_avi and packets.bytes.min() > _EMPTY_PACKET_BYTES:
        times = pts if timed else ()
        if decoder.name in _ONE_FRAME_PER_PACKET and packets.keyframe[0]:
            numbers = np.flatnonzero(packets.keyframe).tolist()
            return FrameIndex(len(packets.pts), "skip", times, numbers, (), last_ticks)
        return FrameIndex(len(packets.pts), "start", times, (), (), last_ticks)
    return _count_by_decoding(container, promised=int(shown.sum()))


def _check_not_truncated(container: Container) -> None:
    """Compares the byte ranges of frames in an MP4 or MOV header with the file size."""
    entries, size = container.stream.index_entries, container.stat.st_size
    cut = sum(entry.pos + entry.size > size for entry in entries)
    if cut:
        raise container.unreadable(
            f"it is truncated: its header promises {len(entries)} frames, "
            f"{len(entries) - cut} are in the file"
        )


def _count_by_decoding(container: Container, *, promised: int) -> FrameIndex:
    """Decodes the whole file; a damaged one keeps the number of frames its packets promise."""
    container.reopen()
    times: list[int | None] = []
    frames = last_ticks = 0
    try:
        for frame in container.frames():
            times.append(frame.pts)
            last_ticks = frame.duration or 0
    except av.FFmpegError:
        frames = promised
    frames = max(frames, len(times))
    known = tuple(t for t in times if t is not None)
    return FrameIndex(frames, "start", known if len(known) == frames else (), last_ticks=last_ticks)


def _joined(index: FrameIndex, container: Container) -> tuple[FrameIndex, RisingTimes]:
    """Puts the times of frames in decoding order on one rising line, which counts its steps."""
    line = RisingTimes(period=round(_frame_ticks(container)), wrap=container.wrap_ticks)
    if index.access == "seek" or not index.pts:
        return index, line
    first, *others = index.pts
    pts = [line.begin(first, at=first)]
    pts += [line.place(own, later=later) for own, later in looking_ahead(others, int)]
    if line.steps or line.outliers:
        _log.warning(
            "%s: its times start again at %d places, and %d frames have a wrong time. They were "
            "put on one rising line.",
            *(container.path, line.steps, line.outliers),
        )
    return replace(index, pts=[int(time) for time in pts]), line


def _frame_ticks(container: Container) -> Fraction:
    """Frame period in ticks of the stream; 0 if unknown."""
    rate, time_base = _rate(container), container.stream.time_base
    return 1 / (rate * time_base) if rate and time_base else Fraction(0)


def _rate(container: Container) -> Fraction:
    return container.stream.average_rate or container.stream.guessed_rate or Fraction(0)


def _first_frame(container: Container, index: FrameIndex) -> VideoFrame:
    """Decodes the first frame."""
    # Where seeking is exact, the file need not be opened a second time.
    if index.access == "seek":
        with suppress(av.FFmpegError):
            container.seek(index.keyframes[0])
            packet = next(container.packets(), None)
            for frame in () if packet is None else container.decode_and_drain(packet):
                return frame
    container.reopen()
    reason = "the stream holds none"
    try:
        for frame in container.frames():
            return frame
    except av.FFmpegError as error:
        reason = reason_of(error)
    raise container.unreadable(f"it has a video stream, but no frame could be decoded ({reason})")


def _video_info(container: Container, index: FrameIndex, first: VideoFrame) -> VideoInfo:
    stream = container.stream
    quarter_turns, mirrored = display_of(first)
    width, height = (first.width, first.height)[:: -1 if quarter_turns % 2 else 1]
    rate = float(_rate(container))
    duration_s = index.frames / rate if rate else 0.0
    if index.pts:
        ticks = index.pts[-1] - index.pts[0] + (index.last_ticks or _frame_ticks(container))
        duration_s = float(ticks * (stream.time_base or 0))
    return VideoInfo(
        path=str(container.path),
        frames=index.frames,
        rate_hz=rate,
        duration_s=duration_s,
        width=width,
        height=height,
        rotation_deg=90 * quarter_turns,
        codec=stream.codec_context.name,
        container=container.format,
        mirrored=mirrored,
    )


def unreferenced_test(codec: str, extradata: bytes | None) -> Callable[[Any], bool]:
    """Makes a test for packets whose picture no other picture needs; False where unknown.

    For H.264 in MP4 or Matroska `extradata`, the header of the stream, holds the number of bytes
    in the length field before every unit (ISO/IEC 14496-15, 5.3.3.1).
    """
    if codec != "h264" or not extradata or len(extradata) < 7 or extradata[0] != 1:
        return lambda packet: False
    length_bytes = (extradata[4] & 3) + 1
    return lambda packet: _has_only_unreferenced_slices(memoryview(packet), length_bytes)


def _has_only_unreferenced_slices(data: memoryview, length_bytes: int) -> bool:
    """True if all units are harmless and all slices have nal_ref_idc 0 (H.264, 7.4.1)."""
    place, slices, end = 0, 0, len(data)
    while place + length_bytes < end:
        head = data[place + length_bytes]
        kind, importance = head & 31, head >> 5 & 3
        if kind not in _HARMLESS_UNITS or (kind == _SLICE and importance):
            return False
        slices += kind == _SLICE
        place += length_bytes + int.from_bytes(data[place : place + length_bytes], "big")
    return slices > 0 and place == end
