"""Score files combined: fused networks, and accuracies averaged over splits.

Letters: V videos, K classes, M members.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from kinema.errors import OptionError, did_you_mean
from kinema.evaluation.evaluate import load_scores, report_scores
from kinema.values import Report, Views

Average = Literal["probs", "scores"]


@dataclass(frozen=True)
class Member:
    """Score file of an ensemble, its weight and its own report."""

    file: str
    weight: float
    report: Report


@dataclass(frozen=True)
class Ensemble:
    """Fused scores and their members; the weights sum to 1.

    The views of `report` are those of the members, or one view if these differ.
    """

    report: Report
    members: tuple[Member, ...]


@dataclass(frozen=True)
class MeanOverSplits:
    """Accuracies over the splits of a data set: means and standard deviations (n - 1)."""

    files: tuple[str, ...]
    reports: tuple[Report, ...]
    mean: dict[str, float]
    deviation: dict[str, float]


def fuse_scores(
    files: Sequence[str | Path],
    *,
    weights: Sequence[float] | None = None,
    average: Average = "probs",
) -> Ensemble:
    """Fuses score files of the same videos: numbers of frames, networks, or modalities.

    TEINet fuses its 16-frame and 8-frame networks without stating how; averaging probabilities is
    customary.

    Args:
        files: Score files of `kinema evaluate --scores`; the order of their videos may differ.
        weights: Non-negative weight per file, equal by default; scaled to sum to 1.
        average: "probs" averages probabilities; the fused scores are then their logarithms, so
            that softmax gives them back. "scores" averages scores before softmax.

    Raises:
        OptionError: the files differ in videos, classes or labels, or the weights do not fit.
        CheckpointError: a file is missing or not a score file.

    Example:
        `fuse_scores(["tei16.npz", "tei8.npz"], weights=[2, 1]).report.top1`
    """
    shares = _shares(weights, len(files))
    if average not in get_args(Average):
        raise OptionError(
            f"average must be probs or scores, got {average!r}. "
            + did_you_mean(average, get_args(Average))
        )
    reports = [load_scores(file) for file in files]
    first = reports[0]
    aligned = [_aligned(first, files[0], r, f) for r, f in zip(reports, files, strict=True)]
    labels = first.labels
    for report, file in zip(aligned[1:], files[1:], strict=True):
        labels = _same_labels(labels, report, file)
    views = {report.views for report in reports}
    fused = report_scores(
        scores=_fused(np.stack([r.scores for r in aligned]), shares, average),
        labels=labels,
        paths=first.paths,
        class_names=first.class_names,
        views=views.pop() if len(views) == 1 else Views(),
    )
    return Ensemble(fused, tuple(map(Member, map(str, files), shares, reports)))


def average_splits(files: Sequence[str | Path]) -> MeanOverSplits:
    """Averages the accuracy over the splits of a data set (UCF101, HMDB51).

    Args:
        files: Score file of each split.

    Raises:
        OptionError: there is only one file, two hold the same videos, the classes differ, or a
            file has no labels.
        CheckpointError: a file is missing or not a score file.
    """
    if len(files) < 2:
        raise OptionError(f"A mean over splits needs two score files or more, got {len(files)}.")
    reports = [load_scores(file) for file in files]
    seen: dict[frozenset[str], str | Path] = {}
    for report, file in zip(reports, files, strict=True):
        _check_classes(reports[0], files[0], report, file)
        if report.top1 is None:
            raise OptionError(f"{file} has no labels, so it has no accuracy to average.")
        twin = seen.setdefault(frozenset(report.paths), file)
        if twin is not file:
            raise OptionError(
                f"{file} holds the same videos as {twin}. Give the score file of each split once "
                "(`kinema ensemble` fuses networks on the same videos)."
            )
    values = {
        name: [float(getattr(report, name)) for report in reports]
        for name in ("top1", "top5", "mean_class")
    }
    return MeanOverSplits(
        files=tuple(str(file) for file in files),
        reports=tuple(reports),
        mean={name: fmean(shares) for name, shares in values.items()},
        deviation={name: stdev(shares) for name, shares in values.items()},
    )


def _shares(weights: Sequence[float] | None, count: int) -> list[float]:
    if count == 0:
        raise OptionError("An ensemble needs score files, got none.")
    if weights is None:
        return [1 / count] * count
    if len(weights) != count:
        raise OptionError(f"{count} score files need {count} weights, got {len(weights)}.")
    total = sum(weights)
    if not all(np.isfinite(weights)) or min(weights) < 0 or total <= 0:
        raise OptionError(f"Weights must not be negative or all 0, got {list(weights)}.")
    return [weight / total for weight in weights]


def _fused(
    scores_MVK: NDArray[np.float32], shares_M: Sequence[float], average: Average
) -> NDArray[np.float32]:
    shares_M11 = np.array(shares_M)[:, None, None]
    terms_MVK = scores_MVK.astype(np.float64)
    if average == "scores":
        fused_VK = (terms_MVK * shares_M11).sum(0)
    else:
        # log(sum_m w_m softmax(s_m)), in the log domain so that tiny probabilities do not vanish.
        with np.errstate(divide="ignore"):  # a weight of 0 is ignored
            logs_MVK = terms_MVK - np.logaddexp.reduce(terms_MVK, axis=2, keepdims=True)
            fused_VK = np.logaddexp.reduce(logs_MVK + np.log(shares_M11), axis=0)
    return np.asarray(fused_VK, np.float32)


def _check_classes(first: Report, first_file: str | Path, other: Report, file: str | Path) -> None:
    if first.class_names == other.class_names:
        return
    ours, theirs = first.class_names, other.class_names
    if len(ours) != len(theirs):
        what = f"{len(theirs)} classes, {first_file} has {len(ours)}"
    else:
        label = next(k for k, name in enumerate(ours) if name != theirs[k])
        what = f"{theirs[label]!r} as class {label}, {first_file} has {ours[label]!r}"
    raise OptionError(f"{file} has {what}. Give score files of the same classes in one order.")


def _aligned(first: Report, first_file: str | Path, other: Report, file: str | Path) -> Report:
    """Reorders the videos of the other report like those of the first."""
    _check_classes(first, first_file, other, file)
    if first.paths == other.paths:
        return other
    ours, theirs = set(first.paths), set(other.paths)
    lacking = ((first_file, file, ours - theirs), (file, first_file, theirs - ours))
    for has, lacks, surplus in lacking:
        if surplus:
            raise OptionError(
                f"{lacks} lacks {len(surplus)} videos that {has} has, such as {min(surplus)}. "
                "Give score files of the same videos."
            )
    # Rows are matched by path, which fails when a path stands for several rows (parts of a video).
    if len(ours) != len(first.paths) or len(theirs) != len(other.paths):
        raise OptionError(
            f"{file} and {first_file} name a video several times and in another order, so their "
            "rows cannot be paired. Score both with the same annotation file."
        )
    place = {path: row for row, path in enumerate(other.paths)}
    rows = [place[path] for path in first.paths]
    return replace(other, scores=other.scores[rows], labels=other.labels[rows], paths=first.paths)


def _same_labels(
    labels_V: NDArray[np.int64], report: Report, file: str | Path
) -> NDArray[np.int64]:
    """Labels known to either report; -1 if unknown to both."""
    differ = (labels_V >= 0) & (report.labels >= 0) & (labels_V != report.labels)
    if differ.any():
        row = int(differ.argmax())
        names = report.class_names
        raise OptionError(
            f"{file} labels {report.paths[row]} as {names[int(report.labels[row])]!r}, a file "
            f"before it as {names[int(labels_V[row])]!r}. Score all with the same annotations."
        )
    return np.where(labels_V >= 0, labels_V, report.labels)
