"""A video file as FFmpeg opens it: its packets, its frames, and what is wrong in plain words."""

import os
import re
import stat
from collections.abc import Iterator, Mapping
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

from kinema.errors import UnreadableVideoError
from kinema.system.closing import Closing

# Opens without decoding: enough where all that could be found out is known.
_KNOWN_ALREADY = {"probesize": "32", "analyzeduration": "0", "skip_frame": "all"}

# What FFmpeg also opens: text as a drawing, and single images with names such as "png_pipe".
_NO_VIDEO = ("image2", "tty", "_pipe")

# A title or comment may not be UTF-8. From 19 on PyAV always reads it; those before, which Python
# 3.11 gets, must be told.
_ANY_TITLE: dict[str, Any] = {}
if int(av.__version__.split(".")[0]) < 19:
    _ANY_TITLE["metadata_errors"] = "replace"

_Item = TypeVar("_Item")
CodedPacket: TypeAlias = "AvPacket[VideoStream]"


class Container(Closing):
    """The first moving picture of a file; nothing is opened before it is asked for.

    Args:
        path: The file.
        threads: Frames that are decoded at a time.
        options: For FFmpeg whenever it opens the file, such as a `format_whitelist`.

    Attributes:
        facts: Size and times of the file.

    Raises:
        UnreadableVideoError: there is no such file, or nothing in it.
    """

    def __init__(
        self, path: Path, *, threads: int = 1, options: Mapping[str, str] | None = None
    ) -> None:
        self.path = path
        self.facts = _file_facts(path)
        self._threads = threads
        self._options = dict(options or {})
        self._opened: tuple[InputContainer, VideoStream] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the file is held."""
        return self._opened is not None

    @property
    def stream(self) -> VideoStream:
        """The stream of pictures."""
        return self._now()[1]

    @property
    def decoder(self) -> VideoCodecContext:
        """The decoder of that stream."""
        return self.stream.codec_context

    @property
    def format(self) -> str:
        """FFmpeg's name of the container, such as "mov,mp4,m4a,3gp,3g2,mj2"."""
        return self._now()[0].format.name

    @property
    def start_s(self) -> float | None:
        """When its earliest stream begins, from which players count; None if the file is silent."""
        start = self._now()[0].start_time
        return None if start is None else start / av.time_base

    def restart(self, *, known: bool = False) -> None:
        """Stands at the start of the file again.

        Args:
            known: Whether all facts about the stream are known; then none are looked for.

        Raises:
            UnreadableVideoError: it is not a video.
        """
        self.close()
        self._opened = self._open({**self._options, **(_KNOWN_ALREADY if known else {})})

    def close(self) -> None:
        """Gives the file back."""
        if self._opened is not None:
            self._opened[0].close()
            self._opened = None

    def seek(self, pts: int) -> None:
        """Stands at the last keyframe up to a time; empties the decoder too."""
        container, stream = self._now()
        container.seek(pts, stream=stream)

    def packets(self) -> Iterator[CodedPacket]:
        """Coded packets from where the file stands; those without content are left out."""
        container, stream = self._now()
        return (packet for packet in _to_end(container.demux(stream)) if packet.size)

    def decoded(self) -> Iterator[VideoFrame]:
        """Frames from where the file stands."""
        container, stream = self._now()
        return _to_end(container.decode(stream))

    def at_once(self, packet: CodedPacket) -> list[VideoFrame]:
        """Decodes a packet and takes all frames the decoder would hold back for later ones."""
        decoder = self.decoder
        return [*decoder.decode(packet), *decoder.decode(None)]

    def unreadable(self, reason: str) -> UnreadableVideoError:
        """The error that names the file."""
        return UnreadableVideoError(f"{self.path} cannot be read: {reason}.")

    def _now(self) -> tuple[InputContainer, VideoStream]:
        assert self._opened is not None, "opened before"
        return self._opened

    def _open(self, options: dict[str, str]) -> tuple[InputContainer, VideoStream]:
        name = str(self.path.absolute())  # "a:b.mp4" alone would be taken for a URL
        try:
            container = open_container(name, options=options)
        except av.FFmpegError as error:
            raise self.unreadable(reason_of(error, self._options)) from error
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
                raise self.unreadable("there is no decoder for the codec of its video stream")
            decoder.thread_count = self._threads
            if self._threads > 1:
                decoder.thread_type = "FRAME"
            return container, moving[0]
        kinds = ", ".join(sorted({s.type for s in container.streams if s.type != "video"})) or "no"
        container.close()
        if moving:
            raise self.unreadable(f"it is an image or text ({form}), not a video")
        raise self.unreadable(f"it has no video stream (only {kinds} streams)")


def open_container(
    address: str,
    *,
    options: Mapping[str, str] | None = None,
    form: str | None = None,
    timeout_s: float | None = None,
) -> InputContainer:
    """Opens a file or an address for reading; closing it is left to the caller.

    Args:
        address: What FFmpeg shall open.
        options: For FFmpeg, such as a `format_whitelist`.
        form: FFmpeg's name of the format; left out: FFmpeg finds out.
        timeout_s: What opening, and later each reading, may take; left out: any time.

    Raises:
        av.FFmpegError: it cannot be opened.
    """
    timeout = None if timeout_s is None else (timeout_s, timeout_s)
    container: InputContainer = av.open(
        address, mode="r", format=form, options=dict(options or {}), timeout=timeout, **_ANY_TITLE
    )
    return container


def reason_of(error: Any, options: Mapping[str, str] | None = None) -> str:
    """The words of FFmpeg or the system for what went wrong, without the path.

    Args:
        error: What was raised.
        options: Those that the file was opened with.
    """
    allowed = (options or {}).get("format_whitelist")
    if allowed and isinstance(error, av.ArgumentError):  # FFmpeg's word for one not in the list
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


def _file_facts(path: Path) -> os.stat_result:
    """Size and times of a file that is there and not empty."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        is_address = re.match(r"(https?|rtsps?|rtmp|udp):/", str(path), re.IGNORECASE)
        fix = " It is an address: download it, or follow it with `kinema stream`."
        raise UnreadableVideoError(f"{path} does not exist.{fix if is_address else ''}") from None
    except OSError as error:
        raise UnreadableVideoError(f"{path} cannot be read: {reason_of(error)}.") from error
    if not stat.S_ISREG(facts.st_mode):
        raise UnreadableVideoError(f"{path} is not a file.")
    if facts.st_size == 0:
        raise UnreadableVideoError(f"{path} is empty (0 bytes).")
    return facts


def _to_end(items: Iterator[_Item]) -> Iterator[_Item]:
    try:
        yield from items
    except (av.EOFError, IndexError):
        # PyAV cannot flush a stream that appeared after the first packets: IndexError, at the
        # end of the file.
        return
