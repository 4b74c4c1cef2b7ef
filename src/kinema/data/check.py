"""Looks for what is wrong with a data set before a training run does."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kinema.data.dataset import VideoDataset
from kinema.data.decode import open_source
from kinema.errors import UnreadableVideoError


@dataclass(frozen=True)
class BadVideo:
    """A row with a fault: the split it is in, its path, and what is wrong."""

    split: str
    path: str
    reason: str


@dataclass(frozen=True)
class CheckReport:
    """How many rows were checked, how many are good, and the others with their faults."""

    videos: int
    ok: int
    bad: tuple[BadVideo, ...]


def check_dataset(
    splits: Mapping[str, VideoDataset],
    *,
    min_frames: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Checks every row of every split.

    Reported are videos that cannot be read (the last frame is decoded too), videos with fewer
    than `min_frames` frames, paths that stand twice, and files with equal content, in one split
    or in two.

    Args:
        splits: Videos by the name of their split, such as {"train": ..., "val": ...}.
        min_frames: The fewest frames a video should have.
        progress: Called with (rows done, rows in all).
    """
    rows = [
        (split, sample, dataset.path(i))
        for split, dataset in splits.items()
        for i, sample in enumerate(dataset.annotations.samples)
    ]
    bad: list[BadVideo] = []
    seen: dict[str, str] = {}
    contents: dict[str, str] = {}
    for done, (split, sample, path) in enumerate(rows, start=1):
        here = f"{split}: {sample.path}"
        key = f"{path}#{sample.start_frame}"
        reason = f"listed twice, also in {seen[key]}" if key in seen else ""
        if not reason:
            reason = _fault(path, min_frames)
        if not reason:
            first = contents.setdefault(f"{_digest(path)}#{sample.start_frame}", here)
            reason = "" if first == here else f"same content as {first}"
        seen.setdefault(key, here)
        if reason:
            bad.append(BadVideo(split, sample.path, reason))
        if progress is not None:
            progress(done, len(rows))
    return CheckReport(videos=len(rows), ok=len(rows) - len(bad), bad=tuple(bad))


def _fault(path: Path, min_frames: int) -> str:
    try:
        with open_source(path) as source:
            frames = source.info.frames
            source.read([frames - 1])
    except UnreadableVideoError as error:
        return str(error)
    if frames < min_frames:
        return f"only {frames} frames, fewer than {min_frames}"
    return ""


def _digest(path: Path) -> str:
    """Of a file's content, or of all files of a folder."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()
