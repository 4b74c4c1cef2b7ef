"""Readers of the annotation formats, one function each; `annotations.FORMATS` lists them.

Readers accept the files as the data sets publish them. Paths come out relative to the root.
"""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kinema.data.classes import (
    ClassList,
    read_class_names,
    read_json,
    read_text,
    say_counts_from_one,
    split_lines,
)
from kinema.data.csv_table import read_table
from kinema.errors import AnnotationError
from kinema.system.files import find_path
from kinema.values import Annotations, Sample
from kinema.video.decode import is_video_path
from kinema.video.folder import is_frame

_log = logging.getLogger(__name__)

COPIES_FILE = "prepare.json"  # settings file in a folder of prepared copies
# Words of header lines, which lists of lines do not have.
_PATH_COLUMNS = frozenset({"file", "filename", "id", "name", "path", "video", "video_id"})
_LABEL_COLUMNS = frozenset({"action", "category", "class", "label", "label_id", "template"})


@dataclass(frozen=True)
class AnnotationRequest:
    """Arguments of a reader.

    Attributes:
        path: Annotation file or folder.
        root: Folder of the videos, if known.
        class_names: The user's class names, if given.
        split: Split of a data set with several.
        subset: "train" or "test".
    """

    path: Path
    root: Path | None
    class_names: tuple[str, ...] | None
    split: int
    subset: str

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yields (place for messages, stripped line) of the file, without blank lines."""
        for number, line in enumerate(split_lines(read_text(self.path)), start=1):
            if line.strip():
                yield f"{self.path}, line {number}", line.strip()

    def annotations(self, samples: Sequence[Sample], classes: ClassList) -> Annotations:
        """The result of a reader."""
        if self.class_names is None:
            say_counts_from_one((s.label for s in samples), classes.names, self.path)
        return Annotations(tuple(samples), classes.names, str(self.path))


def read_csv(request: AnnotationRequest) -> Annotations:
    """CSV with the columns path and label, optionally start_frame and frames; others are ignored.

    The delimiter (comma, semicolon or tab) is taken from the header.
    """
    optional = ("label", "start_frame", "frames")
    rows, ignored = read_table(request.path, ("path",), optional, expected="path and label")
    if ignored and rows and "label" not in rows[0][1]:
        raise AnnotationError(
            f"{request.path}: there is no column 'label', but {', '.join(map(repr, ignored))}. "
            "Rename the column of the classes to label; without labels, remove the others."
        )
    # All labels are needed before the first can be numbered: default classes are sorted.
    labels = {row["label"] for _, row in rows if row.get("label")}
    classes = ClassList.given_or_found(request.class_names, labels, request.path)
    samples = []
    for place, row in rows:
        label, frames = row.get("label"), row.get("frames")
        samples.append(
            Sample(
                path=row["path"],
                label=classes.label_of(label, place) if label else None,
                start_frame=_integer(row.get("start_frame") or "0", place, "start_frame"),
                frames=_integer(frames, place, "frames") if frames else None,
            )
        )
    return request.annotations(samples, classes)


def read_folders(request: AnnotationRequest) -> Annotations:
    """One folder per class, with video files or frame folders in it."""
    if not request.path.is_dir():
        raise AnnotationError(f"{request.path} is not a folder of class folders.")
    folders = _class_folders(request.path)
    names = {folder.name for folder in folders}
    empty = sorted({p.name for p in request.path.iterdir() if _is_shown(p)} - names)
    if folders and empty:
        _log.warning("%s: no videos in %s, so no class.", request.path, ", ".join(empty))
    loose = [p.name for p in sorted(request.path.iterdir()) if is_video_path(p)]
    if loose:
        said = (
            f"{request.path}: {len(loose)} videos are not in a class folder, such as {loose[0]}. "
            "The format 'folders' needs one folder per class; for a list of videos use csv."
        )
        if not folders:
            raise AnnotationError(said)
        _log.warning("%s", said)
    classes = ClassList.named(request.class_names, names)
    samples = [
        Sample(
            video.relative_to(request.path).as_posix(), classes.label_of(folder.name, f"{folder}")
        )
        for folder, videos in folders.items()
        for video in videos
    ]
    return request.annotations(samples, classes)


def subfolder_hint(folder: Path) -> str:
    """A hint if the user gave the parent of train/ and val/ instead of one of these."""
    lower = [p for p in sorted(folder.iterdir()) if p.is_dir() and _class_folders(p)]
    return f" {lower[0]} does: give that folder." if lower else ""


def _class_folders(path: Path) -> dict[Path, list[Path]]:
    """Visible subfolders that hold videos, with their videos in sorted order."""
    # Prepared copies of frame folders are files without a suffix, so there any file is a video.
    is_video = _is_shown_file if (path / COPIES_FILE).is_file() else is_video_path
    videos = {
        folder: [v for v in sorted(folder.iterdir()) if is_video(v) or _is_frame_folder(v)]
        for folder in sorted(path.iterdir())
        if _is_shown(folder)
    }
    return {folder: inside for folder, inside in videos.items() if inside}


def _is_shown(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _is_frame_folder(path: Path) -> bool:
    return _is_shown(path) and any(is_frame(file) for file in path.iterdir())


def _is_shown_file(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def read_video_list(request: AnnotationRequest) -> Annotations:
    """`path label` per line (TSN video list); the path may contain spaces."""
    root = request.root or request.path.parent
    for place, line in request.lines():
        two = re.fullmatch(r"(.*\S) +\d+ +\d+", line)
        path = line.rpartition(" ")[0]
        if two and not is_video_path(path) and not os.path.exists(find_path(root / path)):
            raise AnnotationError(
                f"{place}: expected 'path label', got two numbers, {line!r}. Lines of 'folder "
                "frames label' are the format rawframe_list; a video has one label."
            )
    classes = ClassList.given_or_counted(request.class_names)
    return _from_lines(request, classes, r"(?P<path>.+) (?P<label>[^ ]+)", "'path label'")


def read_rawframe_list(request: AnnotationRequest) -> Annotations:
    """`folder frames label` or `folder offset frames label` per line (TSN rawframe list)."""
    pattern = r"(?P<path>.+?)\s+(?:(?P<start>\d{1,15})\s+)?(?P<frames>\d{1,15})\s+(?P<label>-?\d+)"
    classes = ClassList.given_or_counted(request.class_names)
    expected = "'folder frames label' or 'folder offset frames label'"
    return _from_lines(request, classes, pattern, expected)


def read_id_label(request: AnnotationRequest) -> Annotations:
    """`id;label text` per line, frames in folders named by id (Something-Something V1, Jester)."""
    classes = ClassList.required(request.class_names, request.path)
    return _from_lines(request, classes, r"(?P<path>[^;,\t]+)(?:;(?P<label>.*))?", "'id;label'")


def _from_lines(
    request: AnnotationRequest, classes: ClassList, pattern: str, expected: str
) -> Annotations:
    """Lines of a pattern with the groups path and label (which may be empty), start and frames."""
    samples: list[Sample] = []
    for place, line in request.lines():
        words = re.split(r"[;,\t ]", line.lower())
        if not samples and words[0] in _PATH_COLUMNS and not _LABEL_COLUMNS.isdisjoint(words):
            raise AnnotationError(
                f"{place}: {line!r} is a header, but this format has none, only {expected} per "
                "line. Remove it, or use the format csv with the columns path and label."
            )
        match = re.fullmatch(pattern, line)
        if match is None:
            raise AnnotationError(f"{place}: expected {expected}, got {line!r}.")
        found = match.groupdict()
        label, start, frames = (
            (found["label"] or "").strip(),
            found.get("start"),
            found.get("frames"),
        )
        samples.append(
            Sample(
                path=found["path"].strip(),
                label=classes.label_of(label, place) if label else None,
                start_frame=int(start or 0),
                frames=int(frames) if frames else None,
            )
        )
    return request.annotations(samples, classes)


def read_kinetics(request: AnnotationRequest) -> Annotations:
    """The CSV of Kinetics: label,youtube_id,time_start,time_end,split; test lists lack labels."""
    columns = ("youtube_id", "time_start", "time_end")
    rows, _ = read_table(request.path, columns, ("label",), expected=", ".join(columns))
    labels = {row["label"] for _, row in rows if row.get("label")}
    classes = ClassList.given_or_found(request.class_names, labels, request.path)
    samples = []
    for place, row in rows:
        start, stop = (_integer(row[name], place, name) for name in columns[1:])
        name = f"{row['youtube_id']}_{start:06d}_{stop:06d}.mp4"
        label = row.get("label") or ""
        path = _kinetics_path(request.root, label, name, row["youtube_id"])
        samples.append(Sample(path, classes.label_of(label, place) if label else None))
    return request.annotations(samples, classes)


def _kinetics_path(root: Path | None, label: str, name: str, youtube_id: str) -> str:
    """The first path that exists among the layouts of the common download tools."""
    folders = [label, label.replace(" ", "_"), ""] if label else [""]
    candidates = [
        f"{folder}/{file}" if folder else file
        for file in (name, f"{youtube_id}.mp4")
        for folder in folders
    ]
    existing = (path for path in candidates if root is not None and (root / path).exists())
    return next(existing, candidates[0])


def read_sthv2(request: AnnotationRequest) -> Annotations:
    """The JSON of Something-Something V2: a list of {id, template}; videos are id.webm.

    Its answers for the test videos are `id;label` lines instead.
    """
    classes = ClassList.required(request.class_names, request.path)
    is_json = read_text(request.path).lstrip().startswith(("[", "{"))
    samples = []
    for place, row in _json_rows(request.path, ("id",)) if is_json else _answers(request):
        # Templates mark their objects as [something]; the class list has no brackets.
        template = str(row.get("template", "")).replace("[", "").replace("]", "")
        label = classes.label_of(template, place) if template else None
        samples.append(Sample(f"{row['id']}.webm", label))
    return request.annotations(samples, classes)


def _answers(request: AnnotationRequest) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (place for messages, id and template) of `id;label` lines."""
    for place, line in request.lines():
        match = re.fullmatch(r"(?P<id>[^;,\s]+);(?P<template>.*)", line)
        if match is None:
            raise AnnotationError(
                f"{place}: expected a JSON list, or 'id;label' lines, got {line[:80]!r}."
            )
        yield place, match.groupdict()


def read_diving48(request: AnnotationRequest) -> Annotations:
    """The JSON of Diving48: a list of {vid_name, label, ...}; videos are vid_name.mp4."""
    classes = ClassList.given_or_counted(request.class_names)
    samples = [
        Sample(f"{row['vid_name']}.mp4", classes.label_of(str(row["label"]), place))
        for place, row in _json_rows(request.path, ("vid_name", "label"))
    ]
    return request.annotations(samples, classes)


def read_ucf101(request: AnnotationRequest) -> Annotations:
    """trainlist/testlist of UCF101: `Class/file.avi [label from 1]`; the folder is the class."""
    class_names = request.class_names
    beside = request.path.with_name("classInd.txt")
    if class_names is None and beside.exists():
        class_names = read_class_names(beside)
    classes = ClassList.required(class_names, request.path)
    samples = []
    for place, line in request.lines():
        path, *numbers = line.split()
        name = path.split("/")[0]
        label = classes.label_of(name, place)
        # Training lists repeat the label; a mismatch means a class list in another order.
        if numbers and _integer(numbers[0], place, "label") != label + 1:
            raise AnnotationError(f"{place}: label {numbers[0]} does not belong to {name!r}.")
        samples.append(Sample(path, label))
    return request.annotations(samples, classes)


def read_hmdb51(request: AnnotationRequest) -> Annotations:
    """Folder of HMDB51's <class>_test_split<N>.txt: `file 1` trains, `file 2` tests."""
    marks = {"train": "1", "test": "2"}
    if request.subset not in marks:
        raise AnnotationError(f"HMDB51 has the subsets train and test, not {request.subset!r}.")
    ending = f"_test_split{request.split}.txt"
    files = sorted(request.path.glob(f"*{ending}")) if request.path.is_dir() else []
    if not files:
        raise AnnotationError(
            f"{request.path}: expected a folder with files that end in {ending} (splits 1 to 3)."
        )
    names = {file.name.removesuffix(ending) for file in files}
    classes = ClassList.named(request.class_names, names)
    samples = []
    for file in files:
        name = file.name.removesuffix(ending)
        for place, line in replace(request, path=file).lines():
            video, _, mark = line.rpartition(" ")
            if mark not in ("0", "1", "2"):
                raise AnnotationError(f"{place}: expected 'file 0|1|2', got {line!r}.")
            if mark == marks[request.subset]:
                samples.append(Sample(f"{name}/{video.strip()}", classes.label_of(name, place)))
    # One folder holds several lists, so files derived from them are named by subset and split.
    source = request.path / f"{request.subset}_split{request.split}"
    return Annotations(tuple(samples), classes.names, str(source))


def read_moments_in_time(request: AnnotationRequest) -> Annotations:
    """The CSV of Moments in Time: `class/video.mp4,class,agreements,disagreements`, no header.

    The videos are in a folder training or validation, the split that the name of the file has.
    """
    pattern = r"(?P<path>[^,]+),\s*(?P<label>[^,\s][^,]*),\s*\d+\s*,\s*\d+"
    matches = (re.fullmatch(pattern, line) for _, line in request.lines())
    labels = {match["label"].strip() for match in matches if match}
    classes = ClassList.given_or_found(request.class_names, labels, request.path)
    expected = "'class/video.mp4,class,agreements,disagreements'"
    found = _from_lines(request, classes, pattern, expected)
    folders = [name for name in ("training", "validation") if name in request.path.name.lower()]
    if len(folders) != 1:
        raise AnnotationError(
            f"{request.path}: the videos are in the folder training or validation, but the name of "
            "the list does not say which. Name it such as trainingSet.csv or validationSet.csv."
        )
    samples = tuple(replace(s, path=f"{folders[0]}/{s.path}") for s in found.samples)
    return replace(found, samples=samples)


def _json_rows(path: Path, keys: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (place for messages, object) of a JSON list of objects that have `keys`."""
    rows = read_json(path)
    if not isinstance(rows, list):
        raise AnnotationError(f"{path}: expected a JSON list of objects.")
    for number, row in enumerate(rows):
        place = f"{path}, entry {number}"
        if not isinstance(row, dict) or any(key not in row for key in keys):
            raise AnnotationError(f"{place}: expected an object with {', '.join(keys)}.")
        yield place, row


def _integer(text: str, place: str, name: str) -> int:
    match = re.fullmatch(r"(\d{1,15})(\.0*)?", text)  # pandas writes 6.0 in a column with gaps
    if match is None:
        raise AnnotationError(f"{place}: {name} must be a whole number, got {text[:30]!r}.")
    return int(match[1])
