"""Test protocols: mean scores over the views of every video, and accuracies.

Letters: V views, T frames, H, W, K classes.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from kinema.data.dataset import VideoDataset
from kinema.data.loader import Unreadable, ViewLoader, view_batches
from kinema.data.transforms import normalise
from kinema.errors import CheckpointError, OptionError, UnreadableVideoError
from kinema.metrics import confusion_matrix, mean_class_accuracy, top_k_accuracy
from kinema.models.network import VideoNetwork
from kinema.types import ClassResult, Preprocessing, Report, Skipped, Views

Precision = Literal["32", "bf16"]


def evaluate(  # noqa: PLR0913 - the public door to a test protocol
    net: VideoNetwork,
    dataset: VideoDataset,
    *,
    views: Views | None = None,
    batch_views: int = 8,
    workers: int = 0,
    unreadable: Unreadable = "error",
    device: torch.device | str | None = None,
    precision: Precision = "32",
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Tests a network on a data set.

    A video's scores are the mean over its views of the scores before softmax. Memory does not
    grow with the number of views or videos: at most `batch_views` views are held at a time.

    Args:
        net: The network; it is in the mode it was in when this returns.
        dataset: Videos and how they become clips. Rows without a label are scored, not counted.
        views: Clips and crops of every video; one of each when not given.
        batch_views: Views of one forward pass.
        workers: Decoding processes; 0 decodes in this one.
        unreadable: "error" stops at a video that cannot be read, "skip" counts it in the report.
        device: Where to compute; where the network is when not given.
        precision: "32" or "bf16" (autocast).
        progress: Called with (videos done, videos in all).

    Raises:
        CheckpointError: the network has other classes or frames than the data set.
        UnreadableVideoError: a video, or every video, cannot be read.
    """
    views = views or Views()
    _check_fits(net, dataset)
    loader = view_batches(
        dataset, views, batch_views=batch_views, workers=workers, unreadable=unreadable
    )
    place = torch.device(device) if device is not None else next(net.parameters()).device
    how, videos = dataset.preprocessing, len(dataset)
    sums = np.zeros((videos, net.classes), np.float64)
    counts = np.zeros(videos, np.int64)
    with evaluating(net), _autocast(place, precision):
        for batch in loader:
            scores = score_views(net, batch.views_VTCHW, how, place)
            rows = batch.indices_V.numpy()
            np.add.at(sums, rows, scores)
            np.add.at(counts, rows, 1)
            if progress is not None:
                progress(int(rows[-1]) + 1, videos)
    return _report(dataset, views, sums, counts, _skipped(loader, dataset))


def score_views(
    net: VideoNetwork, views_VTCHW: torch.Tensor, how: Preprocessing, device: torch.device
) -> NDArray[np.float64]:
    """(V, T, 3, H, W) uint8 views -> (V, K) scores before softmax."""
    clips = normalise(views_VTCHW.to(device), how.mean, how.std)
    scores: NDArray[np.float64] = net(clips).double().cpu().numpy()
    return scores


@contextlib.contextmanager
def evaluating(net: torch.nn.Module) -> Iterator[None]:
    """Eval mode without gradients; puts every module back into its own mode."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


def save_scores(report: Report, path: str | Path) -> Path:
    """Writes the scores of every video as .npz (no pickles): the input of an ensemble.

    The arrays are `scores` (V, K), `labels` (V,; -1 for none), `paths` (V,), `class_names` (K,),
    `clips` and `crops`.
    """
    target = Path(path)
    if target.suffix != ".npz":
        raise OptionError(f"A score file ends in .npz, got {target}.")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.part")
    with partial.open("wb") as file:
        np.savez_compressed(
            file,
            scores=report.scores,
            labels=report.labels,
            paths=np.array(report.paths),
            class_names=np.array(report.class_names),
            clips=report.views.clips,
            crops=report.views.crops,
        )
    os.replace(partial, target)
    return target


def _check_fits(net: VideoNetwork, dataset: VideoDataset) -> None:
    classes = len(dataset.annotations.class_names)
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


def _autocast(device: torch.device, precision: Precision) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def _skipped(loader: ViewLoader, dataset: VideoDataset) -> tuple[Skipped, ...]:
    skipped = loader.skipped
    if len({s.path for s in skipped}) == len({s.path for s in dataset.annotations.samples}):
        raise UnreadableVideoError(
            f"None of the {len(dataset)} videos of {dataset.annotations.source} could be read. "
            f"The first: {skipped[0].reason}"
        )
    return tuple(skipped)


def _report(
    dataset: VideoDataset,
    views: Views,
    sums: NDArray[np.float64],
    counts: NDArray[np.int64],
    skipped: tuple[Skipped, ...],
) -> Report:
    """Scores of the videos of which every view was read, and their accuracies."""
    samples, names = dataset.annotations.samples, dataset.annotations.class_names
    left_out = {s.path for s in skipped}
    rows = [i for i, sample in enumerate(samples) if sample.path not in left_out and counts[i]]
    scores = (sums[rows] / counts[rows, None]).astype(np.float32)
    labels = np.array(
        [-1 if samples[i].label is None else samples[i].label for i in rows], dtype=np.int64
    )
    known = labels >= 0
    confusion = np.zeros((len(names), len(names)), np.int64)
    top1 = top5 = mean_class = None
    if known.any():
        confusion = confusion_matrix(scores[known], labels[known])
        top1 = float(confusion.trace() / confusion.sum())
        top5 = top_k_accuracy(scores[known], labels[known], 5)
        mean_class = mean_class_accuracy(confusion)
    per_class = tuple(
        ClassResult(label, name, int(confusion[label].sum()), int(confusion[label, label]))
        for label, name in enumerate(names)
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
        paths=tuple(samples[i].path for i in rows),
        class_names=names,
    )
