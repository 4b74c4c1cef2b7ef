"""The public recognizer hands its work to streams and timelines."""

import numpy as np
import pytest

import kinema
from kinema.errors import OptionError
from kinema.inference.predict import ClipRecognizer
from kinema.live.stream import LiveRecognition, StreamSettings
from kinema.timeline import SegmentRule, TimelineSettings, timeline
from kinema.values import Preprocessing

LABELS = ("a", "b", "c")


@pytest.fixture(scope="module")
def recognizer() -> kinema.Recognizer:
    net = kinema.create_model("tsm_test_resnet", classes=3, frames=4, causal=True)
    how = Preprocessing(frames=4, short_side_px=40, crop_px=32)
    return kinema.Recognizer(net, LABELS, how, device="cpu")


@pytest.fixture(scope="module")
def video(color_set) -> str:
    return str(color_set / "red" / "0.mp4")


def test_a_stream(recognizer, video):
    settings = StreamSettings(every=2, top=1)
    with recognizer.stream(video, settings) as live:
        results = list(live)
    wanted = list(LiveRecognition(recognizer, video, settings=settings))
    assert [r.frame for r in results] == [0, 2, 4, 6, 8, 10]
    assert live.summary.frames == 6
    for result, other in zip(results, wanted, strict=True):
        assert (result.scores == other.scores).all()


def test_a_timeline(recognizer, video):
    settings, rule = TimelineSettings(window_s=0.5, stride_s=0.25), SegmentRule(enter=0.3)
    progress_calls: list[tuple[int, int]] = []
    found = recognizer.timeline(
        video, settings, rule=rule, progress=lambda *done: progress_calls.append(done)
    )
    wanted = timeline(recognizer, video, settings, rule=rule)
    np.testing.assert_array_equal(found.scores, wanted.scores)
    assert found.segments == wanted.segments
    assert progress_calls[-1] == (len(found.scores), len(found.scores))


def test_a_network_that_looks_ahead_has_no_stream(checkpoint, video):
    recognizer = kinema.Recognizer.load(checkpoint)
    assert isinstance(recognizer, ClipRecognizer)
    with pytest.raises(OptionError, match="cannot be streamed"):
        recognizer.stream(video)
