"""Submission files for test sets with hidden labels."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from kinema.data.classes import read_class_names
from kinema.errors import OptionError, did_you_mean
from kinema.system.files import write_whole
from kinema.values import Report
from kinema.video.decode import is_video_path

SubmissionForm = Literal["name", "top5"]

# Submission form of each annotation format.
FORM_OF: dict[str, SubmissionForm] = {"sthv1": "name", "jester": "name", "sthv2": "top5"}
# `top5` numbers classes like the label file of this data set.
_NUMBERED = "something_v2"


def write_submission(report: Report, path: str | Path, *, form: SubmissionForm) -> Path:
    """Writes a line per video without a header, as the code of TSM and TEA does.

    Args:
        report: Scores; labels are ignored.
        path: A new file.
        form: "name" writes `id;class name` (Something-Something V1, Jester); "top5" writes
            `id;n1;n2;n3;n4;n5`, the numbers of the five best classes in the label file of
            Something-Something V2, best first. The id is the name of the video without folder and
            suffix.

    Raises:
        OptionError: the file exists; also see `check_submission`.
        OutputError: it cannot be written.
    """
    target = Path(path)
    if target.exists():
        raise OptionError(f"{target} already exists. Choose a new name.")
    check_submission(report.paths, report.class_names, form=form)
    ids = [_id(path) for path in report.paths]
    if form == "top5":
        number = {name: str(label) for label, name in enumerate(read_class_names(_NUMBERED))}
        best_V5 = np.argsort(-report.scores, axis=1, kind="stable")[:, :5]
        rows = [[number[report.class_names[k]] for k in row] for row in best_V5]
    else:
        rows = [[report.class_names[label]] for label in report.scores.argmax(1)]
    lines = [";".join((name, *row)) for name, row in zip(ids, rows, strict=True)]
    write_whole(target, "\n".join(lines) + "\n")
    return target


def check_submission(
    paths: Sequence[str], class_names: Sequence[str], *, form: SubmissionForm
) -> None:
    """Checks, before videos are scored, that their predictions can be submitted.

    Raises:
        OptionError: two videos have the same id or, for "top5", the classes are not those of
            Something-Something V2.
    """
    twice = [name for name, count in Counter(map(_id, paths)).items() if count > 1]
    if twice:
        raise OptionError(
            f"A submission names videos by their id, and two have the id {twice[0]}. Test every "
            "video once."
        )
    if form != "top5":
        return
    names = read_class_names(_NUMBERED)
    for name in class_names:
        if name not in names:
            raise OptionError(
                f"{name!r} is not a class of Something-Something V2, whose submissions number "
                f"its classes. {did_you_mean(name, names)}"
            )
    if len(class_names) < 5:
        raise OptionError("A submission names five classes, but the network has fewer.")


def _id(path: str) -> str:
    """Name of a video file without suffix, or of a folder of frames."""
    return Path(path).stem if is_video_path(path) else Path(path).name
