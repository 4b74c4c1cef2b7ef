"""Networks on snippets in every task that reads clips: the neighbors come along."""

from pathlib import Path

import pytest
import torch
from numpy.testing import assert_allclose

import kinema
from kinema import Recognizer
from kinema.archive.settings import LabelSettings, Work
from kinema.data.annotations import read_annotations
from kinema.data.dataset import VideoDataset
from kinema.data.transforms import ViewTransform, normalize
from kinema.errors import CheckpointError, OptionError
from kinema.evaluation.evaluate import evaluate
from kinema.figures.capture import run_watched
from kinema.figures.shown_clip import read_shown_clip
from kinema.timeline import TimelineSettings, timeline
from kinema.values import Preprocessing, Views
from kinema.video.decode import open_source

from ...random_weights import tiny_network

HOW = {"frames": 4, "short_side_px": 40, "crop_px": 32, "snippet": 5}
NAMES = ("red", "green", "blue")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("snippets") / "tdn"
    return kinema.save(
        tiny_network("tdn"), target, labels=NAMES, preprocessing=Preprocessing(**HOW)
    )


@pytest.fixture(scope="module")
def recognizer(folder) -> Recognizer:
    return Recognizer.load(folder, device="cpu")


@pytest.fixture(scope="module")
def frames(video) -> torch.Tensor:
    """(12, 3, 48, 64)."""
    with open_source(video) as source:
        return source.read(range(12))


def small(frames: torch.Tensor) -> torch.Tensor:
    """(n, 3, 32, 32), as the preprocessing makes them."""
    how = Preprocessing(**HOW)
    return normalize(ViewTransform(how, Views())(frames)[0], how.mean, how.std)


@torch.inference_mode()
def test_a_prediction_samples_snippets(recognizer, video, frames):
    # 8 places for the first frame of a snippet, 2 in each segment.
    numbers = [first + j for first in (1, 3, 5, 7) for j in range(5)]
    wanted = recognizer.net(small(frames[numbers]).unsqueeze(0))[0]
    assert_allclose(recognizer.predict(video).scores, wanted, rtol=1e-4, atol=1e-4)
    memory = recognizer.predict_frames(frames, clips=2, crops=3).scores
    assert_allclose(recognizer.predict(video, clips=2, crops=3).scores, memory, atol=1e-4)


def test_an_evaluation_agrees_with_the_prediction(recognizer, color_set, video):
    rows = read_annotations(color_set / "val.csv", classes=NAMES)
    data = VideoDataset(rows, color_set, recognizer.preprocessing, index_cache="")
    report = evaluate(recognizer.net, data, views=Views(clips=2))
    place = report.paths.index(video.relative_to(color_set).as_posix())
    wanted = recognizer.predict(video, clips=2).scores
    assert_allclose(report.scores[place], wanted, rtol=1e-4, atol=1e-4)
    other = data.with_preprocessing(Preprocessing(frames=4))
    with pytest.raises(CheckpointError, match="takes snippets of 5 frames.* samples 1"):
        evaluate(recognizer.net, other)


@torch.inference_mode()
def test_windows_of_a_timeline_have_the_neighbors_of_their_frames(recognizer, video, frames):
    found = timeline(recognizer, video, TimelineSettings(window_s=0.5, stride_s=0.25))
    # The grid has 8 frames, at the middles of 0.125 s.
    centers = [0, 2, 3, 5, 6, 8, 9, 11]
    for row, first in enumerate((0, 2, 4)):
        numbers = [
            min(max(center - 2, 0), 7) + j
            for center in centers[first : first + 4]
            for j in range(5)
        ]
        wanted = recognizer.net(small(frames[numbers]).unsqueeze(0))[0]
        assert_allclose(found.scores[row], wanted, rtol=1e-4, atol=1e-4)
    assert len(found.scores) == 3
    with pytest.raises(OptionError, match="takes snippets of 5 neighboring frames"):
        timeline(recognizer, video, TimelineSettings(stream=True))


def test_a_stream_of_frames_is_refused(recognizer, video):
    with pytest.raises(OptionError, match="so it cannot work frame by frame. Use a network"):
        recognizer.stream(str(video))


def test_labels_of_many_videos_have_room_for_all_frames(recognizer, folder):
    settings, how = LabelSettings(clips=2, crops=3), recognizer.preprocessing
    work = Work(str(folder), "", how, settings, "cpu", threads=1, plugins=())
    assert work.shape == (6, 20, 3, 32, 32)


def test_figures_show_the_centers(recognizer, video):
    shown = read_shown_clip(video, recognizer.preprocessing)
    assert shown.frame_indices == (3, 5, 7, 9)
    assert shown.frames.shape == (4, 32, 32, 3)
    (seen,) = run_watched(recognizer.net, shown.clip, [recognizer.net.backbone.layer4])
    assert len(seen.returned) == 4
