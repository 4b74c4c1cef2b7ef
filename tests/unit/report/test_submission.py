"""Predictions in the forms of test servers."""

import numpy as np
import pytest

from kinema.data.classes import read_class_names
from kinema.errors import OptionError
from kinema.evaluation.evaluate import report_scores
from kinema.report.submission import write_submission
from kinema.values import Views

V2 = read_class_names("something_v2")


def unlabeled(scores, paths, names):
    return report_scores(
        scores=np.array(scores, np.float32),
        labels=np.full(len(paths), -1, np.int64),
        paths=tuple(paths),
        class_names=tuple(names),
        views=Views(),
    )


def test_the_best_class_by_name(tmp_path):
    report = unlabeled([[0, 2, 1], [3, 2, 1]], ("v/100", "v/101"), ("Sit", "Jump, twice", "Run"))
    path = write_submission(report, tmp_path / "new" / "v1.csv", form="name")
    assert path.read_bytes() == b"100;Jump, twice\n101;Sit\n"


@pytest.mark.parametrize("order", [1, -1])
def test_five_numbers_of_the_label_file(tmp_path, order):
    """The numbers are those of the label file, whatever order the network counts classes in."""
    names = V2[::order]
    scores = np.zeros((2, 174))
    for row, best in enumerate(([5, 0, 173, 20, 4], [9, 8, 7, 6, 5])):
        for place, number in enumerate(best):
            scores[row, names.index(V2[number])] = 10 - place
    report = unlabeled(scores, ("a/7.webm", "8.webm"), names)
    path = write_submission(report, tmp_path / "v2.csv", form="top5")
    assert path.read_text() == "7;5;0;173;20;4\n8;9;8;7;6;5\n"


def test_nothing_is_overwritten(tmp_path):
    report = unlabeled([[0, 1]], ("a",), ("x", "y"))
    path = write_submission(report, tmp_path / "v1.csv", form="name")
    with pytest.raises(OptionError, match="v1.csv already exists. Choose a new name"):
        write_submission(report, path, form="name")
    assert path.read_text() == "a;y\n"


def test_what_a_server_would_refuse(tmp_path):
    twice = unlabeled([[0, 1]] * 2, ("a/7.webm", "b/7.mp4"), ("x", "y"))
    with pytest.raises(OptionError, match="two have the id 7. Test every video once"):
        write_submission(twice, tmp_path / "a.csv", form="name")
    foreign = unlabeled([[0] * 6], ("a",), (*V2[:5], V2[5].lower()))
    with pytest.raises(
        OptionError, match="is not a class of Something-Something V2.* Did you mean"
    ):
        write_submission(foreign, tmp_path / "a.csv", form="top5")
    few = unlabeled([[0] * 4], ("a",), V2[:4])
    with pytest.raises(OptionError, match="names five classes, but the network has fewer"):
        write_submission(few, tmp_path / "a.csv", form="top5")
    assert list(tmp_path.iterdir()) == []
