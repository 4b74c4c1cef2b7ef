"""Accuracies of scores against labels.

Letters: V videos, K classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.classification import multiclass_accuracy

Scores = NDArray[np.float32]
Labels = NDArray[np.int64]


def top_k_accuracy(scores_VK: Scores, labels_V: Labels, k: int) -> float:
    """Fraction of videos whose label is among the k highest scores (all K if K < k)."""
    classes = scores_VK.shape[1]
    if k >= classes:
        return 1.0
    share = multiclass_accuracy(
        torch.from_numpy(scores_VK),
        torch.from_numpy(labels_V),
        num_classes=classes,
        top_k=k,
        average="micro",
    )
    return round(float(share) * len(labels_V)) / len(labels_V)  # the library counts in float32


def confusion_matrix(scores_VK: Scores, labels_V: Labels) -> NDArray[np.int64]:
    """Number of videos (K, K) by (true class, class of the highest score)."""
    classes = scores_VK.shape[1]
    cells_V = classes * labels_V + torch.from_numpy(scores_VK).argmax(1).numpy()
    return np.bincount(cells_V, minlength=classes**2).reshape(classes, classes)


def mean_class_accuracy(confusion_KK: NDArray[np.int64]) -> float:
    """Mean accuracy over the classes that have videos."""
    videos = confusion_KK.sum(axis=1)
    present = videos > 0
    return float((confusion_KK.diagonal()[present] / videos[present]).mean())


def group_accuracy(confusion_KK: NDArray[np.int64], groups_K: Sequence[int]) -> float:
    """Fraction of videos whose predicted class is in the group of the true one."""
    groups = np.asarray(groups_K)
    same_KK = groups[:, None] == groups[None, :]
    return float(confusion_KK[same_KK].sum() / confusion_KK.sum())
