"""Accuracies of scores against labels.

Letters: V videos, K classes.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
)

Scores = NDArray[np.float32]
Labels = NDArray[np.int64]


def top_k_accuracy(scores_VK: Scores, labels_V: Labels, k: int) -> float:
    """Share of the videos whose label is among the k highest scores (all K when K < k)."""
    classes = scores_VK.shape[1]
    if k >= classes:
        return 1.0
    hits = multiclass_accuracy(
        torch.from_numpy(scores_VK),
        torch.from_numpy(labels_V),
        num_classes=classes,
        top_k=k,
        average="micro",
    )
    return float(hits)


def confusion_matrix(scores_VK: Scores, labels_V: Labels) -> NDArray[np.int64]:
    """(K, K) numbers of videos by (true class, class of the highest score)."""
    counts = multiclass_confusion_matrix(
        torch.from_numpy(scores_VK).argmax(1),
        torch.from_numpy(labels_V),
        num_classes=scores_VK.shape[1],
    )
    return counts.numpy().astype(np.int64)


def mean_class_accuracy(confusion_KK: NDArray[np.int64]) -> float:
    """Mean accuracy over the classes that have videos."""
    videos = confusion_KK.sum(axis=1)
    present = videos > 0
    return float((confusion_KK.diagonal()[present] / videos[present]).mean())
