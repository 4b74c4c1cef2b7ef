"""Clips and views in batches: reproducible, sharded, complete, honest about bad videos."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kinema.data.annotations import read_annotations
from kinema.data.dataset import TrainClips, VideoDataset, VideoViews
from kinema.data.loader import TrainLoader, ViewLoader
from kinema.data.transforms import Augmentation, TrainTransform
from kinema.errors import OptionError, UnreadableVideoError
from kinema.values import Preprocessing, Sample, Skipped, Views
from kinema.video.index_cache import CACHE_NAME

HOW = Preprocessing(frames=4, short_side_px=32, crop_px=24)


def opened(root: Path) -> VideoDataset:
    return VideoDataset(read_annotations(root, format="folders"), root, HOW)


def clips_of(dataset: VideoDataset, seed: int = 0) -> TrainClips:
    transform = TrainTransform(HOW, Augmentation(), dataset.annotations.class_names)
    return TrainClips(dataset, transform, seed=seed)


@pytest.fixture
def dataset(few_videos) -> VideoDataset:
    return opened(few_videos)


@pytest.fixture
def with_a_bad_one(few_videos, tmp_path) -> VideoDataset:
    root = tmp_path / "videos"
    shutil.copytree(few_videos, root)
    (root / "left" / "1.mp4").write_bytes(b"")
    return opened(root)


def one_epoch(dataset: VideoDataset, epoch: int = 0, **options) -> list[torch.Tensor]:
    loader = TrainLoader(clips_of(dataset), **{"batch_size": 2, "seed": 0, **options})
    loader.set_epoch(epoch)
    return [batch.clips_BTCHW for batch in loader]


def test_batches_have_the_promised_shapes(dataset):
    loader = TrainLoader(clips_of(dataset), batch_size=4, seed=0)
    batches = list(loader)
    assert len(loader) == len(batches) == 1
    assert batches[0].clips_BTCHW.shape == (4, 4, 3, 24, 24)
    assert batches[0].clips_BTCHW.dtype == torch.uint8
    assert batches[0].labels_B.dtype == torch.int64


def test_an_index_cache_changes_nothing(dataset, tmp_path):
    root = tmp_path / "videos"
    shutil.copytree(dataset.root, root, ignore=shutil.ignore_patterns(".*"))
    beside = replace(dataset, root=root)
    without = replace(beside, index_cache="")
    expected = one_epoch(without)
    assert not [path for path in root.iterdir() if path.is_file()]
    named = replace(beside, index_cache=str(tmp_path / "index"))
    for choice in (beside, beside, named, named):
        assert all(torch.equal(a, b) for a, b in zip(one_epoch(choice), expected, strict=True))
    assert (root / CACHE_NAME).is_file()
    assert (tmp_path / "index").is_file()
    views = [[batch.views_VTCHW for batch in ViewLoader(d, Views())] for d in (named, without)]
    assert all(torch.equal(a, b) for a, b in zip(*views, strict=True))


def test_a_wrong_place_for_the_index_cache_is_named(dataset, tmp_path):
    with pytest.raises(OptionError, match="index_cache must be a file in a folder that exists"):
        replace(dataset, index_cache=str(tmp_path / "no" / "folder"))


@pytest.mark.slow
def test_worker_processes_change_nothing(dataset):
    here, there = one_epoch(dataset), one_epoch(dataset, workers=2)
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


def test_epochs_and_seeds_differ_and_repeat(dataset):
    first, again, later = one_epoch(dataset), one_epoch(dataset), one_epoch(dataset, epoch=1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, later, strict=True))
    assert not torch.equal(
        clips_of(dataset)[0, 0].frames_TCHW, clips_of(dataset, 1)[0, 0].frames_TCHW
    )


def test_skipping_batches_continues_the_same_epoch(dataset):
    whole = one_epoch(dataset, epoch=3)
    loader = TrainLoader(clips_of(dataset), batch_size=2, seed=0)
    loader.set_epoch(3, skip_batches=1)
    rest = [batch.clips_BTCHW for batch in loader]
    assert len(whole) == 3
    assert all(torch.equal(a, b) for a, b in zip(whole[1:], rest, strict=True))


def test_processes_share_the_batches_of_one(dataset):
    whole = one_epoch(dataset, batch_size=2)[0]
    halves = [one_epoch(dataset, batch_size=1, rank=rank, world=2)[0] for rank in (0, 1)]
    assert torch.equal(whole, torch.cat(halves))


def test_a_set_smaller_than_a_batch_is_one_batch(dataset):
    (batch,) = one_epoch(dataset, batch_size=16)
    assert len(batch) == 16


def test_an_unreadable_video_stops_with_its_name(with_a_bad_one):
    with pytest.raises(UnreadableVideoError, match='1.mp4 is empty .*unreadable = "skip"'):
        one_epoch(with_a_bad_one)


def test_an_unreadable_video_is_skipped_counted_and_named_once(with_a_bad_one, caplog):
    loader = TrainLoader(clips_of(with_a_bad_one), batch_size=6, seed=0, unreadable="skip")
    for epoch in range(2):
        loader.set_epoch(epoch)
        assert [len(batch.labels_B) for batch in loader] == [5]
    assert [skipped.path for skipped in loader.skipped] == ["left/1.mp4"]
    (told,) = caplog.messages
    assert "1.mp4 is empty" in told


def test_a_batch_without_readable_videos_is_empty(with_a_bad_one):
    loader = TrainLoader(clips_of(with_a_bad_one), batch_size=1, seed=0, unreadable="skip")
    assert sorted(len(batch.labels_B) for batch in loader) == [0, 1, 1, 1, 1, 1]


def test_waiting_is_measured(dataset):
    loader = TrainLoader(clips_of(dataset), batch_size=2, seed=0)
    list(loader)
    assert loader.wait_s > 0
    loader.set_epoch(1)
    assert loader.wait_s == 0


@pytest.mark.parametrize("batch_views", [1, 4, 100])
@pytest.mark.parametrize(("clips", "crops"), [(1, 1), (7, 1), (3, 3), (2, 10)])
def test_every_view_comes_once_in_small_batches(dataset, batch_views, clips, crops):
    views = Views(clips=clips, crops=crops)
    counts = torch.zeros(len(dataset), dtype=torch.int64)
    for batch in ViewLoader(dataset, views, batch_views=batch_views):
        assert len(batch.views_VTCHW) == len(batch.indices_V) <= batch_views
        counts += torch.bincount(batch.indices_V, minlength=len(dataset))
    assert counts.tolist() == [views.count] * len(dataset)


def test_views_of_other_sizes_come_in_batches_of_their_own(few_videos, make_video):
    wide = make_video("videos/left/wide.mp4", size=(96, 40), frames=8)
    shutil.copy(few_videos / "left" / "1.mp4", wide.with_name("a.mp4"))
    dataset = opened(wide.parent.parent)
    shapes = [
        tuple(batch.views_VTCHW.shape)
        for batch in ViewLoader(dataset, Views(full_resolution=True), batch_views=8)
    ]
    assert shapes == [(1, 4, 3, 32, 38), (1, 4, 3, 32, 76)]


def test_views_of_an_unreadable_video_are_skipped(with_a_bad_one):
    loader = ViewLoader(with_a_bad_one, Views(clips=8), unreadable="skip")
    found = torch.cat([batch.indices_V for batch in loader])
    assert set(found.tolist()) == {1, 2, 3, 4, 5}
    assert len(loader.skipped) == 1
    with pytest.raises(UnreadableVideoError, match=r"1.mp4 is empty"):
        list(ViewLoader(with_a_bad_one, Views()))


def test_a_row_can_be_a_part_of_a_video(dataset):
    rows = dataset.annotations
    part = replace(rows, samples=(Sample(rows.samples[0].path, 0, start_frame=5, frames=4),))
    (item,) = VideoViews(replace(dataset, annotations=part), Views())
    (whole,) = VideoViews(
        replace(dataset, annotations=replace(rows, samples=rows.samples[:1])), Views()
    )
    assert not torch.equal(item.views_VTCHW, whole.views_VTCHW)
    outside = replace(rows, samples=(Sample(rows.samples[0].path, 0, start_frame=18, frames=9),))
    (skipped,) = VideoViews(replace(dataset, annotations=outside), Views())
    assert isinstance(skipped, Skipped)
    assert "has 21 frames, but its annotation needs 9 frames from frame 18 on" in skipped.reason


def test_empty_wishes_are_errors(dataset):
    with pytest.raises(OptionError, match="batch_size must be at least 1, got 0"):
        TrainLoader(clips_of(dataset), batch_size=0, seed=0)
    with pytest.raises(OptionError, match="batch_views must be at least 1, got 0"):
        ViewLoader(dataset, Views(), batch_views=0)
    nothing = replace(dataset, annotations=replace(dataset.annotations, samples=()))
    with pytest.raises(OptionError, match="has no videos to train on"):
        TrainLoader(clips_of(nothing), batch_size=1, seed=0)
