"""Batches on their way to the network and to the loss, with weights against unequal classes."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F

from kinema.data.loader import TrainBatch
from kinema.data.transforms import normalize
from kinema.train.batches import ClipLoss, DeviceBatches, balanced_weights, network_input
from kinema.train.settings import TrainSettings
from kinema.values import Preprocessing

CPU = torch.device("cpu")
SCORES = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 0, 0, 0, 0, 0, 2, 2])


def made(count: int, asked: list[int]) -> Iterator[TrainBatch]:
    for number in range(count):
        asked.append(number)
        yield TrainBatch(
            torch.full((2, 4, 3, 6, 8), number, dtype=torch.uint8), torch.tensor([number, 1])
        )


def test_on_the_cpu_batches_pass_through_one_by_one() -> None:
    asked: list[int] = []
    batches = DeviceBatches(made(3, asked), CPU)
    for number, batch in enumerate(batches):
        batches.load_ahead()
        assert asked == list(range(number + 1))
        assert batch.clips_BTCHW.dtype == torch.uint8
        assert bool((batch.clips_BTCHW == number).all())
        assert batch.labels_B.tolist() == [number, 1]
    assert asked == [0, 1, 2]
    assert batches.wait_s > 0


def test_waiting_is_counted_only_while_a_batch_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)

    def slow() -> Iterator[TrainBatch]:
        nonlocal now
        for batch in made(2, []):
            now += 3.0
            yield batch

    batches = DeviceBatches(slow(), CPU)
    for _ in batches:
        now += 10.0
    assert batches.wait_s == 6.0


def test_no_batches() -> None:
    assert list(DeviceBatches([], CPU)) == []


@pytest.mark.parametrize("channels_last", [False, True])
def test_input_is_normalized_in_the_memory_order_of_the_network(channels_last: bool) -> None:
    how = Preprocessing()
    clips = torch.randint(256, (2, 4, 3, 6, 8), dtype=torch.uint8)
    ready = network_input(clips, how, channels_last=channels_last)
    assert ready.dtype == torch.float32
    assert torch.equal(ready, normalize(clips, how.mean, how.std))
    frames = ready.flatten(0, 1)
    assert frames.data_ptr() == ready.data_ptr()
    order = torch.channels_last if channels_last else torch.contiguous_format
    assert frames.is_contiguous(memory_format=order)


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
