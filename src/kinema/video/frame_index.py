"""Frame index of a video file, built from its packets.

MP4/MOV and Matroska/WebM tell from their packets where every frame is. In AVI without B-frames
every packet is a frame. Other containers seek to wrong places or may leave frames out (MPEG-TS,
MPEG-PS, GIF, AVI with B-frames), and so may files that begin in the middle of a group: of these
the frames are counted by decoding.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from kinema.values import VideoInfo
from kinema.video.container import Container, reason_of
from kinema.video.display import display_of

# Containers whose packet times and keyframe flags can be trusted for seeking.
_INDEXED = frozenset({"mov", "mp4", "matroska", "webm"})

# Codecs whose key frames begin anew, in AVI without B-frames, where a packet is a frame.
_ONE_FRAME_PER_PACKET = frozenset({"mjpeg", "mpeg4"})

# An AVI packet this small says "nothing changed" and may give no frame.
_EMPTY_PACKET_BYTES = 16

# H.264 units that may stand in a picture nobody refers to: slice, SEI, delimiter, filler. A
# packet with any other, such as a new parameter set, is needed by later ones.
_SLICE, _HARMLESS_UNITS = 1, frozenset({1, 6, 9, 12})

# How wanted frames are reached: by decoding from the start of the file; by seeking to a keyframe;
# by reading all packets from the start and decoding only those of the wanted groups.
Reach = Literal["start", "seek", "skip"]

# Stands for a time that a packet does not tell.
NO_PTS = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Packets:
    """What the coded pictures of a video tell before they are decoded, an array for each fact."""

    pts: NDArray[np.int64]
    keyframe: NDArray[np.bool_]
    discard: NDArray[np.bool_]
    bytes: NDArray[np.int64]
    unreferenced: NDArray[np.bool_]

    @classmethod
    def read(cls, packets: Iterable[Any], unreferenced: Callable[[Any], bool]) -> "Packets":
        """Goes through the packets once; a video of hours has some hundred thousand."""
        pts, sizes, flags = array("q"), array("q"), bytearray()
        for packet in packets:
            pts.append(NO_PTS if packet.pts is None else packet.pts)
            sizes.append(packet.size)
            kind = packet.is_keyframe | packet.is_discard << 1 | unreferenced(packet) << 2
            flags.append(kind)
        kinds = np.frombuffer(flags, np.uint8)
        return cls(
            pts=np.frombuffer(pts, np.int64),
            keyframe=(kinds & 1) > 0,
            discard=(kinds & 2) > 0,
            bytes=np.frombuffer(sizes, np.int64),
            unreferenced=(kinds & 4) > 0,
        )

    def times(self, chosen: NDArray[np.bool_]) -> "array[int]":
        """The known times of some packets, rising."""
        return array("q", np.sort(self.pts[chosen & (self.pts != NO_PTS)]).tobytes())


@dataclass(frozen=True)
class FrameIndex:
    """The frames of a video and how to reach them.

    Attributes:
        frames: Their exact number.
        reach: How wanted frames are reached.
        pts: Their times in ticks of the stream, rising; empty if not all are known.
        keyframes: Where decoding may begin, rising: times for "seek", frame numbers for "skip".
        unreferenced: Times of pictures that no other picture needs, rising ("seek" only).

    The numbers are kept as machine integers: a video of hours has some hundred thousand.
    """

    frames: int
    reach: Reach = "start"
    pts: Sequence[int] = ()
    keyframes: Sequence[int] = ()
    unreferenced: Sequence[int] = ()

    def __post_init__(self) -> None:
        for name in ("pts", "keyframes", "unreferenced"):
            numbers = np.asarray(getattr(self, name), np.int64)
            object.__setattr__(self, name, array("q", numbers.tobytes()))

    def is_unreferenced(self, time: int | None) -> bool:
        """Whether no other picture needs the one of this time."""
        if time is None:
            return False
        place = bisect_left(self.unreferenced, time)
        return place < len(self.unreferenced) and self.unreferenced[place] == time

    def place(self, number: int) -> int:
        """What a decoded frame is known by: its time for "seek", else its number."""
        return self.pts[number] if self.reach == "seek" else number

    def groups(self, numbers: Iterable[int]) -> dict[int, list[int]]:
        """The places of frames by the last keyframe that is shown no later."""
        found: dict[int, list[int]] = {}
        for number in numbers:
            place = self.place(number)
            key = self.keyframes[max(0, bisect_right(self.keyframes, place) - 1)]
            found.setdefault(key, []).append(place)
        return found


@dataclass(frozen=True)
class IndexedVideo:
    """All that is known of a video before a frame is decoded.

    Attributes:
        info: Facts for the user.
        index: Its frames.
        coded_size: Width and height in pixels before the rotation.
        tick_s: Length of one tick of `index.pts` in seconds.
    """

    info: VideoInfo
    index: FrameIndex
    coded_size: tuple[int, int]
    tick_s: float


def unreferenced_test(codec: str, extradata: bytes | None) -> Callable[[Any], bool]:
    """A test whether no other picture needs that of a packet; always false where one cannot tell.

    Args:
        codec: Name of the codec.
        extradata: Head of the stream. That of H.264 in MP4 or Matroska says how many bytes the
            length before every unit has (ISO/IEC 14496-15, 5.3.3.1).
    """
    if codec != "h264" or not extradata or len(extradata) < 7 or extradata[0] != 1:
        return lambda packet: False
    length_bytes = (extradata[4] & 3) + 1
    return lambda packet: _only_unreferenced_slices(memoryview(packet), length_bytes)


def _only_unreferenced_slices(data: memoryview, length_bytes: int) -> bool:
    """Whether all units are harmless and all slices have nal_ref_idc 0 (H.264, 7.4.1)."""
    place, slices, end = 0, 0, len(data)
    while place + length_bytes < end:
        head = data[place + length_bytes]
        kind, importance = head & 31, head >> 5 & 3
        if kind not in _HARMLESS_UNITS or (kind == _SLICE and importance):
            return False
        slices += kind == _SLICE
        place += length_bytes + int.from_bytes(data[place : place + length_bytes], "big")
    return slices > 0 and place == end


def probe(container: Container) -> IndexedVideo:
    """Reads the packets of a file and decodes its first frame; the file stays open.

    Raises:
        UnreadableVideoError: truncated, no video in it, or not decodable.
    """
    container.restart()
    try:
        index = _scan(container)
        return _described(container, index, _first_frame(container, index))
    except BaseException:
        container.close()
        raise


def _scan(container: Container) -> FrameIndex:
    """Finds the frames by reading the packets, decoding only where these do not tell."""
    names = set(container.format.split(","))
    packets = _all_packets(container)
    if "mov" in names:
        _check_whole(container)
    shown = ~packets.discard
    pts = packets.times(shown)
    timed = len(pts) > 0 and len(np.unique(pts)) == shown.sum()
    if names & _INDEXED and timed and _begins_with_group(packets, pts):
        keyframes = packets.times(packets.keyframe)
        unneeded = packets.times(shown & packets.unreferenced)
        return FrameIndex(len(pts), "seek", pts, keyframes, unneeded)
    decoder = container.decoder
    plain_avi = "avi" in names and not decoder.has_b_frames
    if plain_avi and packets.bytes.min() > _EMPTY_PACKET_BYTES:
        times = pts if timed else ()
        keys = np.flatnonzero(packets.keyframe).tolist()
        if decoder.name in _ONE_FRAME_PER_PACKET and packets.keyframe[0]:
            return FrameIndex(len(packets.pts), "skip", times, keys)
        return FrameIndex(len(packets.pts), "start", times)
    return _count(container, int(shown.sum()))


def _all_packets(container: Container) -> Packets:
    decoder = container.decoder
    unreferenced = unreferenced_test(decoder.name, decoder.extradata)
    try:
        packets = Packets.read(container.packets(), unreferenced)
    except av.FFmpegError as error:
        raise container.unreadable(reason_of(error)) from error
    if len(packets.pts) == 0:
        raise container.unreadable("its video stream is empty")
    return packets


def _check_whole(container: Container) -> None:
    """Compares the places of the frames in the header of an MP4 or MOV with the file."""
    entries, size = container.stream.index_entries, container.facts.st_size
    cut = sum(entry.pos + entry.size > size for entry in entries)
    if cut:
        raise container.unreadable(
            f"it is truncated: its header promises {len(entries)} frames, "
            f"{len(entries) - cut} are in the file"
        )


def _begins_with_group(packets: Packets, pts: Sequence[int]) -> bool:
    """Whether no frame needs a picture from before the file; such frames may be left out."""
    return bool(packets.keyframe[0]) and NO_PTS < packets.pts[0] <= pts[0]


def _count(container: Container, promised: int) -> FrameIndex:
    """Counts by decoding; of a damaged file it takes the number of its packets."""
    container.restart()
    times: list[int | None] = []
    frames = 0
    try:
        for frame in container.decoded():
            times.append(frame.pts)
    except av.FFmpegError:
        frames = promised
    frames = max(frames, len(times))
    known = tuple(t for t in times if t is not None)
    return FrameIndex(frames, "start", known if len(known) == frames else ())


def _first_frame(container: Container, index: FrameIndex) -> VideoFrame:
    """Decodes it from the start; by seeking there, where that is safe, to open only once."""
    if index.reach == "seek":
        with suppress(av.FFmpegError):
            container.seek(index.keyframes[0])
            for packet in islice(container.packets(), 1):
                for frame in container.at_once(packet):
                    return frame
    container.restart()
    reason = "the stream holds none"
    try:
        for frame in container.decoded():
            return frame
    except av.FFmpegError as error:
        reason = reason_of(error)
    raise container.unreadable(f"it has a video stream, but no frame could be decoded ({reason})")


def _described(container: Container, index: FrameIndex, first: VideoFrame) -> IndexedVideo:
    stream = container.stream
    quarter_turns, mirrored = display_of(first)
    width, height = (first.width, first.height)[:: -1 if quarter_turns % 2 else 1]
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    info = VideoInfo(
        path=str(container.path),
        frames=index.frames,
        rate_hz=rate,
        duration_s=index.frames / rate if rate else 0.0,
        width=width,
        height=height,
        rotation_deg=90 * quarter_turns,
        codec=stream.codec_context.name,
        container=container.format,
        mirrored=mirrored,
    )
    tick_s = float(stream.time_base or 0)
    return IndexedVideo(info, index, (first.width, first.height), tick_s)
