"""Batches sent ahead arrive whole and in order while the device is busy."""

import pytest
import torch

from kinema.data.loader import TrainBatch
from kinema.train.batches import DeviceBatches

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
COUNT = 12


def made(number: int) -> TrainBatch:
    generator = torch.Generator().manual_seed(number)
    clips = torch.randint(256, (8, 8, 3, 112, 112), dtype=torch.uint8, generator=generator)
    return TrainBatch(clips, torch.full((8,), number))


def test_batches_sent_ahead_equal_those_of_the_loader() -> None:
    asked: list[int] = []
    work = torch.randn(4096, 4096, device="cuda")

    def loader():
        for number in range(COUNT):
            asked.append(number)
            yield made(number)

    batches = DeviceBatches(loader(), torch.device("cuda", torch.cuda.current_device()))
    sums = []
    for number, batch in enumerate(batches):
        work = (work @ work).clamp(-1, 1)
        sums.append((batch.clips_BTCHW.double().sum(), batch.labels_B.sum()))
        batches.load_ahead()
        assert len(asked) == min(number + 2, COUNT)
        assert batch.clips_BTCHW.is_cuda
    assert len(sums) == COUNT
    for number, (clips_sum, labels_sum) in enumerate(sums):
        assert clips_sum.item() == made(number).clips_BTCHW.double().sum().item()
        assert labels_sum.item() == 8 * number


def test_it_works_without_loading_ahead() -> None:
    batches = DeviceBatches((made(n) for n in range(3)), torch.device("cuda"))
    assert [int(batch.labels_B[0]) for batch in batches] == [0, 1, 2]
    assert batches.wait_s > 0
