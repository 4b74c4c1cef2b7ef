"""`kinema ensemble` on score files of real evaluations."""

import numpy as np
import pytest

from kinema.data.classes import read_class_names
from kinema.evaluation.ensemble import fuse_scores
from kinema.evaluation.evaluate import load_scores, report_scores, save_scores
from kinema.values import Views


@pytest.fixture(scope="module")
def score(checkpoint, color_set, tmp_path_factory):
    """Writes score files of the color set, or of some of its videos, by other views."""
    from kinema import Recognizer
    from kinema.data.annotations import read_annotations
    from kinema.data.dataset import VideoDataset
    from kinema.evaluation.evaluate import evaluate
    from kinema.values import Annotations

    recognizer = Recognizer.load(checkpoint)
    rows = read_annotations(color_set / "val.csv", classes=recognizer.labels)
    folder = tmp_path_factory.mktemp("scores")

    def write(name, *, clips=1, videos=slice(None)):
        part = Annotations(rows.samples[videos], rows.class_names, rows.source)
        dataset = VideoDataset(part, color_set, recognizer.preprocessing)
        report = evaluate(recognizer.net, dataset, views=Views(clips=clips))
        return save_scores(report, folder / name)

    return write


@pytest.fixture(scope="module")
def two(score):
    return score("one.npz"), score("three.npz", clips=3)


def test_fused_and_written(kinema, two, tmp_path):
    out = ("--scores", tmp_path / "fused.npz")
    document = kinema("ensemble", *two, "--weights", "2,1", *out, "--json").document
    wanted = fuse_scores(two, weights=(2, 1)).report
    assert (document["top1"], document["top5"]) == (wanted.top1, wanted.top5)
    assert document["videos"] == 6
    assert [member["file"] for member in document["members"]] == [str(file) for file in two]
    assert [member["weight"] for member in document["members"]] == pytest.approx([2 / 3, 1 / 3])
    assert (load_scores(tmp_path / "fused.npz").scores == wanted.scores).all()
    table = kinema("ensemble", *two).out
    for part in ("one.npz", "0.500", "together", "mean class"):
        assert part in table


def test_predictions_of_an_ensemble_can_be_submitted(kinema, two, score, tmp_path):
    few = score("red.npz", videos=slice(2)), score("red3.npz", clips=3, videos=slice(2))
    words = ("--submission", tmp_path / "fused.csv", "--submission-form", "name")
    answer = kinema("ensemble", *few, *words)
    assert answer.code == 0
    assert answer.err == f"Submission: {tmp_path / 'fused.csv'}\n"
    report = fuse_scores(few).report
    best = [report.class_names[k] for k in report.scores.argmax(1)]
    assert (tmp_path / "fused.csv").read_text() == f"0;{best[0]}\n1;{best[1]}\n"
    answer = kinema("ensemble", *two, "--submission", tmp_path / "all.csv", *words[2:])
    assert answer.code == 1
    assert "two have the id 0. Test every video once" in answer.err


def test_the_submission_of_a_hidden_test_set_follows_the_weights(kinema, tmp_path):
    """Two networks that disagree; ids of Something-Something V2, no labels, files in any order."""
    names = read_class_names("something_v2")
    scores = np.zeros((2, 2, len(names)), np.float32)  # networks, videos, classes
    scores[0, :, [7, 0, 3, 9, 5]] = [[5], [4], [3], [2], [1]]
    scores[1, :, [2, 0, 3, 9, 5]] = [[5], [4], [3], [2], [1]]
    files = []
    for network, paths in enumerate((("v/11.webm", "v/12.webm"), ("v/12.webm", "v/11.webm"))):
        report = report_scores(
            scores=scores[network],
            labels=np.full(2, -1),
            paths=paths,
            class_names=names,
            views=Views(),
        )
        files.append(save_scores(report, tmp_path / f"{network}.npz"))
    words = ("--average", "scores", "--submission-form", "top5", "--submission")
    for weights, best in (("1,1", (0, 3, 2, 7, 9)), ("3,1", (0, 7, 3, 9, 2))):
        out = tmp_path / f"{weights}.csv"
        answer = kinema("ensemble", *files, "--weights", weights, *words, out)
        assert (answer.code, answer.err) == (0, f"Submission: {out}\n")
        row = ";".join(map(str, best))
        assert out.read_text() == f"11;{row}\n12;{row}\n"


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (("--weights", "2;1"), "expected numbers such as 2,1"),
        (("--splits", "--weights", "2,1"), "--splits fuses no scores"),
        (("--average", "max"), "expected probs or scores"),
        (("--scores", "fused.csv"), "expected a file name ending in .npz"),
        (("--submission", "fused.csv"), "give the format with --submission-form"),
    ],
)
def test_wrong_use(kinema, two, more, part):
    answer = kinema("ensemble", *two, *more)
    assert (answer.code, answer.out) == (2, "")
    assert part in " ".join(answer.err.replace("│", " ").split())


def test_what_does_not_fit_is_one_message(kinema, two, score):
    part = score("part.npz", videos=slice(4))
    answer = kinema("ensemble", two[0], part)
    assert (answer.code, answer.out) == (1, "")
    assert "part.npz lacks 2 videos" in answer.err
    answer = kinema("ensemble", *two, "--weights", "1")
    assert "2 score files need 2 weights, got 1" in answer.err


def test_splits_are_averaged(kinema, score):
    files = [score(f"split{n}.npz", videos=slice(n, None, 2)) for n in (0, 1)]
    document = kinema("ensemble", "--splits", *files, "--json").document
    alone = [load_scores(file).top1 for file in files]
    assert document["top1"] == pytest.approx(sum(alone) / 2)
    assert [split["top1"] for split in document["splits"]] == alone
    assert set(document["deviation"]) == {"top1", "top5", "mean_class"}
    table = kinema("ensemble", "--splits", *files).out
    for part in ("split0.npz", "mean ± deviation", " % ± "):
        assert part in table
    answer = kinema("ensemble", "--splits", files[0], files[0])
    assert answer.code == 1
    assert "holds the same videos as" in answer.err
