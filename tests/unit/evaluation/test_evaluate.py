"""The test protocol on real videos, with a network whose answers are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from PIL import Image
from torch import nn

from kinema import Recognizer
from kinema.data.annotations import read_annotations
from kinema.data.dataset import VideoDataset
from kinema.errors import CheckpointError, OptionError, UnreadableVideoError
from kinema.evaluation.evaluate import evaluate, load_scores, save_scores
from kinema.values import Annotations, Preprocessing, Sample, Views

HOW = Preprocessing(frames=2, short_side_px=40, crop_px=32)


class ColorNet(nn.Module):
    """Scores are the mean red, green and blue of the clip; remembers what it was shown."""

    name, classes, frames, snippet = "color_net", 3, 2, 1

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(3))
        self.drop = nn.Dropout(0.5)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(clips.shape))
        assert torch.is_inference_mode_enabled()
        return self.drop(clips.mean(dim=(1, 3, 4)) + self.offset)


@pytest.fixture
def net() -> ColorNet:
    return ColorNet()


@pytest.fixture
def dataset(color_set) -> VideoDataset:
    rows = read_annotations(color_set / "val.csv", classes=("red", "green", "blue"))
    return VideoDataset(rows, color_set, HOW)


def with_samples(dataset, *samples: Sample) -> VideoDataset:
    kept = dataset.annotations
    return replace(dataset, annotations=Annotations(samples, kept.class_names, "list.csv"))


def test_all_numbers_of_a_perfect_network(net, dataset):
    report = evaluate(net, dataset)
    assert (report.top1, report.top5, report.mean_class, report.videos) == (1.0, 1.0, 1.0, 6)
    assert report.confusion.tolist() == [[2, 0, 0], [0, 2, 0], [0, 0, 2]]
    assert [(c.name, c.videos, c.correct) for c in report.per_class] == [
        ("red", 2, 2),
        ("green", 2, 2),
        ("blue", 2, 2),
    ]
    assert report.paths[0] == "red/0.mp4"
    assert report.scores.dtype == np.float32
    assert report.skipped == ()


def test_a_wrong_network_is_counted_wrong(net, dataset):
    with torch.no_grad():
        net.offset[2] = -100.0  # never blue
    report = evaluate(net, dataset)
    assert report.top1 == pytest.approx(4 / 6)
    assert report.mean_class == pytest.approx(2 / 3)
    assert report.confusion[2, 2] == 0
    assert report.confusion[2].sum() == 2


@pytest.mark.parametrize("batch_views", [1, 4, 7, 100])
@pytest.mark.parametrize("views", [Views(clips=3, crops=3), Views(clips=2, crops=10)])
def test_scores_are_the_mean_over_views_whatever_the_batch(net, dataset, views, batch_views):
    two = with_samples(dataset, *dataset.annotations.samples[:2])
    report = evaluate(net, two, views=views, batch_views=batch_views)
    alone = evaluate(net, two, views=views, batch_views=1)
    assert_allclose(report.scores, alone.scores, rtol=0, atol=1e-5)
    assert max(shape[0] for shape in net.shapes) <= batch_views
    assert sum(shape[0] for shape in net.shapes[: -2 * views.count]) == 2 * views.count


@pytest.mark.parametrize("average", ["scores", "probs"])
def test_evaluation_and_prediction_agree(dataset, checkpoint, color_set, average):
    recognizer = Recognizer.load(checkpoint)
    recognizer.preprocessing = replace(recognizer.preprocessing, average=average)
    own = dataset.with_preprocessing(recognizer.preprocessing)
    report = evaluate(recognizer.net, own, views=Views(clips=2, crops=3))
    for path, scores in zip(report.paths, report.scores, strict=True):
        predicted = recognizer.predict(color_set / path, clips=2, crops=3)
        assert_allclose(predicted.scores, scores, rtol=0, atol=1e-4)
    of_probs = np.exp(report.scores).sum(1)
    assert np.allclose(of_probs, 1, atol=1e-5) == (average == "probs")


def test_full_resolution_takes_videos_of_several_sizes(net, dataset, tmp_path):
    for number in range(3):
        Image.new("RGB", (40, 80), (200, 0, 0)).save(tmp_path / f"{number}.png")
    mixed = with_samples(dataset, Sample(str(tmp_path), 0), *dataset.annotations.samples[:2])
    report = evaluate(net, mixed, views=Views(full_resolution=True))
    assert report.top1 == 1.0
    assert {shape[-2:] for shape in net.shapes} == {(80, 40), (40, 53)}


def test_modes_and_gradients_are_left_as_they_were(net, dataset):
    net.train()
    net.drop.eval()
    report = evaluate(net, dataset)
    assert (net.training, net.drop.training) == (True, False)
    assert torch.is_grad_enabled()
    net.drop.train()
    assert_allclose(evaluate(net, dataset).scores, report.scores)  # no dropout while testing


def test_bf16_gives_nearly_the_same_scores(dataset, checkpoint):
    recognizer = Recognizer.load(checkpoint)
    own = dataset.with_preprocessing(recognizer.preprocessing)
    exact = evaluate(recognizer.net, own).scores
    coarse = evaluate(recognizer.net, own, precision="bf16").scores
    assert not np.array_equal(coarse, exact)
    assert_allclose(coarse, exact, rtol=0, atol=0.1 * np.abs(exact).max())


def test_rows_without_label_are_scored_and_not_counted(net, dataset):
    samples = dataset.annotations.samples
    report = evaluate(net, with_samples(dataset, samples[0], replace(samples[5], label=None)))
    assert (report.videos, report.top1, report.per_class[2].videos) == (2, 1.0, 0)
    assert report.labels.tolist() == [0, -1]
    assert report.scores[1].argmax() == 2
    assert report.per_class[2].accuracy is None


def test_without_any_label_there_is_no_accuracy(net, dataset):
    report = evaluate(net, with_samples(dataset, Sample("red/0.mp4", None)))
    assert (report.top1, report.top5, report.mean_class) == (None, None, None)
    assert report.scores.shape == (1, 3)


def test_an_unreadable_video_stops_or_is_counted(net, dataset, tmp_path):
    empty = tmp_path / "empty.mp4"
    empty.touch()
    mixed = with_samples(
        dataset, Sample(str(empty), 0), Sample("gone.mp4", 1), *dataset.annotations.samples
    )
    with pytest.raises(UnreadableVideoError, match=r"empty.mp4 is empty \(0 bytes\)"):
        evaluate(net, mixed)
    report = evaluate(net, mixed, unreadable="skip", views=Views(clips=7, crops=3))
    assert (report.videos, report.top1) == (6, 1.0)
    assert [skipped.path for skipped in report.skipped] == [str(empty), "gone.mp4"]
    assert "does not exist" in report.skipped[1].reason


def test_only_the_unreadable_part_of_a_video_is_left_out(net, dataset):
    parts = [Sample("red/0.mp4", 0, frames=4), Sample("red/0.mp4", 0, start_frame=50)]
    report = evaluate(net, with_samples(dataset, *parts), unreadable="skip")
    assert report.videos == 1
    assert len(report.skipped) == 1


def test_no_readable_video_is_an_error(net, dataset):
    lost = with_samples(dataset, Sample("gone.mp4", 0), Sample("gone_too.mp4", 1))
    with pytest.raises(UnreadableVideoError, match="None of the 2 videos of list.csv .*gone.mp4"):
        evaluate(net, lost, unreadable="skip")


def test_what_does_not_fit_is_refused(net, dataset):
    with pytest.raises(OptionError, match="list.csv has no videos to test on"):
        evaluate(net, with_samples(dataset))
    few = replace(dataset.annotations, class_names=("red", "green"))
    with pytest.raises(CheckpointError, match="color_net has 3 classes, but .*val.csv has 2"):
        evaluate(net, replace(dataset, annotations=few))
    long = dataset.with_preprocessing(replace(HOW, frames=8))
    with pytest.raises(CheckpointError, match="takes 2 frames, .* preprocessing samples 8"):
        evaluate(net, long)


def test_progress_is_told(net, dataset):
    seen: list[tuple[int, int]] = []
    evaluate(net, dataset, batch_views=4, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 6), (6, 6)]


@pytest.mark.parametrize("places", ["twice_sample", "uniform_sample"])
def test_score_file_holds_everything_and_no_pickle(net, dataset, tmp_path, places):
    views = Views(clips=2, crops=3, resize_px=24, **{places: True})
    unlabeled = Sample("blue/0.mp4", None)
    report = evaluate(
        net, with_samples(dataset, *dataset.annotations.samples, unlabeled), views=views
    )
    path = save_scores(report, tmp_path / "new" / "scores.npz")
    assert [p.name for p in path.parent.iterdir()] == ["scores.npz"]
    again = load_scores(path)
    assert np.array_equal(again.scores, report.scores)
    assert np.array_equal(again.labels, report.labels)
    assert again.views == views
    assert (again.paths, again.class_names, again.per_class, again.top1, again.top5) == (
        report.paths,
        report.class_names,
        report.per_class,
        report.top1,
        report.top5,
    )
    with np.load(path, allow_pickle=False) as arrays:
        assert set(arrays) == {"scores", "labels", "paths", "class_names", "views"}
        older = {**arrays, "views": arrays["views"][:3]}
    np.savez(tmp_path / "older.npz", **older)
    assert load_scores(tmp_path / "older.npz").views == Views(clips=2, crops=3)


def test_score_files_are_not_overwritten(net, dataset, tmp_path):
    report = evaluate(net, dataset)
    path = save_scores(report, tmp_path / "scores.npz")
    before = path.read_bytes()
    with pytest.raises(OptionError, match="scores.npz already exists. Choose a new name"):
        save_scores(report, path)
    assert path.read_bytes() == before


def test_wrong_score_files_are_refused(net, dataset, tmp_path):
    with pytest.raises(OptionError, match="ends in .npz"):
        save_scores(evaluate(net, dataset), tmp_path / "scores.csv")
    with pytest.raises(CheckpointError, match="There is no score file"):
        load_scores(tmp_path / "scores.npz")
    (tmp_path / "text.npz").write_text("path,score")
    with pytest.raises(CheckpointError, match="text.npz is not a score file"):
        load_scores(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(CheckpointError, match="other.npz is not a score file"):
        load_scores(tmp_path / "other.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(CheckpointError, match="one.npy is not a score file"):
        load_scores(tmp_path / "one.npy")
