"""Accuracies against hand-counted ones."""

import numpy as np
import pytest

from kinema.evaluation.metrics import (
    confusion_matrix,
    group_accuracy,
    mean_class_accuracy,
    top_k_accuracy,
)

SCORES_VK = np.array(
    [
        [3.0, 2.0, 1.0, 0.0],  # best 0, then 1
        [0.0, 1.0, 2.0, 3.0],  # best 3, then 2
        [1.0, 3.0, 2.0, 0.0],  # best 1, then 2
        [1.0, 2.0, 3.0, 0.0],  # best 2, then 1
        [9.0, 2.0, 3.0, 0.0],  # best 0, then 2
    ],
    np.float32,
)
LABELS_V = np.array([0, 2, 1, 1, 1])


@pytest.mark.parametrize(
    ("k", "share"), [(1, 2 / 5), (2, 4 / 5), (3, 1.0), (4, 1.0), (5, 1.0), (50, 1.0)]
)
def test_top_k(k, share):
    assert top_k_accuracy(SCORES_VK, LABELS_V, k) == share


def test_confusion_counts_rows_of_true_classes():
    assert confusion_matrix(SCORES_VK, LABELS_V).tolist() == [
        [1, 0, 0, 0],
        [1, 1, 1, 0],
        [0, 0, 0, 1],
        [0, 0, 0, 0],
    ]


def test_mean_class_accuracy_leaves_out_classes_without_videos():
    confusion = confusion_matrix(SCORES_VK, LABELS_V)
    assert mean_class_accuracy(confusion) == pytest.approx((1 + 1 / 3 + 0) / 3)


def test_two_classes_and_one_video():
    scores = np.array([[0.1, 0.2]], np.float32)
    assert top_k_accuracy(scores, np.array([1]), 1) == 1.0
    assert confusion_matrix(scores, np.array([0])).tolist() == [[0, 1], [0, 0]]


def test_group_accuracy_forgives_mistakes_inside_a_group():
    confusion = confusion_matrix(SCORES_VK, LABELS_V)
    assert group_accuracy(confusion, [0, 1, 2, 3]) == pytest.approx(2 / 5)
    assert group_accuracy(confusion, [7, 7, 8, 8]) == pytest.approx(4 / 5)
    assert group_accuracy(confusion, [7, 7, 7, 7]) == 1.0


def test_a_single_class_is_always_right():
    scores, labels = np.zeros((3, 1), np.float32), np.zeros(3, np.int64)
    assert confusion_matrix(scores, labels).tolist() == [[3]]
    assert top_k_accuracy(scores, labels, 1) == 1
