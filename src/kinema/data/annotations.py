"""Annotation files of the common data sets, read into one form.

`read_annotations` is the door; each format is one reader in the table at the end of the file.
Readers know the layout that the data set's own files have; paths come out relative to the root.
"""

import csv
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.data.classes import ClassList, read_class_names, read_json, read_text
from kinema.errors import AnnotationError, UnknownNameError, did_you_mean
from kinema.values import Annotations, Sample
from kinema.video.decode import is_video_path
from kinema.video.folder import is_frame

_log = logging.getLogger(__name__)

COPIES_FILE = "prepare.json"  # lies in a folder of prepared copies and says how they were made


@dataclass(frozen=True)
class _Request:
    """What a reader is asked for."""

    path: Path
    root: Path | None
    class_names: tuple[str, ...] | None
    split: int
    subset: str


def read_annotations(
    path: str | Path,
    *,
    format: str = "csv",
    root: str | Path | None = None,
    classes: str | Path | Sequence[str] | None = None,
    split: int = 1,
    subset: str = "train",
) -> Annotations:
    """Reads the rows of an annotation file.

    Args:
        path: The file, or the folder for `folders` and `hmdb51`.
        format: One of `FORMATS`.
        root: Folder of the videos; only `kinetics` looks into it, to find the files' names.
        classes: The class names in the order of their labels, or a file that lists them. Formats
            that name classes by text (`csv`, `folders`) can do without: sorted names then count.
        split: 1, 2 or 3 for `hmdb51`.
        subset: "train" or "test" for `hmdb51`.

    Raises:
        AnnotationError: the file is missing or empty, a line has another form, or a label is
            outside the class list; the message names file and line.
        UnknownNameError: there is no such format.

    Example:
        `read_annotations("train.csv", classes=["jump", "run"])`
    """
    if format not in _READERS:
        raise UnknownNameError(f"Unknown annotation format {format!r}. " + _near(format))
    source = Path(path)
    if not source.exists():
        here = "" if source.is_absolute() else f" in {Path.cwd()}"
        raise AnnotationError(f"Annotation file {source} does not exist{here}.")
    names: tuple[str, ...] | None = None
    if isinstance(classes, str | Path):
        names = read_class_names(classes)
    elif classes is not None:
        names = tuple(classes)
    if source.is_dir() and format not in _OF_FOLDERS:
        raise AnnotationError(
            f"{source} is a folder, and the format {format!r} is a file. One folder per class with "
            "its videos in it is the format 'folders'."
        )
    request = _Request(source, Path(root) if root is not None else None, names, split, subset)
    try:
        found = _READERS[format](request)
    except csv.Error as error:
        raise AnnotationError(f"{source} is not a valid CSV file: {error}.") from error
    if not found.samples:
        raise AnnotationError(f"{source} holds no videos ({format}).{_one_level_too_high(source)}")
    return found


def write_csv(annotations: Annotations, path: str | Path) -> None:
    """Writes rows in the `csv` format; class names stand in the label column."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "start_frame", "frames"])
        for sample in annotations.samples:
            name = "" if sample.label is None else annotations.class_names[sample.label]
            length = "" if sample.frames is None else sample.frames
            writer.writerow([sample.path, name, sample.start_frame, length])


def _one_level_too_high(source: Path) -> str:
    """A hint for those who name the folder of train/ and val/ and not one of these."""
    if not source.is_dir():
        return ""
    lower = [p for p in sorted(source.iterdir()) if p.is_dir() and _class_folders(p)]
    return f" {lower[0]} does: give that folder." if lower else ""


def _near(format: str) -> str:
    return did_you_mean(format, _READERS)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, each with its place for messages."""
    text = read_text(path)
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield f"{path}, line {number}", line.strip()


def _whole(text: str, place: str, what: str) -> int:
    if not re.fullmatch(r"\d{1,15}", text):
        raise AnnotationError(f"{place}: {what} must be a whole number, got {text[:30]!r}.")
    return int(text)


def _finish(request: _Request, classes: ClassList, samples: list[Sample]) -> Annotations:
    return Annotations(tuple(samples), classes.names, str(request.path))


def _csv(request: _Request) -> Annotations:
    """Header with path and label; start_frame and frames are optional, others ignored."""
    text = read_text(request.path)
    first = text.split("\n", 1)[0]
    delimiter = next((d for d in ",;\t" if d in first), ",")
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter)
    header = [name.strip() for name in reader.fieldnames or []]
    if "path" not in header:
        raise AnnotationError(
            f"{request.path}, line 1: expected a header with the columns path and label, "
            f"got {first.strip()!r}."
        )
    rows = []
    for fields in reader:
        place = f"{request.path}, line {reader.line_num}"
        row = {name.strip(): text for name, text in fields.items() if name}
        expected = f"{place}: expected {len(header)} fields, as in the header"
        if not row.get("path") or None in row.values():
            raise AnnotationError(f"{expected}.")
        if any(fields.get(None) or ()):
            raise AnnotationError(f"{expected}; one with {delimiter!r} in it needs double quotes.")
        rows.append((place, row))
    labels = {str(row.get("label") or "").strip() for _, row in rows}
    classes = ClassList.given_or_found(request.class_names, labels - {""}, request.path)
    samples = [_csv_sample(place, row, classes) for place, row in rows]
    return _finish(request, classes, samples)


def _csv_sample(place: str, row: dict[str, str], classes: ClassList) -> Sample:
    label, length = (row.get("label") or "").strip(), (row.get("frames") or "").strip()
    return Sample(
        path=row["path"].strip(),
        label=classes.label_of(label, place) if label else None,
        start_frame=_whole((row.get("start_frame") or "0").strip(), place, "start_frame"),
        frames=_whole(length, place, "frames") if length else None,
    )


def _folders(request: _Request) -> Annotations:
    """One folder per class, with video files or frame folders in it."""
    if not request.path.is_dir():
        raise AnnotationError(f"{request.path} is not a folder of class folders.")
    found = [
        (folder.name, video.relative_to(request.path).as_posix())
        for folder, videos in _class_folders(request.path).items()
        for video in videos
    ]
    empty = sorted({p.name for p in request.path.iterdir() if _is_shown(p)} - {n for n, _ in found})
    if found and empty:
        _log.warning("%s: no videos in %s, so no class.", request.path, ", ".join(empty))
    classes = ClassList.given_or_found(
        request.class_names, {name for name, _ in found}, request.path
    )
    samples = [
        Sample(path, classes.label_of(name, f"{request.path / name}")) for name, path in found
    ]
    return _finish(request, classes, samples)


def _class_folders(path: Path) -> dict[Path, list[Path]]:
    """The folders in a folder that hold videos, with these.

    Hidden ones do not count. Prepared copies of frame folders are files that end in nothing.
    """
    is_video = _is_copy if (path / COPIES_FILE).is_file() else is_video_path
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


def _is_copy(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def _video_list(request: _Request) -> Annotations:
    """`path label` per line (TSN video list); the path may contain spaces."""
    classes = ClassList.given_or_counted(request.class_names)
    samples = []
    for place, line in _lines(request.path):
        path, _, label = line.rpartition(" ")
        if not path:
            raise AnnotationError(f"{place}: expected 'path label', got {line!r}.")
        samples.append(Sample(path.strip(), classes.label_of(label, place)))
    return _finish(request, classes.closed(), samples)


def _rawframe_list(request: _Request) -> Annotations:
    """`folder frames label` or `folder offset frames label` per line (TSN rawframe list)."""
    classes = ClassList.given_or_counted(request.class_names)
    samples = []
    for place, line in _lines(request.path):
        match = re.fullmatch(r"(.+?)\s+(?:(\d{1,15})\s+)?(\d{1,15})\s+(\d+)", line)
        if match is None:
            raise AnnotationError(
                f"{place}: expected 'folder frames label' or 'folder offset frames label', "
                f"got {line!r}."
            )
        path, offset, frames, label = match.groups()
        samples.append(Sample(path, classes.label_of(label, place), int(offset or 0), int(frames)))
    return _finish(request, classes.closed(), samples)


def _kinetics(request: _Request) -> Annotations:
    """The CSV of Kinetics: label,youtube_id,time_start,time_end,split; test lists lack labels."""
    reader = csv.DictReader(read_text(request.path).splitlines())
    header = set(reader.fieldnames or [])
    if missing := {"youtube_id", "time_start", "time_end"} - header:
        raise AnnotationError(
            f"{request.path}, line 1: the header lacks {', '.join(sorted(missing))}."
        )
    rows = [(f"{request.path}, line {reader.line_num}", row) for row in reader]
    for place, row in rows:
        if None in row or None in row.values():
            raise AnnotationError(f"{place}: expected {len(header)} fields, as in the header.")
    labels = {row["label"] for _, row in rows if row.get("label")}
    classes = ClassList.given_or_found(request.class_names, labels, request.path)
    samples = []
    for place, row in rows:
        start = _whole(row["time_start"], place, "time_start")
        stop = _whole(row["time_end"], place, "time_end")
        name = f"{row['youtube_id']}_{start:06d}_{stop:06d}.mp4"
        label = row.get("label") or ""
        samples.append(
            Sample(
                _kinetics_path(request.root, label, name, row["youtube_id"]),
                classes.label_of(label, place) if label else None,
            )
        )
    return _finish(request, classes, samples)


def _kinetics_path(root: Path | None, label: str, name: str, youtube_id: str) -> str:
    """The layout that the download tools leave; the first one that exists."""
    folders = [label, label.replace(" ", "_"), ""] if label else [""]
    candidates = [
        f"{folder}/{file}" if folder else file
        for file in (name, f"{youtube_id}.mp4")
        for folder in folders
    ]
    if root is not None:
        for candidate in candidates:
            if (root / candidate).exists():
                return candidate
    return candidates[0]


def _id_label(request: _Request) -> Annotations:
    """`id;label text` per line, frames in folders named by id (Something-Something V1, Jester)."""
    classes = ClassList.required(request.class_names, request.path)
    samples = []
    for place, line in _lines(request.path):
        video, _, label = line.partition(";")
        label = label.strip()
        samples.append(Sample(video.strip(), classes.label_of(label, place) if label else None))
    return _finish(request, classes, samples)


def _sthv2(request: _Request) -> Annotations:
    """The JSON of Something-Something V2: a list of {id, template}; videos are id.webm."""
    classes = ClassList.required(request.class_names, request.path)
    samples = []
    for place, row in _json_rows(request.path, ("id",)):
        template = str(row.get("template", "")).replace("[", "").replace("]", "")
        label = classes.label_of(template, place) if template else None
        samples.append(Sample(f"{row['id']}.webm", label))
    return _finish(request, classes, samples)


def _diving48(request: _Request) -> Annotations:
    """The JSON of Diving48: a list of {vid_name, label, ...}; videos are vid_name.mp4."""
    classes = ClassList.given_or_counted(request.class_names)
    samples = [
        Sample(f"{row['vid_name']}.mp4", classes.label_of(str(row["label"]), place))
        for place, row in _json_rows(request.path, ("vid_name", "label"))
    ]
    return _finish(request, classes.closed(), samples)


def _json_rows(path: Path, keys: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = read_json(path)
    if not isinstance(rows, list):
        raise AnnotationError(f"{path}: expected a JSON list of objects.")
    for number, row in enumerate(rows):
        place = f"{path}, entry {number}"
        if not isinstance(row, dict) or any(key not in row for key in keys):
            raise AnnotationError(f"{place}: expected an object with {', '.join(keys)}.")
        yield place, row


def _ucf101(request: _Request) -> Annotations:
    """trainlist/testlist of UCF101: `Class/file.avi [label from 1]`; the folder is the class."""
    names = request.class_names
    beside = request.path.with_name("classInd.txt")
    if names is None and beside.exists():
        names = read_class_names(beside)
    classes = ClassList.required(names, request.path)
    samples = []
    for place, line in _lines(request.path):
        path = line.split()[0]
        name = path.split("/")[0]
        label = classes.label_of(name, place)
        if len(line.split()) > 1 and _whole(line.split()[1], place, "label") != label + 1:
            raise AnnotationError(f"{place}: label {line.split()[1]} does not belong to {name!r}.")
        samples.append(Sample(path, label))
    return _finish(request, classes, samples)


def _hmdb51(request: _Request) -> Annotations:
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
    classes = ClassList.given_or_found(request.class_names, names, request.path)
    samples = []
    for file in files:
        name = file.name.removesuffix(ending)
        for place, line in _lines(file):
            video, _, mark = line.rpartition(" ")
            if mark not in ("0", "1", "2"):
                raise AnnotationError(f"{place}: expected 'file 0|1|2', got {line!r}.")
            if mark == marks[request.subset]:
                samples.append(Sample(f"{name}/{video.strip()}", classes.label_of(name, place)))
    # One folder holds several lists, and what is written of each takes its name.
    source = request.path / f"{request.subset}_split{request.split}"
    return Annotations(tuple(samples), classes.names, str(source))


_READERS: dict[str, Callable[[_Request], Annotations]] = {
    "csv": _csv,
    "folders": _folders,
    "video_list": _video_list,
    "rawframe_list": _rawframe_list,
    "kinetics": _kinetics,
    "sthv1": _id_label,
    "sthv2": _sthv2,
    "jester": _id_label,
    "ucf101": _ucf101,
    "hmdb51": _hmdb51,
    "diving48": _diving48,
}

FORMATS: tuple[str, ...] = tuple(_READERS)
_OF_FOLDERS = ("folders", "hmdb51")
