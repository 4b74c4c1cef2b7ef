"""Copies of a data set that decode fast: small frames, H.264 with short groups of pictures.

A copy has the path of its original below the new root, and its frame k is frame k of the
original, so annotation files fit the copies if the root is replaced. Copies are MP4 files
whatever their suffix; frame folders become video files too.
"""

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from kinema.data.annotation_formats import COPIES_FILE
from kinema.data.annotations import write_csv
from kinema.data.classes import class_list_text
from kinema.data.dataset import VideoDataset
from kinema.errors import KinemaError, OptionError, UnreadableVideoError, check_range
from kinema.system.encoders import installed_encoder
from kinema.system.files import (
    cut_name,
    find_path,
    is_unused,
    naming_write_errors,
    partial_of,
    whole_file,
    write_whole,
)
from kinema.system.pool import map_in_processes
from kinema.values import Annotations, Skipped, VideoInfo
from kinema.video.decode import FrameSource, VideoFile, open_source

LAYOUT = 1  # incremented whenever the same settings give other pixels

# Encoders in order of preference, with options for fast decoding. With its macroblock tree, x264
# is not deterministic on machines with AVX-512.
ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "veryfast", "tune": "fastdecode", "crf": "20", "mbtree": "0"},
    "mpeg4": {"qmin": "2", "qmax": "3", "bf": "0"},  # part of every FFmpeg build
}
_ORIGINALS = "originals"  # key of the originals' folder in COPIES_FILE
_TICKS_HZ = 90_000
_FOLDER_RATE_HZ = 25.0  # frame folders have no rate
_SAME_TIME_NS = 2_000_000_000  # resolution of some file systems
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HARDLY_FREE_BYTES = 1 << 20


@dataclass(frozen=True)
class PrepareSettings:
    """Settings of the copies.

    Attributes:
        short_side_px: Maximum short side of a frame; smaller videos keep their size. Even,
            because color has half the resolution.
        group_frames: Maximum keyframe interval in frames.

    Raises:
        OptionError: a setting is outside its range.
    """

    short_side_px: int = 256
    group_frames: int = 12

    def __post_init__(self) -> None:
        if self.short_side_px < 32 or self.short_side_px % 2:
            raise OptionError(
                f"short_side_px must be even and at least 32, got {self.short_side_px}."
            )
        check_range(at_least=1, group_frames=self.group_frames)


@dataclass(frozen=True)
class PrepareReport:
    """Result: the videos, each counted once, and the total size of the good ones in bytes."""

    videos: int
    ok: int
    bad: tuple[Skipped, ...]
    bytes_before: int
    bytes_after: int


def prepare_dataset(
    dataset: VideoDataset,
    out: str | Path,
    *,
    settings: PrepareSettings | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PrepareReport:
    """Writes the copies, their rows as `<name>.csv` and the classes as `<name>.classes.txt`.

    Finished copies of unchanged originals are kept, so an interrupted run can be repeated. Bad
    videos are reported and not in the CSV.

    Args:
        dataset: The originals.
        out: Folder of the copies: new, empty, or from an earlier run with the same settings and
            originals.
        settings: Settings of the copies.
        workers: Processes; default: one per core; 0 works in this process. Processes are spawned,
            so a script that calls this needs the `if __name__ == "__main__"` guard.
        progress: Called with (videos done, videos in all).

    Raises:
        OptionError: `workers` is negative, or `out` is the folder of the originals.
        KinemaError: `out` holds other files, the disk is full, or a process was killed.
    """
    settings, root, originals = settings or PrepareSettings(), Path(out), Path(dataset.root)
    check_range(at_least=0, workers=workers)
    if root.resolve() == originals.resolve():
        raise OptionError(f"out must not be the folder of the originals, {root}.")
    # The folder is claimed first: copies with other settings must never be mixed in it.
    _claim(root, settings, originals)
    # Several rows may use parts of one video; it is copied once.
    paths = list(dict.fromkeys(sample.path for sample in dataset.annotations.samples))
    outcomes: list[Skipped | tuple[int, int]] = []
    for outcome in map_in_processes(
        _prepare, paths, originals, root, settings, workers=workers, chunk=2
    ):
        outcomes.append(outcome)
        if progress is not None:
            progress(len(outcomes), len(paths))
    bad = tuple(outcome for outcome in outcomes if isinstance(outcome, Skipped))
    sizes = [outcome for outcome in outcomes if not isinstance(outcome, Skipped)]
    _write_rows(dataset.annotations, root, set(paths) - {video.path for video in bad})
    return PrepareReport(
        videos=len(paths),
        ok=len(sizes),
        bad=bad,
        bytes_before=sum(before for before, _ in sizes),
        bytes_after=sum(after for _, after in sizes),
    )


def _claim(root: Path, settings: PrepareSettings, originals: Path) -> None:
    """Creates the folder, or reopens one with the same settings and originals."""
    file, here = root / COPIES_FILE, str(originals.resolve())
    wanted = {
        **asdict(settings),
        "encoder": installed_encoder(ENCODERS),
        "layout": LAYOUT,
        _ORIGINALS: here,
    }
    if file.exists():
        found = {_ORIGINALS: here, **_read_settings(file)}
        if found[_ORIGINALS] != here:
            raise KinemaError(
                f"{root} holds copies of the videos in {found[_ORIGINALS]}; those in {here} may "
                f"have the same names. Choose another folder or, if they were moved, change "
                f"{_ORIGINALS!r} in {file}."
            )
        if found != wanted:
            keys = sorted(key for key in wanted if found.get(key) != wanted[key])
            raise KinemaError(
                f"{root} holds copies made with other settings ({', '.join(keys)}). "
                "Choose another folder."
            )
        return
    with naming_write_errors(root):
        root.mkdir(parents=True, exist_ok=True)
    if not is_unused(root, first=file):
        raise KinemaError(
            f"{root} must be a new or empty folder or one of earlier copies. Choose another folder."
        )
    write_whole(file, json.dumps(wanted, indent=2) + "\n")


def _read_settings(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise KinemaError(f"{file} is not a settings file of copies: {error}.") from error


def _prepare(
    path: str, source: Path, root: Path, settings: PrepareSettings
) -> Skipped | tuple[int, int]:
    """Makes a copy unless it exists; returns the bytes of original and copy."""
    original, target = find_path(source / path), root / path
    # An annotation file is untrusted input here: it must not write outside of the output folder.
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        return Skipped(path, f"{path} leads out of the root folder.")
    try:
        if not _is_current(target, original):
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_copy(original, target, settings)
        files = original.iterdir() if original.is_dir() else [original]
        before = sum(file.stat().st_size for file in files if file.is_file())
        return before, target.stat().st_size
    except UnreadableVideoError as error:
        return Skipped(path, str(error))
    except (av.FFmpegError, OSError) as error:
        _stop_if_full(root, error)
        return Skipped(path, f"{original} cannot be copied: {error}.")


def _is_current(target: Path, original: Path) -> bool:
    """Checks whether a copy exists and is up to date, by the time of its original."""
    if not (target.is_file() and original.exists()):
        return False
    return abs(target.stat().st_mtime_ns - original.stat().st_mtime_ns) < _SAME_TIME_NS


def _stop_if_full(root: Path, error: Exception) -> None:
    """Raises an error if the disk is full, since all other copies would fail too."""
    free = shutil.disk_usage(root).free
    if getattr(error, "errno", None) in _DISK_FULL or free < _HARDLY_FREE_BYTES:
        raise KinemaError(
            f"The disk of {root} is full ({free} bytes free). Finished copies are kept: free some "
            "space and run the command again to continue."
        ) from error


def _write_copy(original: Path, target: Path, settings: PrepareSettings) -> None:
    """Writes a copy, which gets its name when it is complete."""
    partial = partial_of(target)
    changed_ns = original.stat().st_mtime_ns if original.exists() else 0
    try:
        with open_source(original) as source:
            # Write, check, sync, date, rename: a copy under its final name is whole and carries the
            # modification time of its original, by which the next run recognizes it.
            _encode(source, partial, settings)
            with VideoFile(partial) as copy:
                if copy.info.frames != source.info.frames:
                    raise UnreadableVideoError(
                        f"{original} has {source.info.frames} frames, its copy {copy.info.frames}."
                    )
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.utime(partial, ns=(changed_ns, changed_ns))
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _encode(source: FrameSource, path: Path, settings: PrepareSettings) -> None:
    encoder, width_height = installed_encoder(ENCODERS), _size(source.info, settings.short_side_px)
    scaler = VideoReformatter()
    with av.open(str(path), "w", format="mp4") as container:
        rate = Fraction(source.info.rate_hz or _FOLDER_RATE_HZ).limit_denominator(1001)
        options = {**ENCODERS[encoder], "g": str(settings.group_frames)}
        stream = container.add_stream(encoder, rate=rate, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = width_height
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS_HZ)
        stream.codec_context.thread_count = 1  # the workers keep the cores busy
        for ticks, picture in zip(_times(source), source.in_order(), strict=False):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            small = scaler.reformat(
                frame, *width_height, "yuv420p", interpolation="BICUBIC", threads=1
            )
            # Times are kept, so a copy of variable frame rate plays as its original does.
            small.pts, small.time_base = ticks, Fraction(1, _TICKS_HZ)
            container.mux(stream.encode(small))
        container.mux(stream.encode())


def _size(info: VideoInfo, short_side_px: int) -> tuple[int, int]:
    """Even width and height with the given short side, never larger than the original's."""
    scale = min(1.0, short_side_px / min(info.width, info.height))
    return max(2, 2 * round(info.width * scale / 2)), max(2, 2 * round(info.height * scale / 2))


def _times(source: FrameSource) -> list[int]:
    """Presentation times of the frames in ticks; evenly spaced if the original has none."""
    frames, rate = source.info.frames, source.info.rate_hz or _FOLDER_RATE_HZ
    if isinstance(source, VideoFile):
        times = [round(time_s * _TICKS_HZ) for time_s in source.times_s(range(frames))]
        if all(a < b for a, b in pairwise(times)):
            return times
    return [round(number * _TICKS_HZ / rate) for number in range(frames)]


def _write_rows(rows: Annotations, root: Path, good: set[str]) -> None:
    """Writes the rows of the good videos with their labels."""
    stem = Path(rows.source).stem
    kept = tuple(sample for sample in rows.samples if sample.path in good)
    with whole_file(root / cut_name(stem, ".csv")) as partial:
        write_csv(Annotations(kept, rows.class_names, rows.source), partial)
    write_whole(root / cut_name(stem, ".classes.txt"), class_list_text(rows.class_names))
