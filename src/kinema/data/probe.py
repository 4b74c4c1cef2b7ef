"""Finding out what there is to know of a video file before its frames are wanted.

MP4/MOV and Matroska/WebM tell from their packets where every frame is. In AVI without B-frames
every packet is a frame. Other containers seek to wrong places or may leave frames out (MPEG-TS,
MPEG-PS, GIF, AVI with B-frames), and so may files that begin in the middle of a group: of these
the frames are counted by decoding.
"""

from collections.abc import Sequence
from contextlib import suppress
from itertools import islice

import av
import numpy as np
from av.video.frame import VideoFrame

from kinema.data.container import Container, reason_of
from kinema.data.display import display_of
from kinema.data.packet_index import NO_PTS, FrameIndex, IndexedVideo, Packets, unreferenced_test
from kinema.types import VideoInfo

# Containers whose packet times and keyframe flags can be trusted for seeking.
_INDEXED = frozenset({"mov", "mp4", "matroska", "webm"})

# Codecs whose key frames begin anew, in AVI without B-frames, where a packet is a frame.
_ONE_FRAME_PER_PACKET = frozenset({"mjpeg", "mpeg4"})

# An AVI packet this small says "nothing changed" and may give no frame.
_EMPTY_PACKET_BYTES = 16


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
