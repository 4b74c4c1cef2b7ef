"""Test protocols: mean scores over the views of every video, and accuracies.

Letters: V views, T frames, H, W, K classes.
"""

import contextlib
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from kinema.data.dataset import VideoDataset
from kinema.data.loader import Unreadable, ViewLoader
from kinema.data.transforms import normalize
from kinema.errors import CheckpointError, OptionError, UnreadableVideoError
from kinema.evaluation.metrics import confusion_matrix, mean_class_accuracy, top_k_accuracy
from kinema.inference.optimize import WantedPrecision, optimized_at_first
from kinema.inference.view_mean import mean_scores, summands
from kinema.models.network import Run, VideoNetwork
from kinema.system.files import whole_file
from kinema.system.machine import find_device
from kinema.values import ClassResult, Preprocessing, Report, Skipped, Views

# NumPy's errors for damaged score files; TypeError for a single array (.npy).
_NO_SCORES = (
    KeyError,
    TypeError,
    ValueError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
)


def evaluate(  # noqa: PLR0913 - the public door to a test protocol
    net: VideoNetwork,
    dataset: VideoDataset,
    *,
    views: Views | None = None,
    batch_views: int = 8,
    workers: int = 0,
    unreadable: Unreadable = "error",
    device: torch.device | str | None = None,
    precision: WantedPrecision | None = None,
    fast: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Tests a network on a data set.

    The scores of a video are the mean over its views, before softmax, or with `average="probs"` in
    the preprocessing the logarithms of its mean probabilities. Memory does not grow with
    the number of views or videos: at most `batch_views` views are held at a time.

    Args:
        net: The network; its mode is restored afterwards.
        dataset: Videos and their preprocessing. Rows without a label are scored but not counted.
        views: Clips and crops per video; default: one each.
        batch_views: Views per forward pass.
        workers: Decoding processes; 0 decodes in this one.
        unreadable: "error" stops at an unreadable video, "skip" counts it in the report.
        device: Device to move the network to; default: its current one.
        precision: "32" (default) or "bf16" (autocast); with `fast` also "auto" (then the
            default), bfloat16 if it is faster.
        fast: Uses the fastest form of the network on this machine (`kinema.optimize`), measured
            on the first views.
        progress: Called with (videos done, videos in all).

    Raises:
        CheckpointError: the network and the data set differ in classes or frames.
        UnreadableVideoError: a video cannot be read or, with "skip", none can.
        OptionError: the data set has no videos, or the precision does not exist.

    Example:
        `evaluate(net, dataset, views=Views(clips=10, crops=3)).top1`
    """
    views = views or Views()
    _check_fits(net, dataset)
    precision = _checked_precision(precision, fast)
    loader = ViewLoader(
        dataset, views, batch_views=batch_views, workers=workers, unreadable=unreadable
    )
    place = next(net.parameters()).device if device is None else find_device(device)
    net.to(place)
    how, videos = dataset.preprocessing, len(dataset)
    # Sums and counts per video: views of a video may be spread over several batches, and a video
    # that fails in the middle is recognized by its missing views.
    sums = np.zeros((videos, net.classes), np.float64)
    counts = np.zeros(videos, np.int64)
    score: Run = optimized_at_first(net, precision=precision) if fast else net
    autocast = precision == "bf16" and not fast
    with evaluating(net), torch.autocast(place.type, torch.bfloat16, enabled=autocast):
        for batch in loader:
            indices_V = batch.indices_V.numpy()
            terms_VK = summands(score_views(score, batch.views_VTCHW, how, place), how.average)
            # add.at adds every view; sums[indices] += ... would add a repeated index only once.
            np.add.at(sums, indices_V, terms_VK)
            np.add.at(counts, indices_V, 1)
            if progress is not None:
                progress(int(indices_V[-1]) + 1, videos)
    rows = _complete_rows(counts, views, loader, dataset)
    samples = [dataset.annotations.samples[i] for i in rows]
    return report_scores(
        scores=mean_scores(sums[rows] / views.count, how.average),
        labels=np.array([-1 if s.label is None else s.label for s in samples], np.int64),
        paths=tuple(s.path for s in samples),
        class_names=dataset.annotations.class_names,
        views=views,
        skipped=tuple(loader.skipped),
    )


def score_views(
    score: Run, views_VTCHW: torch.Tensor, how: Preprocessing, device: torch.device
) -> NDArray[np.float64]:
    """Scores views (V, T, 3, H, W), uint8: (V, K), before softmax."""
    clips = normalize(views_VTCHW.to(device), how.mean, how.std)
    scores: NDArray[np.float64] = score(clips).double().cpu().numpy()
    return scores


@contextlib.contextmanager
def evaluating(net: torch.nn.Module) -> Iterator[None]:
    """Eval mode without gradients; restores the mode of every module."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


def report_scores(
    *,
    scores: NDArray[np.float32],
    labels: NDArray[np.int64],
    paths: tuple[str, ...],
    class_names: tuple[str, ...],
    views: Views,
    skipped: tuple[Skipped, ...] = (),
) -> Report:
    """Builds a report from scores of a test, a score file or a fusion.

    Args:
        scores: (V, K) before softmax.
        labels: (V,); -1 for none.
        paths: The V videos.
        class_names: The K class names.
        views: Views that the scores are the mean of.
        skipped: Videos without scores.
    """
    known = labels >= 0
    confusion = np.zeros((len(class_names), len(class_names)), np.int64)
    top1 = top5 = mean_class = None
    if known.any():
        confusion = confusion_matrix(scores[known], labels[known])
        top1 = float(confusion.trace() / confusion.sum())
        top5 = top_k_accuracy(scores[known], labels[known], 5)
        mean_class = mean_class_accuracy(confusion)
    per_class = tuple(
        ClassResult(label, name, int(confusion[label].sum()), int(confusion[label, label]))
        for label, name in enumerate(class_names)
    )
    return Report(
        top1=top1,
        top5=top5,
        mean_class=mean_class,
        views=views,
        skipped=skipped,
        per_class=per_class,
        confusion=confusion,
        scores=scores,
        labels=labels,
        paths=paths,
        class_names=class_names,
    )


def save_scores(report: Report, path: str | Path) -> Path:
    """Writes the scores of every video as .npz (no pickles), for ensembles.

    The arrays are `scores` (V, K), `labels` (V,; -1 for none), `paths` (V,), `class_names` (K,)
    and `views` (clips, crops, 1 at full resolution, the side that crops are resized to or 0, 1
    with `twice_sample`, 1 with `uniform_sample`).

    Raises:
        OptionError: the name does not end in .npz, or the file exists.
        OutputError: it cannot be written.
    """
    target, views = Path(path), report.views
    if target.suffix != ".npz":
        raise OptionError(f"A score file ends in .npz, got {target}.")
    if target.exists():
        raise OptionError(f"{target} already exists. Choose a new name.")
    with whole_file(target) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file,
            scores=report.scores,
            labels=report.labels,
            paths=np.array(report.paths),
            class_names=np.array(report.class_names),
            views=np.array([int(value or 0) for value in astuple(views)]),
        )
    return target


def load_scores(path: str | Path) -> Report:
    """Reads a score file and recomputes accuracies; skipped videos are not stored in it.

    Raises:
        CheckpointError: the file is missing or not a score file of kinema.
    """
    source = Path(path)
    if not source.is_file():
        raise CheckpointError(f"There is no score file {source}.")
    try:
        with np.load(source, allow_pickle=False) as arrays:
            # Older files lack the last numbers.
            numbers = (*(int(n) for n in arrays["views"]), 0, 0, 0)[:6]
            clips, crops, whole, side, twice, uniform = numbers
            return report_scores(
                scores=arrays["scores"],
                labels=arrays["labels"],
                paths=tuple(arrays["paths"].tolist()),
                class_names=tuple(arrays["class_names"].tolist()),
                views=Views(clips, crops, bool(whole), side or None, bool(twice), bool(uniform)),
            )
    except _NO_SCORES as error:
        raise CheckpointError(
            f"{source} is not a score file: expected the .npz that `kinema evaluate --scores` "
            f"writes ({error})."
        ) from error


def _check_fits(net: VideoNetwork, dataset: VideoDataset) -> None:
    classes = len(dataset.annotations.class_names)
    if len(dataset) == 0:
        raise OptionError(f"{dataset.annotations.source} has no videos to test on.")
    if classes != net.classes:
        raise CheckpointError(
            f"{net.name} has {net.classes} classes, but {dataset.annotations.source} has "
            f"{classes}. Read the annotations with classes= the labels of the checkpoint."
        )
    if dataset.preprocessing.frames != net.frames:
        raise CheckpointError(
            f"{net.name} takes {net.frames} frames, but the data set's preprocessing samples "
            f"{dataset.preprocessing.frames}."
        )
    if dataset.preprocessing.snippet != net.snippet:
        raise CheckpointError(
            f"{net.name} takes snippets of {net.snippet} frames, but the data set's preprocessing "
            f"samples {dataset.preprocessing.snippet}."
        )


def _checked_precision(precision: WantedPrecision | None, fast: bool) -> WantedPrecision:
    known = get_args(WantedPrecision) if fast else ("32", "bf16")
    if precision is None:
        return "auto" if fast else "32"
    if precision not in known:
        raise OptionError(f"precision must be one of {', '.join(known)}, got {precision!r}.")
    return precision


def _complete_rows(
    counts: NDArray[np.int64], views: Views, loader: ViewLoader, dataset: VideoDataset
) -> list[int]:
    """Rows of the videos, at least one, with all views read."""
    rows = [int(i) for i in np.flatnonzero(counts == views.count)]
    if not rows:
        raise UnreadableVideoError(
            f"None of the {len(dataset)} videos of {dataset.annotations.source} could be read. "
            f"The first: {loader.skipped[0].reason}"
        )
    return rows
