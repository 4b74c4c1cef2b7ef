"""Annotation files of the common data sets, read into one form, and the table of their formats."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinema.data import annotation_formats as readers
from kinema.data.annotation_formats import AnnotationRequest
from kinema.data.classes import read_class_names
from kinema.data.csv_table import table_text
from kinema.errors import AnnotationError, OptionError, UnknownNameError, did_you_mean
from kinema.system.files import write_whole
from kinema.values import Annotations

Reader = Callable[[AnnotationRequest], Annotations]


@dataclass(frozen=True)
class AnnotationFormat:
    """Row of the format table: the reader, and True if it reads a folder instead of a file."""

    reader: Reader
    reads_folder: bool = False


FORMATS: dict[str, AnnotationFormat] = {
    "csv": AnnotationFormat(readers.read_csv),
    "folders": AnnotationFormat(readers.read_folders, reads_folder=True),
    "video_list": AnnotationFormat(readers.read_video_list),
    "rawframe_list": AnnotationFormat(readers.read_rawframe_list),
    "kinetics": AnnotationFormat(readers.read_kinetics),
    "sthv1": AnnotationFormat(readers.read_id_label),
    "sthv2": AnnotationFormat(readers.read_sthv2),
    "jester": AnnotationFormat(readers.read_id_label),
    "ucf101": AnnotationFormat(readers.read_ucf101),
    "hmdb51": AnnotationFormat(readers.read_hmdb51, reads_folder=True),
    "diving48": AnnotationFormat(readers.read_diving48),
    "moments_in_time": AnnotationFormat(readers.read_moments_in_time),
}


def register_format(name: str, reader: Reader, *, reads_folder: bool = False) -> None:
    """Adds an annotation format, which recipes and `--format` then accept.

    Args:
        name: Name of the format.
        reader: Turns an `AnnotationRequest` into `Annotations`. It raises `AnnotationError` for
            malformed lines, naming file and line; `AnnotationRequest.lines` gives both, and
            `kinema.data.classes.ClassList` checks the labels.
        reads_folder: True if the annotations are a folder instead of a file.

    Raises:
        OptionError: the name is taken.

    Example:
        `register_format("moments", read_moments)`
    """
    if name in FORMATS:
        raise OptionError(f"The annotation format {name!r} exists already. Choose another name.")
    FORMATS[name] = AnnotationFormat(reader, reads_folder)


def read_annotations(
    path: str | Path,
    *,
    format: str = "csv",
    root: str | Path | None = None,
    classes: str | Path | Sequence[str] | None = None,
    split: int = 1,
    subset: str = "train",
) -> Annotations:
    """Reads an annotation file.

    Args:
        path: The file, or the folder for `folders` and `hmdb51`.
        format: A key of `FORMATS`.
        root: Folder of the videos; only `kinetics` looks into it, to find the files' names. That of
            `moments_in_time` holds the folders training and validation; the name of the annotation
            file says which of them its videos are in, not `split` or `subset`.
        classes: The class names in the order of their labels, or a file that lists them. Formats
            that name classes by text (`csv`, `folders`, `moments_in_time`) default to the sorted
            names.
        split: 1, 2 or 3 for `hmdb51`.
        subset: "train" or "test" for `hmdb51`.

    Raises:
        AnnotationError: the file is missing or empty, a line is malformed, or a label is outside
            the class list; the message names file and line.
        UnknownNameError: the format does not exist.

    Example:
        `read_annotations("train.csv", classes=["jump", "run"])`
    """
    if format not in FORMATS:
        raise UnknownNameError(
            f"Unknown annotation format {format!r}. {did_you_mean(format, FORMATS)}"
        )
    source = Path(path)
    if not source.exists():
        here = "" if source.is_absolute() else f" in {Path.cwd()}"
        raise AnnotationError(f"Annotation file {source} does not exist{here}.")
    class_names: tuple[str, ...] | None = None
    if isinstance(classes, str | Path):
        class_names = read_class_names(classes)
    elif classes is not None:
        class_names = tuple(classes)
    if source.is_dir() and not FORMATS[format].reads_folder:
        raise AnnotationError(
            f"{source} is a folder, but the format {format!r} is a file. For one folder per class "
            "with its videos inside use the format 'folders'."
        )
    root = Path(root) if root is not None else None
    request = AnnotationRequest(source, root, class_names, split, subset)
    try:
        annotations = FORMATS[format].reader(request)
    except csv.Error as error:
        raise AnnotationError(f"{source} is not a valid CSV file: {error}.") from error
    if not annotations.samples:
        hint = readers.subfolder_hint(source) if source.is_dir() else ""
        raise AnnotationError(f"{source} holds no videos ({format}).{hint}")
    return annotations


def write_csv(annotations: Annotations, path: str | Path) -> None:
    """Writes annotations in the `csv` format, with class names in the label column."""
    rows: list[list[object]] = [["path", "label", "start_frame", "frames"]]
    for sample in annotations.samples:
        name = "" if sample.label is None else annotations.class_names[sample.label]
        frames = "" if sample.frames is None else sample.frames
        rows.append([sample.path, name, sample.start_frame, frames])
    write_whole(Path(path), table_text(rows))
