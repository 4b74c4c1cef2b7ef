"""Predictions: the same answer for a video wherever it comes from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import kinema
from kinema import Recognizer
from kinema.data.sampling import sampling_of
from kinema.data.transforms import ViewTransform, normalize
from kinema.errors import CheckpointError, InputShapeError, OptionError, UnreadableVideoError
from kinema.inference.view_mean import mean_scores, summands
from kinema.values import Views
from kinema.video.decode import open_source

from ...random_weights import spread_scores


@pytest.fixture(scope="module")
def recognizer(checkpoint) -> Recognizer:
    return Recognizer.load(checkpoint, device="cpu")


@pytest.fixture(scope="module")
def frames(color_set) -> np.ndarray:
    """(n, H, W, 3) of one video."""
    with open_source(color_set / "green" / "0.mp4") as source:
        return source.read(range(source.info.frames)).permute(0, 2, 3, 1).contiguous().numpy()


def test_everything_comes_from_the_folder(recognizer):
    assert recognizer.labels == ("red", "green", "blue")
    assert recognizer.preprocessing.crop_px == 32
    assert not recognizer.net.training


def test_probabilities_are_sorted_and_sum_to_one(recognizer, color_set):
    prediction = recognizer.predict(color_set / "red" / "0.mp4")
    probs = [entry.prob for entry in prediction.top]
    assert probs == sorted(probs, reverse=True)
    assert sum(probs) == pytest.approx(1, abs=1e-5)
    assert {entry.name for entry in prediction.top} == {"red", "green", "blue"}
    assert prediction.top[0].label == prediction.scores.argmax()
    assert prediction.path == str(color_set / "red" / "0.mp4")


def test_top_limits_the_classes(recognizer, color_set):
    assert len(recognizer.predict(color_set / "red" / "0.mp4", top=2).top) == 2


@pytest.mark.parametrize(("clips", "crops"), [(1, 1), (3, 3), (2, 10)])
def test_file_and_memory_give_the_same_scores(recognizer, color_set, frames, clips, crops):
    file = recognizer.predict(color_set / "green" / "0.mp4", clips=clips, crops=crops)
    channels_first = torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()
    for video in (frames, torch.from_numpy(frames), channels_first, channels_first.numpy()):
        memory = recognizer.predict_frames(video, clips=clips, crops=crops)
        assert_allclose(memory.scores, file.scores, rtol=0, atol=1e-4)


def test_a_folder_of_frames_is_a_video(recognizer, frames, tmp_path):
    for number, picture in enumerate(frames):
        Image.fromarray(picture).save(tmp_path / f"frame_{number:03d}.png")
    folder = recognizer.predict(tmp_path)
    assert_allclose(folder.scores, recognizer.predict_frames(frames).scores, rtol=0, atol=1e-4)


def test_views_of_arrays_are_read_as_they_are(recognizer, frames):
    backwards = recognizer.predict_frames(frames[::-1])
    copied = recognizer.predict_frames(frames[::-1].copy())
    assert_allclose(backwards.scores, copied.scores, rtol=0, atol=0)
    frozen = frames.copy()
    frozen.flags.writeable = False
    assert_allclose(
        recognizer.predict_frames(frozen).scores, recognizer.predict_frames(frames).scores
    )


def test_one_frame_is_enough(recognizer, frames):
    assert len(recognizer.predict_frames(frames[:1]).top) == 3


def test_a_list_of_frames_is_a_video(recognizer):
    frames = np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3), np.uint8)
    assert_array_equal(
        recognizer.predict_frames(list(frames)).scores, recognizer.predict_frames(frames).scores
    )
    for wrong in ([frames[0], frames[1, :40]], "video.mp4", 3):
        with pytest.raises(
            InputShapeError, match="expected to hold frames of one size|is RGB frames"
        ):
            recognizer.predict_frames(wrong)


@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        (np.zeros((4, 48, 64), np.uint8), r"\(4, 48, 64\) uint8"),
        (np.zeros((4, 48, 64, 4), np.uint8), r"\(4, 48, 64, 4\) uint8"),
        (np.zeros((4, 48, 64, 3), np.int32), "int32"),
        (torch.zeros(2, 4, 3, 48, 64), r"\(2, 4, 3, 48, 64\) torch.float32"),
        (np.zeros((0, 48, 64, 3), np.uint8), r"\(0, 48, 64, 3\)"),
    ],
)
def test_wrong_frames_are_refused(recognizer, wrong, got):
    with pytest.raises(InputShapeError, match=f"is RGB frames of shape .* got .*{got}"):
        recognizer.predict_frames(wrong)


def test_wrong_options_are_refused(recognizer, color_set):
    video = color_set / "red" / "0.mp4"
    with pytest.raises(OptionError, match="crops must be 1, 3 or 10, got 2"):
        recognizer.predict(video, crops=2)
    with pytest.raises(OptionError, match="clips must be at least 1, got 0"):
        recognizer.predict(video, clips=0)
    with pytest.raises(OptionError, match="top must be at least 1, got 0"):
        recognizer.predict(video, top=0)


def test_unreadable_videos_name_file_and_reason(recognizer, color_set, tmp_path):
    with pytest.raises(UnreadableVideoError, match="gone.mp4 does not exist"):
        recognizer.predict(tmp_path / "gone.mp4")
    with pytest.raises(UnreadableVideoError, match="holds no frames"):
        recognizer.predict(tmp_path)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes((color_set / "red" / "0.mp4").read_bytes()[:200])
    with pytest.raises(UnreadableVideoError, match="cut.mp4"):
        recognizer.predict(cut)


def test_scores_that_mean_nothing_are_refused(recognizer):
    with pytest.raises(CheckpointError, match=r"scores for a\.mp4 are not finite"):
        recognizer.prediction_of(np.float32([0.0, np.nan, 1.0]), path="a.mp4")


def test_a_folder_that_is_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="is not a kinema checkpoint: it has no config.json"):
        Recognizer.load(tmp_path)


def test_a_saved_network_comes_back(recognizer, checkpoint, tmp_path):
    folder = kinema.save(
        recognizer.net,
        tmp_path / "again",
        labels=recognizer.labels,
        preprocessing=recognizer.preprocessing,
    )
    again = Recognizer.load(folder).net
    for name, tensor in recognizer.net.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_probabilities_are_averaged_where_the_network_says_so(checkpoint, color_set):
    saved = Recognizer.load(checkpoint, device="cpu")
    how = replace(saved.preprocessing, average="probs")
    recognizer = Recognizer(saved.net, saved.labels, how, device="cpu")
    video = color_set / "green" / "0.mp4"
    with open_source(video) as source:
        frames = source.read(sampling_of(how).test(source.info.frames, 1)[0])
    clips = normalize(ViewTransform(how, Views(crops=10))(frames), how.mean, how.std)
    spread_scores(saved.net, clips)
    with torch.inference_mode():
        probs_K = saved.net(clips).double().softmax(1).mean(0)
    prediction = recognizer.predict(video, crops=10)
    by_label = {entry.label: entry.prob for entry in prediction.top}
    assert [by_label[k] for k in range(3)] == pytest.approx(probs_K.tolist(), abs=1e-4)
    assert_allclose(np.exp(prediction.scores).sum(), 1, rtol=1e-5)
    of_scores = saved.predict(video, crops=10)
    assert abs(of_scores.top[0].prob - prediction.top[0].prob) > 0.03


def test_a_vanishing_probability_is_a_finite_score():
    probs = summands(np.array([[0.0, 1000.0], [0.0, 2000.0]]), "probs")
    assert probs.tolist() == [[0, 1], [0, 1]]
    scores = mean_scores(probs.mean(0), "probs")
    assert scores.tolist() == [pytest.approx(-708.4, abs=0.1), 0]
    assert mean_scores(summands(np.array([[1.0, 3.0]]), "scores"), "scores").tolist() == [[1, 3]]
