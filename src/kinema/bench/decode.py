"""Benchmark of decoding a few frames: CPU time per video of kinema and others, by kind of video."""

import importlib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from kinema.bench.result import Measurement
from kinema.bench.timing import Timing, alternate
from kinema.data.prepare import ENCODERS
from kinema.errors import OptionError, UnknownNameError, did_you_mean
from kinema.synthetic.motion_set import MotionSettings, render_video
from kinema.video.decode import VideoFile
from kinema.video.index_cache import IndexCache

FRAMES = 8
PYAV, DECORD = "PyAV, all frames in order", "decord"
SCANNED, CACHED = "kinema, first opening", "kinema, index cached"
_WINDOW_FRAMES = 64  # of the dense kind
_READ_FRAMES = 300  # maximum length of the clip; longer videos play it back and forth
_GROUPS_OF_12 = {"crf": "23", "g": "12", "keyint_min": "12", "sc_threshold": "0"}
_GROUPS_OF_250 = {"crf": "23", "g": "250", "sc_threshold": "0"}
_VP9 = {"crf": "32", "b": "0", "cpu-used": "4"}

Read = Callable[[Path, list[int]], Any]


@dataclass(frozen=True)
class VideoKind:
    """Coding of a kind of video."""

    suffix: str  # selects the container
    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=dict)  # of the encoder
    size: tuple[int, int] = (320, 240)  # width and height in pixels
    rate_hz: int = 30
    length: float = 1.0  # duration relative to the other kinds
    dense: bool = False  # takes frames from one window instead of the whole video


KINDS: dict[str, VideoKind] = {
    "h264 GOP 12": VideoKind("mp4", options=_GROUPS_OF_12),
    "h264 GOP 12, dense": VideoKind("mp4", options=_GROUPS_OF_12, dense=True),
    "h264 GOP 250": VideoKind("mp4", options=_GROUPS_OF_250),
    "short side 256 copy": VideoKind(
        "mp4", options={**ENCODERS["libx264"], "g": "12"}, size=(340, 256)
    ),
    "h264 all-intra": VideoKind("mp4", options={"crf": "23", "g": "1"}),
    "mjpeg mp4": VideoKind("mp4", "mjpeg", {"g": "1"}),
    "mjpeg avi": VideoKind("avi", "mjpeg", {"g": "1"}),
    "vp9 webm": VideoKind("webm", "libvpx-vp9", _VP9, size=(426, 240), rate_hz=12, length=0.4),
    "mpeg4 avi": VideoKind("avi", "mpeg4", {"b": "800000", "g": "12", "bf": "0"}),
}


def measure_decode(
    *,
    clip: str | Path | None = None,
    kinds: Sequence[str] = tuple(KINDS),
    seconds: float = 10.0,
    rounds: int = 9,
) -> Measurement:
    """Measures the CPU time of opening a video, reading 8 frames as RGB and closing it.

    Every form decodes with one thread. The videos are encoded from one clip.

    Args:
        clip: Video to encode; default: one of the synthetic motion set.
        kinds: Names from `KINDS`.
        seconds: Duration of the videos; 0.4 times that for the WebM.
        rounds: Timed rounds; the median counts.

    Returns:
        A row per kind and form. `ratio` is the CPU time over that of decord or, without it, of
        decoding all frames with PyAV.

    Raises:
        OptionError: a video would have fewer than 8 frames.
        UnknownNameError: the kind does not exist.
        UnreadableVideoError: the clip cannot be read.
    """
    for name in kinds:
        if name not in KINDS:
            raise UnknownNameError(f"Unknown kind {name!r}. " + did_you_mean(name, KINDS))
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory(prefix="kinema_bench_") as folder:
        forms, notes = _forms(IndexCache(Path(folder) / "index"))
        against = DECORD if DECORD in forms else PYAV
        pictures = _pictures(clip)
        for number, name in enumerate(kinds):
            path = Path(folder) / f"{number}.{KINDS[name].suffix}"
            frames = _write_video(path, KINDS[name], pictures, seconds)
            wanted = _wanted(frames, dense=KINDS[name].dense)
            runs = {form: partial(read, path, wanted) for form, read in forms.items()}
            timings = alternate(runs, rounds=rounds, clock=time.process_time)
            rows += _rows(name, timings, against)
    source = "synthetic motion" if clip is None else Path(clip).name
    settings = {"clip": source, "frames": FRAMES, "seconds": seconds, "rounds": rounds}
    return Measurement("decode", {**settings, "against": against}, rows, notes)


def _forms(cache: IndexCache) -> tuple[dict[str, Read], tuple[str, ...]]:
    """Functions that read the frames, by name, and notes for the reader."""
    forms: dict[str, Read] = {PYAV: _read_in_order}
    notes = ["CPU time of the whole process; one decoding thread; frames in RGB at full size."]
    with suppress(ImportError):
        forms[DECORD] = partial(_read_decord, importlib.import_module("decord"))
    if DECORD not in forms:
        notes.append("decord is not installed (pip install decord) and was left out.")
    forms[SCANNED] = partial(_read_kinema, None)
    forms[CACHED] = partial(_read_kinema, cache)
    return forms, tuple(notes)


def _read_in_order(path: Path, wanted: list[int]) -> list[NDArray[Any]]:
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        frames = islice(container.decode(video=0), wanted[-1] + 1)
        return [f.to_ndarray(format="rgb24") for n, f in enumerate(frames) if n in wanted]


def _read_decord(decord: Any, path: Path, wanted: list[int]) -> Any:
    return decord.VideoReader(str(path), num_threads=1).get_batch(wanted).asnumpy()


def _read_kinema(cache: IndexCache | None, path: Path, wanted: list[int]) -> Any:
    with VideoFile(path, index_cache=cache) as source:
        return source.read(wanted)


def _pictures(clip: str | Path | None) -> list[NDArray[np.uint8]]:
    """Frames (H, W, 3) of the clip or of a rendered one."""
    if clip is not None:
        with VideoFile(clip) as source:
            return list(islice(source.in_order(), _READ_FRAMES))
    settings = MotionSettings(size_px=256, min_frames=96, max_frames=96, camera=0.5)
    return list(render_video("rotate_cw", (0,), settings))


def _write_video(
    path: Path, kind: VideoKind, pictures: list[NDArray[np.uint8]], seconds: float
) -> int:
    """Encodes the pictures, played back and forth, and returns the number of frames."""
    frames = round(seconds * kind.length * kind.rate_hz)
    if frames < FRAMES:
        raise OptionError(f"Videos need at least {FRAMES} frames, {seconds} s give {frames}.")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(kind.codec, rate=kind.rate_hz, options=dict(kind.options))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = kind.size
        stream.pix_fmt = "yuvj420p" if kind.codec == "mjpeg" else "yuv420p"
        for number, picture in enumerate(islice(cycle(pictures + pictures[::-1]), frames)):
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            scaled = frame.reformat(*kind.size, stream.pix_fmt)
            scaled.pts, scaled.time_base = number, Fraction(1, kind.rate_hz)
            container.mux(stream.encode(scaled))
        container.mux(stream.encode())
    return frames


def _wanted(frames: int, *, dense: bool) -> list[int]:
    """Middle frames of 8 equal parts of the video, or of a window in its middle."""
    length = min(frames, _WINDOW_FRAMES) if dense else frames
    start = (frames - length) // 2
    return [start + (2 * part + 1) * length // (2 * FRAMES) for part in range(FRAMES)]


def _rows(kind: str, timings: dict[str, Timing], against: str) -> list[dict[str, Any]]:
    return [
        {
            "video": kind,
            "form": form,
            "cpu_ms": round(1000 * timing.seconds, 3),
            "videos_per_cpu_s": round(1 / timing.seconds, 2),
            "spread": round(timing.spread, 3),
            "ratio": round(timing.seconds / timings[against].seconds, 3),
        }
        for form, timing in timings.items()
    ]
