"""Weights against unequal classes."""

import pytest
import torch
import torch.nn.functional as F

from kinema.train.loss import ClipLoss, balanced_weights
from kinema.train.settings import TrainSettings

SCORES = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 0, 0, 0, 0, 0, 2, 2])


def test_balanced_weights_are_one_on_average_and_leave_out_absent_classes():
    weights = balanced_weights(LABELS.tolist(), classes=3)
    assert weights.tolist() == pytest.approx([8 / 12, 0, 2])
    assert weights[LABELS].mean() == pytest.approx(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_weights_it_is_cross_entropy(smoothing):
    loss = ClipLoss(TrainSettings(label_smoothing=smoothing))
    expected = F.cross_entropy(SCORES, LABELS, label_smoothing=smoothing)
    assert torch.equal(loss(SCORES, LABELS), expected)


def test_all_videos_of_a_rare_class_weigh_as_much_as_those_of_a_frequent_one():
    weights = balanced_weights(LABELS.tolist(), classes=3)
    each = F.cross_entropy(SCORES, LABELS, reduction="none")
    loss = ClipLoss(TrainSettings(), weights)(SCORES, LABELS)
    assert loss == pytest.approx(float(each[:6].mean() + each[6:].mean()) / 2)


def test_a_batch_in_parts_has_the_loss_of_the_whole_one():
    loss = ClipLoss(TrainSettings(), balanced_weights(LABELS.tolist(), classes=3))
    parts = (loss(SCORES[:5], LABELS[:5]) * 5 + loss(SCORES[5:], LABELS[5:]) * 3) / 8
    assert loss(SCORES, LABELS) == pytest.approx(float(parts))


def test_mixed_targets_are_weighed_too():
    loss = ClipLoss(TrainSettings(), balanced_weights(LABELS.tolist(), classes=3))
    assert torch.equal(loss(SCORES, LABELS), loss(SCORES, F.one_hot(LABELS, 3).float()))
