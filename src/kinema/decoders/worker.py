"""Processes that decode untrusted files; each one is confined and may be killed at any time.

`python -m kinema.decoders.worker FD` is their parent: it imports everything that decoding needs,
then forks a decoder for every channel it receives, which takes milliseconds. It ends, and kills
its decoders, when its caller is gone. A decoder is a plain loop: job in, frames out.

Letters: X crops, T frames, H, W.
"""

import ctypes
import io
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from kinema.data.sampling import sampling_of
from kinema.data.transforms import ViewTransform
from kinema.decoders import wire
from kinema.decoders.jobs import (
    ENDING,
    ClipsJob,
    DecoderCaps,
    FailureName,
    PictureJob,
    TimelineJob,
    VideoLimits,
    job_of,
)
from kinema.errors import KinemaError, UnreadableVideoError
from kinema.system.process import bound_memory
from kinema.timeline.grid import GridLimits, TooManyWindowsError, build_grid
from kinema.timeline.reading import GridFrames
from kinema.values import Views
from kinema.video.container import (
    TooManyPixelsError,
    check_pixels,
    header_duration_s,
    main_video,
    open_container,
    reason_of,
)
from kinema.video.decode import FrameSource, VideoFile, open_source

# Self-contained containers. Playlists and scripts (hls, dash, concat, ...), which make FFmpeg open
# other files or addresses, are missing on purpose, and so are devices and generated pictures.
CONTAINERS = (
    *("mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "asf", "ogg", "gif", "apng"),
    *("h264", "hevc", "av1", "obu", "ivf", "m4v", "mjpeg", "mxf", "nut", "yuv4mpegpipe", "dv"),
)
SANDBOX_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": ",".join(CONTAINERS)}

# Largest job: the bytes of one image.
_JOB_BYTES = 64 << 20
# Facts of a video that its answer has.
_SHOWN = ("frames", "duration_s", "rate_hz", "width", "height", "codec")
# Small frames of a timeline per message.
_RUN_FRAMES = 16

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

Answer = tuple[dict[str, Any], list[Any]]


class _LimitError(Exception):
    """The file exceeds a limit."""

    def __init__(self, reason: FailureName, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def main(descriptor: int) -> None:
    """Forks decoders on request until the other end of this socket is closed."""
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.SIG_IGN)  # the caller decides when its decoders end
    os.dup2(2, 1)  # stdout is for the caller's results, not for what a library prints
    torch.set_num_threads(1)
    Image.preinit()  # loads the image formats once for all decoders
    control = socket.socket(fileno=descriptor)
    alive: set[int] = set()
    try:
        while True:
            facts = wire.receive(control, most_bytes=0).facts
            if facts["do"] == "fork":
                # The caller's end of a new channel arrives as a file descriptor.
                _, (channel,), _, _ = socket.recv_fds(control, 1, 1)
                pid = os.fork()
                if pid == 0:
                    control.close()  # otherwise the caller's hanging up would go unnoticed
                    _decoder(socket.socket(fileno=channel), DecoderCaps(**facts["caps"]))
                os.close(channel)
                alive.add(pid)
                wire.send(control, {"pid": pid})
            elif facts["do"] == "end":
                wire.send(control, {"status": _end(facts["pid"], alive)})
    except EOFError:
        pass
    finally:
        for pid in tuple(alive):
            _end(pid, alive)
    os._exit(0)  # unloading PyTorch would take a while


def _end(pid: int, alive: set[int]) -> int | None:
    """Kills a decoder; returns its exit code, negative for a signal, None if it is not ours.

    A decoder that has ended already keeps its exit code: the kill has no effect on it.
    """
    if pid not in alive:
        return None
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    alive.remove(pid)
    return os.waitstatus_to_exitcode(status)


def _decoder(channel: socket.socket, caps: DecoderCaps) -> None:
    """Works on jobs until the channel is closed or this process is worn; never returns."""
    code = 1
    try:
        _confine(caps)
        while True:
            message = wire.receive(channel, most_bytes=_JOB_BYTES)
            if not _answer(channel, message, caps):
                break
    except (EOFError, BrokenPipeError, ConnectionResetError):
        code = 0
    finally:
        os._exit(code)  # skips the exit handlers inherited from the parent


def _confine(caps: DecoderCaps) -> None:
    """Limits memory, open files and writing; CPU time is limited anew for each job."""
    # A decoder that hangs does not notice when both its parent and its caller are killed.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    bound_memory(caps.memory_bytes)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (caps.open_files, caps.open_files))


def _allow_time(caps: DecoderCaps) -> None:
    """Lets the kernel end this process if its next job takes more than `cpu_s` of CPU time."""
    if caps.cpu_s is None:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + 1 + caps.cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


def _answer(channel: socket.socket, message: wire.Message, caps: DecoderCaps) -> bool:
    """Does one job; returns False if this process must not take another one."""
    try:
        _allow_time(caps)
        for facts, arrays in _frames(message):
            wire.send(channel, {"end": False, **facts}, arrays)
        wire.send(channel, {"end": True})
        return True
    except (BrokenPipeError, ConnectionResetError):
        raise  # the caller is gone
    except Exception as error:  # a file can cause any error of a library; the job answers with it
        reason, text = _failure(error)
    wire.send(channel, {"end": True, "failure": reason, "message": text})
    # After a failed allocation or a bug nobody knows the state of the libraries.
    return reason not in ENDING


def _failure(error: Exception) -> tuple[FailureName, str]:
    """Returns the reason why there are no frames, and a sentence about it."""
    if _is_memory(error):
        return "decoding_needs_memory", ""
    if isinstance(error, _LimitError):
        return error.reason, str(error)
    if isinstance(error, TooManyPixelsError):
        return "too_many_pixels", str(error)
    if isinstance(error, TooManyWindowsError):
        return "too_many_windows", str(error)
    if isinstance(error, KinemaError):
        return "unreadable", str(error)
    return "decoder_crashed", f"The decoder raised {type(error).__name__}: {error}."


def _is_memory(error: BaseException | None) -> bool:
    """Checks for a lack of memory, which NumPy, FFmpeg and PyTorch report differently."""
    while error is not None:
        text = str(error).lower()
        if isinstance(error, MemoryError) or "allocate memory" in text:
            return True
        error = error.__cause__
    return False


def _frames(message: wire.Message) -> Iterator[Answer]:
    job = job_of(message.facts)
    if isinstance(job, ClipsJob):
        return _clips(job)
    if isinstance(job, TimelineJob):
        return _timeline(job)
    return _picture(job, message.arrays[0].tobytes())


def _clips(job: ClipsJob) -> Iterator[Answer]:
    transform = ViewTransform(job.preprocessing, Views(clips=job.clips, crops=job.crops))
    with _opened(job.path, job.limits) as source:
        info = source.info
        yield {"info": {name: getattr(info, name) for name in _SHOWN}}, []
        # One clip at a time is in memory.
        for numbers_T in sampling_of(job.preprocessing).test(info.frames, job.clips):
            crops_XTCHW = transform(source.read(numbers_T))
            if isinstance(source, VideoFile):
                times_s = np.array(source.times_s(numbers_T))
            else:
                times_s = np.zeros(len(numbers_T))
            yield {}, [crops_XTCHW.numpy(), numbers_T, times_s]


def _timeline(job: TimelineJob) -> Iterator[Answer]:
    with _opened(job.path, job.limits) as source:
        if not isinstance(source, VideoFile):
            raise UnreadableVideoError(f"{job.path} is a folder of frames, which has no times.")
        how = job.preprocessing
        limits = GridLimits(job.windows, job.limits.frames)
        grid = build_grid(source, how, window_s=job.window_s, stride_s=job.stride_s, limits=limits)
        yield {"hop": grid.hop}, [grid.numbers_G, grid.starts_s, grid.ends_s, grid.shown_s]
        frames, run = GridFrames(source, grid, how), []
        for frame_CHW in frames:
            run.append(frame_CHW)
            if len(run) == _RUN_FRAMES:
                yield {"count": frames.count}, [torch.stack(run).numpy()]
                run = []
        last = [torch.stack(run).numpy()] if run else []
        yield {"count": frames.count, "error": frames.error}, last


def _picture(job: PictureJob, data: bytes) -> Iterator[Answer]:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            check_pixels(image.width, image.height, job.pixels)
            upright = ImageOps.exif_transpose(image).convert("RGB")
            yield {}, [np.asarray(upright)]
    except UnidentifiedImageError as error:
        raise UnreadableVideoError("The image is neither JPEG nor PNG.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableVideoError(f"The image cannot be read: {error}.") from error


def _opened(path: str, limits: VideoLimits | None) -> FrameSource:
    """Opens a video and checks it against the limits, if there are any."""
    if limits is None:
        return open_source(path)
    # The header comes first, because opening a video decodes its first frame. It may lie, so the
    # opened video is checked again, and every frame that is decoded.
    if os.path.isfile(path) and os.path.getsize(path):
        _check_header(path, limits)
    source = open_source(path, options=SANDBOX_OPTIONS, most_pixels=limits.pixels)
    info = source.info
    check_pixels(info.width, info.height, limits.pixels)
    if info.frames > limits.frames:
        raise _LimitError(
            "too_many_frames",
            f"{path} has {info.frames} frames, more than the limit of {limits.frames}.",
        )
    _check_duration(path, info.duration_s, limits)
    return source


def _check_header(path: str, limits: VideoLimits) -> None:
    """Checks size and length in the header, without decoding anything.

    Raises:
        UnreadableVideoError: the container is damaged or may name other files.
    """
    try:
        with open_container(path, options=SANDBOX_OPTIONS) as container:
            stream, duration_s = main_video(container), header_duration_s(container)
            if stream is not None and stream.codec_context:
                check_pixels(stream.width, stream.height, limits.pixels)
            if duration_s is not None:
                _check_duration(path, duration_s, limits)
    except av.FFmpegError as error:
        raise UnreadableVideoError(
            f"{path} cannot be read: {reason_of(error, SANDBOX_OPTIONS)}."
        ) from error


def _check_duration(path: str, duration_s: float, limits: VideoLimits) -> None:
    if duration_s > limits.duration_s:
        raise _LimitError(
            "too_long",
            f"{path} lasts {duration_s:.1f} s, longer than the limit of {limits.duration_s:g} s.",
        )


if __name__ == "__main__":
    main(int(sys.argv[1]))
