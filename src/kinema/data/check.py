"""Checks a data set for faults before training."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kinema.data.dataset import VideoDataset
from kinema.errors import UnreadableVideoError
from kinema.values import Annotations, Sample
from kinema.video.decode import open_source


@dataclass(frozen=True)
class BadVideo:
    """Faulty row: its split, path and fault."""

    split: str
    path: str
    reason: str


@dataclass(frozen=True)
class DoubtfulSplit:
    """Split that cannot be right as a whole, and the reason."""

    split: str
    reason: str


@dataclass(frozen=True)
class CheckReport:
    """Result of a check: number of rows and of good rows, faulty rows and doubtful splits."""

    videos: int
    ok: int
    bad: tuple[BadVideo, ...]
    doubtful: tuple[DoubtfulSplit, ...] = ()


def doubt_about(rows: Annotations) -> str:
    """Reason that labels cannot be right as a whole: one class, or most classes empty.

    Empty if they may be right, or if there is none.
    """
    used = Counter(sample.label for sample in rows.samples if sample.label is not None)
    classes = len(rows.class_names)
    if len(used) == 1:
        ((label, videos),) = used.items()
        name = rows.class_names[label] if label < classes else label
        return f"every label is {name!r} ({videos} videos), so there is nothing to tell apart"
    if used and 2 * len(used) < classes:
        return f"{classes - len(used)} of {classes} classes have no video"
    return ""


def check_dataset(
    splits: Mapping[str, VideoDataset],
    *,
    min_frames: int = 1,
    strict: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Checks every row of every split, and the labels of each split as a whole.

    Reports unreadable videos (the last frame is decoded too), rows whose frames are not in the
    video or fewer than `min_frames`, labels outside the class list, duplicate paths, and files
    with equal content within or across splits.

    Args:
        splits: Data sets by name of the split, such as {"train": ..., "val": ...}.
        min_frames: Minimum number of frames of a row.
        strict: Decodes every frame instead of the last one only, which takes about as long as an
            epoch of decoding and finds damage in the middle.
        progress: Called with (rows done, rows in all).
    """
    rows = [(split, data, i) for split, data in splits.items() for i in range(len(data))]
    bad: list[BadVideo] = []
    checks = _Checks(min_frames, strict=strict)
    for done, (split, dataset, index) in enumerate(rows, start=1):
        sample = dataset.annotations.samples[index]
        reason = checks.fault(dataset, index, here=f"{split}: {sample.path}")
        if reason:
            bad.append(BadVideo(split, sample.path, reason))
        if progress is not None:
            progress(done, len(rows))
    doubts = ((split, doubt_about(data.annotations)) for split, data in splits.items())
    return CheckReport(
        videos=len(rows),
        ok=len(rows) - len(bad),
        bad=tuple(bad),
        doubtful=tuple(DoubtfulSplit(split, reason) for split, reason in doubts if reason),
    )


class _Checks:
    """Checks rows in order and remembers earlier ones.

    A file is decoded once even if several rows name it, and hashed only if another one has the
    same size.
    """

    def __init__(self, min_frames: int, *, strict: bool) -> None:
        self._min_frames = min_frames
        self._strict = strict
        self._rows: dict[tuple[Path, int], str] = {}
        self._videos: dict[Path, int | str] = {}
        self._by_size: dict[int, list[Path]] = {}
        self._digests: dict[Path, str] = {}

    def fault(self, dataset: VideoDataset, index: int, *, here: str) -> str:
        """Returns the fault of a row, which the caller calls `here`; empty if it is good."""
        sample, given = dataset.annotations.samples[index], dataset.path(index)
        path = Path(os.path.abspath(given))  # one for ./a.mp4 and b/../a.mp4
        start = sample.start_frame
        if (path, start) in self._rows:
            return f"listed twice, also in {self._rows[path, start]}"
        self._rows[path, start] = here
        classes = len(dataset.annotations.class_names)
        if sample.label is not None and not 0 <= sample.label < classes:
            return f"label {sample.label} is outside the {classes} classes"
        if path not in self._videos:
            self._videos[path] = _frames(given, strict=self._strict)
        frames = self._videos[path]
        if isinstance(frames, str):
            return frames
        return self._length_fault(sample, frames) or self._copy_fault(path, start)

    def _length_fault(self, sample: Sample, available: int) -> str:
        frames = available - sample.start_frame if sample.frames is None else sample.frames
        if frames < 1 or sample.start_frame + frames > available:
            return (
                f"only {available} frames, but the row needs {frames} "
                f"from frame {sample.start_frame} on"
            )
        if frames < self._min_frames:
            return f"only {frames} frames, fewer than {self._min_frames}"
        return ""

    def _copy_fault(self, path: Path, start: int) -> str:
        same_size = self._by_size.setdefault(sum(f.stat().st_size for f in _files(path)), [])
        if path in same_size:
            return ""
        for other in same_size:
            if (other, start) in self._rows and self._digest(other) == self._digest(path):
                return f"same content as {self._rows[other, start]}"
        same_size.append(path)
        return ""

    def _digest(self, path: Path) -> str:
        """Digest of a file's content, or of all files of a folder."""
        if path not in self._digests:
            digest = hashlib.sha256()
            for file in _files(path):
                with file.open("rb") as content:
                    digest.update(hashlib.file_digest(content, "sha256").digest())
            self._digests[path] = digest.hexdigest()
        return self._digests[path]


def _frames(path: Path, *, strict: bool) -> int | str:
    """Number of frames of a video, or the reason that it cannot be read."""
    try:
        with open_source(path) as source:
            if strict:
                source.verify()
            else:
                source.read([source.info.frames - 1])
            return source.info.frames
    except UnreadableVideoError as error:
        return str(error)


def _files(path: Path) -> list[Path]:
    return sorted(f for f in path.iterdir() if f.is_file()) if path.is_dir() else [path]
