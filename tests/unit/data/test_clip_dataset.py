"""Clips for a training loop of one's own: plain items, in order, from workers."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

import kinema
from kinema.data.transforms import normalize
from kinema.errors import AnnotationError, UnreadableVideoError
from kinema.values import Preprocessing

HOW = Preprocessing(frames=4, short_side_px=32, crop_px=24)


@pytest.fixture
def videos(few_videos) -> kinema.VideoDataset:
    rows = kinema.read_annotations(few_videos, format="folders")
    return kinema.VideoDataset(rows, str(few_videos), HOW)


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, one, other))


def test_an_item_is_a_clip_and_a_label(videos):
    for train in (True, False):
        dataset = kinema.ClipDataset(videos, train=train)
        assert len(dataset) == 6
        clip, label = dataset[0]
        assert (clip.shape, clip.dtype) == ((4, 3, 24, 24), torch.uint8)
        assert label in (0, 1)  # a mirrored clip of "left" is one of "right"
        assert len(list(dataset)) == 6
        with pytest.raises(IndexError):
            dataset[6]
    assert [label for _, label in dataset] == [s.label for s in videos.annotations.samples]


def test_training_clips_are_random_and_repeated_by_the_seed(videos):
    dataset = kinema.ClipDataset(videos, train=True)
    torch.manual_seed(1)
    first = [clip for clip, _ in dataset]
    second = [clip for clip, _ in dataset]
    torch.manual_seed(1)
    assert equal(first, [clip for clip, _ in dataset])
    assert not equal(first, second)


def test_test_clips_are_those_of_predict(videos):
    dataset = kinema.ClipDataset(videos, train=False)
    net = kinema.create_model("tsm_test_resnet", classes=2, frames=4)
    recognizer = kinema.Recognizer(net, ("left", "right"), HOW, device="cpu")
    clip, _ = dataset[2]
    with torch.no_grad():
        scores = net(normalize(clip, HOW.mean, HOW.std).unsqueeze(0))[0]
    assert torch.equal(scores, torch.from_numpy(recognizer(videos.path(2)).scores))


def test_transforms_of_torchvision(videos):
    flipped = v2.RandomHorizontalFlip(p=1.0)
    frames, label = kinema.ClipDataset(videos, train=False, transform=flipped)[0]
    plain, same = kinema.ClipDataset(videos, train=False, transform=lambda *item: item)[0]
    assert frames.shape == (4, 3, 40, 48)
    assert torch.equal(frames, plain.flip(-1))
    assert label == same


def test_workers_give_the_same_test_clips(videos):
    dataset = kinema.ClipDataset(videos, train=False)
    alone, shared = (
        [batch for batch, _ in DataLoader(dataset, batch_size=3, num_workers=n)] for n in (0, 2)
    )
    assert equal(alone, shared)


@pytest.mark.slow
def test_workers_draw_other_clips_in_every_epoch(videos):
    loader = DataLoader(kinema.ClipDataset(videos, train=True), batch_size=3, num_workers=2)
    epochs = [[batch for batch, _ in loader] for _ in range(3)]
    assert not any(equal(one, other) for one, other in pairwise(epochs))


def test_videos_without_label_and_unreadable_ones(videos, tmp_path):
    rows = videos.annotations
    unknown = replace(rows.samples[0], label=None)
    mixed = replace(videos, annotations=replace(rows, samples=(unknown, *rows.samples[1:])))
    with pytest.raises(AnnotationError, match=f"{unknown.path} has no label to train on"):
        kinema.ClipDataset(mixed, train=True)
    assert kinema.ClipDataset(mixed, train=False)[0][1] == -1
    gone = kinema.ClipDataset(replace(videos, root=str(tmp_path)), train=False)
    with pytest.raises(UnreadableVideoError, match="does not exist"):
        gone[0]
