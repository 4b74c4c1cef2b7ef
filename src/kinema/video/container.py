"""A video file opened by FFmpeg: its packets, its decoded frames, and readable errors."""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import av
from av.codec import CodecContext
from av.container import InputContainer
from av.packet import Packet as AvPacket
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from kinema.errors import KinemaError, UnreadableVideoError
from kinema.system.closing import Closing
from kinema.system.files import near_path

# FFmpeg options that skip its analysis of the stream. With a cached index nothing is left to find.
_SKIP_ANALYSIS = {"probesize": "32", "analyzeduration": "0", "skip_frame": "all"}

# Formats that FFmpeg also opens: text rendered as pictures, single images ("png_pipe").
_NOT_VIDEO = ("image2", "tty", "_pipe")

# Titles and comments may not be UTF-8. PyAV replaces bad bytes by default only from version 19 on.
_METADATA_ERRORS: dict[str, Any] = {}
if int(av.__version__.split(".")[0]) < 19:
    _METADATA_ERRORS["metadata_errors"] = "replace"

# MPEG streams count time in 33 bits, and their headers have no duration.
_MPEG_STREAMS = ("hls", "mpeg", "mpegts")
_MPEG_WRAP_S = Fraction(2**33, 90_000)

_Item = TypeVar("_Item")
CodedPacket: TypeAlias = "AvPacket[VideoStream]"


class TooManyPixelsError(KinemaError):
    """A frame is larger than allowed."""


class Container(Closing):
    """The main video stream of a file. Call `open` or `reopen` before reading from it.

    Args:
        path: The file.
        threads: Decoder threads.
        options: FFmpeg options for every opening of the file, such as a `format_whitelist`.
        most_pixels: Largest width times height of a frame; None for no limit.

    Attributes:
        stat: Size and modification time of the file.
        stream: Video stream of the open file, see `main_video`.

    Raises:
        UnreadableVideoError: the file does not exist, is no regular file, or is empty.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 1,
        options: Mapping[str, str] | None = None,
        most_pixels: int | None = None,
    ) -> None:
        self.path = path
        self.stat = _file_stat(path)
        self._threads = threads
        self._most_pixels = most_pixels
        self._options = dict(options or {})
        self._is_open = False
        self._input: InputContainer
        self.stream: VideoStream

    def open(self, *, skip_analysis: bool = False) -> None:
        """Opens the file unless it is open already; see `reopen`."""
        if not self._is_open:
            self.reopen(skip_analysis=skip_analysis)

    def reopen(self, *, skip_analysis: bool = False) -> None:
        """Opens the file at its start, for a known index without FFmpeg's analysis of the stream.

        Raises:
            UnreadableVideoError: it is not a video.
        """
        self.close()
        options = {**self._options, **(_SKIP_ANALYSIS if skip_analysis else {})}
        try:
            # FFmpeg would take the relative path "a:b.mp4" for a URL.
            container = open_container(str(self.path.absolute()), options=options)
        except av.FFmpegError as error:
            raise self.unreadable(reason_of(error, self._options)) from error
        stream = main_video(container)
        problem = _no_video_reason(container, stream)
        if stream is None or problem is not None:
            container.close()
            raise self.unreadable(str(problem))
        decoder = stream.codec_context
        decoder.thread_count = self._threads
        if self._threads > 1:
            decoder.thread_type = "FRAME"
        self._input, self.stream, self._is_open = container, stream, True

    def close(self) -> None:
        """Closes the file."""
        if self._is_open:
            self._input.close()
            self._is_open = False

    @property
    def decoder(self) -> VideoCodecContext:
        """Decoder of the video stream."""
        return self.stream.codec_context

    @property
    def format(self) -> str:
        """FFmpeg's name of the container format, such as "mov,mp4,m4a,3gp,3g2,mj2"."""
        return self._input.format.name

    @property
    def start_s(self) -> float | None:
        """Start time of the earliest stream, the zero of players; None if the file has none."""
        start = self._input.start_time
        return None if start is None else start / av.time_base

    @property
    def wrap_ticks(self) -> int | None:
        """Ticks of the video stream after which its clock starts at 0 again; None for most."""
        wrap, tick_s = wrap_s(self._input), self.stream.time_base
        return None if wrap is None or not tick_s else round(wrap / tick_s)

    def seek(self, pts: int) -> None:
        """Seeks to the last keyframe at or before a time and flushes the decoder."""
        self._input.seek(pts, stream=self.stream)

    def packets(self) -> Iterator[CodedPacket]:
        """Coded packets from the current position; empty ones are left out."""
        return (packet for packet in to_end(self._input.demux(self.stream)) if packet.size)

    def frames(self) -> Iterator[VideoFrame]:
        """Decoded frames from the current position."""
        for packet in to_end(self._input.demux(self.stream)):
            yield from self.decode(packet)

    def decode(self, packet: "CodedPacket | None") -> list[VideoFrame]:
        """Decodes a packet; None drains the decoder.

        Raises:
            TooManyPixelsError: a frame is larger than allowed; a stream may grow on the way.
        """
        frames = self.decoder.decode(packet)
        if self._most_pixels is not None:
            # The decoder has the size of the newest picture, which it may hold back for a while.
            check_pixels(self.decoder.width, self.decoder.height, self._most_pixels)
            for frame in frames:
                check_pixels(frame.width, frame.height, self._most_pixels)
        return frames

    def decode_and_drain(self, packet: CodedPacket) -> list[VideoFrame]:
        """Decodes a packet and drains all frames that the decoder still holds back."""
        return [*self.decode(packet), *self.decode(None)]

    def unreadable(self, reason: str) -> UnreadableVideoError:
        """Makes an error that names the file."""
        return UnreadableVideoError(f"{self.path} cannot be read: {reason}.")


def open_container(
    address: str,
    *,
    options: Mapping[str, str] | None = None,
    input_format: str | None = None,
    timeout_s: float | None = None,
) -> InputContainer:
    """Opens a file, URL or device for reading; the caller closes it.

    Options and names of input formats are FFmpeg's; the timeout limits opening and each read.

    Raises:
        av.FFmpegError: it cannot be opened.
    """
    timeout = None if timeout_s is None else (timeout_s, timeout_s)
    container: InputContainer = av.open(
        address,
        mode="r",
        format=input_format,
        options=dict(options or {}),
        timeout=timeout,
        **_METADATA_ERRORS,
    )
    return container


def main_video(container: InputContainer) -> VideoStream | None:
    """Video stream that players show: a default one, of these the largest, of equals the first.

    Previews and other qualities may come before it. None if the file holds no video stream; the
    cover image of a song is none.
    """
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]

    def rank(stream: VideoStream) -> tuple[bool, int]:
        decoder: VideoCodecContext | None = stream.codec_context  # PyAV's types hide the None
        pixels = decoder.width * decoder.height if decoder else 0
        return bool(stream.disposition & Disposition.default), pixels

    return max(streams, key=rank, default=None)


def check_pixels(width: int, height: int, most: int) -> None:
    """Raises a `TooManyPixelsError` for a frame with more pixels than `most`."""
    if width * height > most:
        raise TooManyPixelsError(
            f"A frame has {width} x {height} pixels, more than the limit of {most}."
        )


def header_duration_s(container: InputContainer) -> float | None:
    """Duration in the header of a file; None if it has none.

    FFmpeg estimates that of MPEG streams from the times at both ends, which may be of two
    recordings.
    """
    if container.duration is None or container.format.name in _MPEG_STREAMS:
        return None
    return container.duration / av.time_base


def wrap_s(container: InputContainer) -> Fraction | None:
    """Seconds after which the clock of a file or stream starts at 0 again; None for most."""
    return _MPEG_WRAP_S if container.format.name in _MPEG_STREAMS else None


def reason_of(error: Any, options: Mapping[str, str] | None = None) -> str:
    """Readable reason of an FFmpeg or system error for a file opened with these options."""
    allowed = (options or {}).get("format_whitelist")
    # FFmpeg answers "invalid argument" for a format outside of the whitelist.
    if allowed and isinstance(error, av.ArgumentError):
        names = allowed.split(",")
        return (
            f"it is not in one of the accepted containers ({', '.join(names[:8])}"
            f"{' ...' if len(names) > 8 else ''}); playlists and lists of other files are refused"
        )
    text = str(getattr(error, "strerror", "") or error)
    if "Invalid data" in text:
        return "it is damaged or not a video"
    if text == "End of file":
        return "it is truncated (end of file)"
    return text[:1].lower() + text[1:]


def _no_video_reason(container: InputContainer, stream: VideoStream | None) -> str | None:
    """Reason why a file cannot be decoded as a video; None if it can."""
    name = container.format.name
    if stream is None:
        kinds = sorted({s.type for s in container.streams if s.type != "video"})
        return f"it has no video stream (only {', '.join(kinds) or 'no'} streams)"
    if name.endswith(_NOT_VIDEO):
        return f"it is an image or text ({name}), not a video"
    decoder: CodecContext | None = stream.codec_context  # PyAV's types hide the None
    return None if decoder else "there is no decoder for the codec of its video stream"


def _file_stat(path: Path) -> os.stat_result:
    """Checks that a file exists and is not empty, and returns its size and times."""
    try:
        result = path.stat()
    except FileNotFoundError:
        is_address = re.match(r"(https?|s3|gs|rtsps?|rtmp|udp):/", str(path), re.IGNORECASE)
        fix = " It is a URL: download it, or use `kinema predict` or `kinema stream`."
        hint = fix if is_address else near_path(path)
        raise UnreadableVideoError(f"{path} does not exist.{hint}") from None
    except ValueError as error:  # a null character, or half of a surrogate pair
        raise UnreadableVideoError(f"{str(path)!a} cannot be the name of a file.") from error
    except OSError as error:
        raise UnreadableVideoError(f"{path} cannot be read: {reason_of(error)}.") from error
    if not stat.S_ISREG(result.st_mode):
        raise UnreadableVideoError(f"{path} is not a file.")
    if result.st_size == 0:
        raise UnreadableVideoError(f"{path} is empty (0 bytes).")
    return result


def to_end(items: Iterator[_Item]) -> Iterator[_Item]:
    """Ends normally where PyAV raises at the end of a file or stream."""
    try:
        yield from items
    except (av.EOFError, IndexError):
        # IndexError: PyAV cannot flush a stream that appeared after the first packets.
        return
