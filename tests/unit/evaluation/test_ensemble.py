"""Score files fused and averaged."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kinema.errors import CheckpointError, OptionError
from kinema.evaluation.ensemble import average_splits, fuse_scores
from kinema.evaluation.evaluate import load_scores, report_scores, save_scores
from kinema.values import Views

NAMES = ("jump", "run", "sit")
PATHS = ("a.mp4", "b.mp4", "c.mp4", "d.mp4")
LABELS = (0, 1, 2, 2)


@pytest.fixture
def write(tmp_path):
    def score_file(name, scores, *, paths=PATHS, labels=LABELS, names=NAMES, views=None) -> Path:
        report = report_scores(
            scores=np.array(scores, np.float32),
            labels=np.array(labels, np.int64),
            paths=tuple(paths),
            class_names=tuple(names),
            views=views or Views(),
        )
        return save_scores(report, tmp_path / f"{name}.npz")

    return score_file


@pytest.fixture
def two(write):
    """Each is wrong about two videos, and surer where it is right."""
    return (
        write("one", [[4, 0, 0], [0, 4, 0], [1, 0, 0], [1, 0, 0]]),
        write("two", [[0, 1, 0], [1, 0, 0], [0, 0, 4], [0, 0, 4]]),
    )


def softmax(scores):
    shifted = np.exp(scores - scores.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def test_together_they_are_right(two):
    fused = fuse_scores(two)
    assert [member.report.top1 for member in fused.members] == [0.5, 0.5]
    assert fused.report.top1 == 1.0
    assert fused.report.labels.tolist() == list(LABELS)


@pytest.mark.parametrize(("weights", "shares"), [(None, (0.5, 0.5)), ((3, 1), (0.75, 0.25))])
def test_probabilities_are_averaged(two, weights, shares):
    fused = fuse_scores(two, weights=weights)
    probs = [softmax(load_scores(file).scores.astype(float)) for file in two]
    wanted = shares[0] * probs[0] + shares[1] * probs[1]
    assert_allclose(np.exp(fused.report.scores), wanted, rtol=1e-6)
    assert_allclose(softmax(fused.report.scores), wanted, rtol=1e-6)
    assert tuple(member.weight for member in fused.members) == shares


def test_scores_are_averaged_when_asked(two):
    fused = fuse_scores(two, weights=(1, 3), average="scores")
    one, other = (load_scores(file).scores for file in two)
    assert_allclose(fused.report.scores, 0.25 * one + 0.75 * other, rtol=1e-6)


def test_a_weight_of_nothing_takes_no_part_and_large_scores_stay_finite(write):
    one = write("one", [[2000, 0, 0], [0, -2000, 0], [0, 0, 0], [1, 2, 3]])
    two = write("two", [[0, 0, 1]] * 4)
    alone = fuse_scores([one, two], weights=(1, 0)).report.scores
    assert_allclose(softmax(alone), softmax(load_scores(one).scores), rtol=1e-6)
    assert np.isfinite(fuse_scores([one, two]).report.scores).all()


def test_videos_in_another_order_are_paired_by_name(two, write):
    mixed = [3, 1, 0, 2]
    report = load_scores(two[1])
    other = write(
        "mixed",
        report.scores[mixed],
        paths=[PATHS[i] for i in mixed],
        labels=[LABELS[i] for i in mixed],
    )
    plain, paired = fuse_scores(two).report, fuse_scores([two[0], other]).report
    assert paired.paths == PATHS
    assert np.array_equal(plain.scores, paired.scores)


def test_labels_may_stand_in_one_file_only(two, write):
    bare = write("bare", load_scores(two[0]).scores, labels=[-1] * 4)
    assert fuse_scores([bare, two[1]]).report.top1 == 1.0
    assert fuse_scores([bare, bare]).report.top1 is None


def test_views_are_told_where_they_agree(write):
    views = Views(clips=10, crops=3)
    ten = [write(name, [[1, 0, 0]] * 4, views=views) for name in ("a", "b")]
    assert fuse_scores(ten).report.views == views
    one = write("one", [[1, 0, 0]] * 4)
    assert fuse_scores([*ten, one]).report.views == Views()


def test_a_fused_file_can_be_fused_again(two, tmp_path):
    fused = fuse_scores(two).report
    again = fuse_scores([save_scores(fused, tmp_path / "fused.npz")]).report
    assert_allclose(again.scores, fused.scores, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ("jump", "run")}, r"other.npz has 2 classes, .*one.npz has 3"),
        ({"names": ("jump", "sit", "run")}, r"other.npz has 'sit' as class 1, .*one.npz has 'run'"),
        ({"paths": ("a.mp4", "b.mp4", "c.mp4", "x.mp4")}, "other.npz lacks 1 videos .* d.mp4"),
        ({"paths": PATHS[:3], "labels": LABELS[:3]}, "other.npz lacks 1 videos that .*one.npz has"),
        ({"paths": ("d.mp4", "a.mp4", "b.mp4", "c.mp4", "e.mp4")}, "one.npz lacks 1 videos .* e.m"),
        ({"paths": ("b.mp4", *PATHS)}, "name a video several times and in another order"),
        ({"labels": (0, 1, 2, 1)}, "other.npz labels d.mp4 as 'run', a file before it as 'sit'"),
    ],
)
def test_what_differs_is_named(two, write, changes, message):
    videos, classes = len(changes.get("paths", PATHS)), len(changes.get("names", NAMES))
    labels = (0, 1, 2, 2, 0)[:videos] if classes == 3 else (0, 1, 1, 1)
    other = write("other", np.zeros((videos, classes)), **{"labels": labels, **changes})
    with pytest.raises(OptionError, match=message):
        fuse_scores([two[0], other])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((1,), "2 score files need 2 weights, got 1"),
        ((0, 0), "must not be negative or all 0"),
        ((2, -1), "must not be negative or all 0"),
        ((1, float("nan")), "must not be negative or all 0"),
    ],
)
def test_wrong_weights(two, weights, message):
    with pytest.raises(OptionError, match=message):
        fuse_scores(two, weights=weights)


def test_wrong_files_and_words(two, tmp_path):
    with pytest.raises(OptionError, match="needs score files, got none"):
        fuse_scores([])
    with pytest.raises(OptionError, match="'prob'. Did you mean 'probs'?"):
        fuse_scores(two, average="prob")
    with pytest.raises(CheckpointError, match="There is no score file .*gone.npz"):
        fuse_scores([two[0], tmp_path / "gone.npz"])


def test_mean_over_splits(write):
    right = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
    splits = []
    for number, wrong in enumerate((0, 1, 2)):
        scores = [*right[wrong:], *([[0, -1, -2]] * wrong)]
        labels = [*LABELS[wrong:], *([2] * wrong)]
        paths = [f"{number}{path}" for path in PATHS]
        splits.append(write(f"split{number}", scores, labels=labels, paths=paths))
    averaged = average_splits(splits)
    assert [report.top1 for report in averaged.reports] == [1.0, 0.75, 0.5]
    assert averaged.mean["top1"] == pytest.approx(0.75)
    assert averaged.deviation["top1"] == pytest.approx(0.25)
    assert (averaged.mean["top5"], averaged.deviation["top5"]) == (1.0, 0.0)
    assert set(averaged.mean) == set(averaged.deviation) == {"top1", "top5", "mean_class"}


def test_splits_must_be_splits(two, write):
    with pytest.raises(OptionError, match="two score files or more, got 1"):
        average_splits(two[:1])
    with pytest.raises(OptionError, match="two.npz holds the same videos as .*one.npz. Give the"):
        average_splits(two)
    paths = [f"other_{path}" for path in PATHS]
    bare = write("bare", np.zeros((4, 3)), paths=paths, labels=[-1] * 4)
    with pytest.raises(OptionError, match="bare.npz has no labels"):
        average_splits([two[0], bare])
    swapped = write("swapped", np.zeros((4, 3)), paths=paths, names=("run", "jump", "sit"))
    with pytest.raises(OptionError, match="swapped.npz has 'run' as class 0"):
        average_splits([two[0], swapped])
