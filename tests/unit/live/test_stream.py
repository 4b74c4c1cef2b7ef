"""Streams: scores equal those of the network on the whole video; smoothing and shown classes."""

import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from kinema import Recognizer
from kinema.data.transforms import ViewTransform, normalize
from kinema.errors import MissingExtraError, OptionError, UnknownNameError
from kinema.inference.candidates import TOLERANCE
from kinema.live.connection import Connection
from kinema.live.live_source import LiveFrame
from kinema.live.overlay import CaptionedVideo, Window, with_caption
from kinema.live.smoothing import EveryFrame, Hysteresis, WindowMean, background_labels
from kinema.live.sources import RawFormat, open_live
from kinema.live.stream import (
    FrameRecognizer,
    LiveRecognition,
    StreamSettings,
    training_spacing,
)
from kinema.values import Preprocessing, Views
from kinema.video.decode import VideoFile

from ...causal import LABELS, save_causal
from ...rtsp_server import RtspServer


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory) -> Recognizer:
    return Recognizer.load(save_causal(tmp_path_factory.mktemp("causal") / "net"), device="cpu")


@pytest.fixture(scope="module")
def video(color_set) -> str:
    return str(color_set / "green" / "0.mp4")


def whole_video(recognizer: Recognizer, path: str, every: int = 1) -> np.ndarray:
    """Scores (T, K) of all frames at once."""
    how = recognizer.preprocessing
    with VideoFile(path) as file:
        frames = file.read(range(0, file.info.frames, every))
    clips = normalize(ViewTransform(how, Views())(frames), how.mean, how.std)
    with torch.inference_mode():
        return recognizer.net.frame_scores(clips)[0].numpy()


class Pictures:
    """Pictures in memory; a number in `cuts` is the first frame of a new connection."""

    name, is_live = "pictures", False

    def __init__(self, count: int, cuts: tuple[int, ...] = (), *, live: bool = False) -> None:
        rng = np.random.default_rng(0)
        self.pictures = rng.integers(0, 255, (count, 48, 64, 3), dtype=np.uint8)
        self.cuts, self.is_live, self.reconnects = cuts, live, len(cuts)

    def frames(self, stopped):
        for number, picture in enumerate(self.pictures):
            connection = sum(number >= cut for cut in self.cuts)
            if self.is_live:
                time.sleep(0.01)
            yield LiveFrame(number, number / 10, picture, connection)

    def close(self) -> None:
        pass


class Stepping(Pictures):
    """Pictures with the times of a clock that steps."""

    def __init__(self, times: list[float], *, live: bool) -> None:
        super().__init__(len(times), live=live)
        self.times = times

    def frames(self, stopped):
        for frame, time_s in zip(super().frames(stopped), self.times, strict=True):
            yield replace(frame, time_s=time_s)


TENTHS = [n / 10 for n in range(40)]


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize(
    ("times", "steps", "outliers"),
    [
        ([3600 + t for t in TENTHS[:20]] + TENTHS[20:], 1, 0),
        (TENTHS[:20] + [t - 5 for t in TENTHS[20:]], 1, 0),
        ([*TENTHS[:20], 7200.0, *TENTHS[21:]], 0, 1),
    ],
)
def test_a_clock_that_steps_silences_no_stream(recognizer, caplog, live, times, steps, outliers):
    settings = StreamSettings(rate_hz=5, drop="never" if live else None)
    stream = LiveRecognition(recognizer, Stepping(times, live=live), settings=settings)
    results = list(stream)
    assert [result.frame for result in results] == list(range(0, 40, 2))
    if live:
        at = [result.time_s - results[0].time_s for result in results]
        assert at == pytest.approx([n / 5 for n in range(20)], abs=1e-6)
        summary = stream.summary
        assert (summary.time_steps, summary.time_outliers) == (steps, outliers)
        text = f"0 reconnects, {steps} steps of the clock, {outliers} wrong times"
        assert str(summary).endswith(text)
        assert "pictures: the clock has stepped" in caplog.text
        assert len(caplog.records) == 1


@pytest.mark.parametrize("fast", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_file_gets_the_scores_of_the_whole_video(recognizer, video, fast, tmp_path, monkeypatch):
    monkeypatch.setenv("KINEMA_CACHE", str(tmp_path))
    live = LiveRecognition(recognizer, video, fast=fast)
    results = list(live)
    expected = whole_video(recognizer, video)
    assert [result.frame for result in results] == list(range(12))
    assert [result.time_s for result in results] == pytest.approx([n / 12 for n in range(12)])
    # The fastest form may be bfloat16.
    tolerance = TOLERANCE["bf16"] * abs(expected).max() if fast else 1e-4
    assert_allclose([r.scores for r in results], expected, rtol=1e-4, atol=tolerance)
    assert (live.summary.frames, live.summary.dropped, live.summary.reconnects) == (12, 0, 0)
    assert not any(thread.name == "kinema-decode" for thread in threading.enumerate())


def test_every_second_frame_is_a_video_of_those(recognizer, video):
    results = list(LiveRecognition(recognizer, video, settings=StreamSettings(every=2)))
    assert [result.frame for result in results] == [0, 2, 4, 6, 8, 10]
    scores = [result.scores for result in results]
    assert_allclose(scores, whole_video(recognizer, video, 2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("rate", "frames"), [(4, [0, 3, 6, 9]), (5, [0, 3, 5, 8, 10])])
def test_frames_by_rate(recognizer, video, rate, frames):
    settings = StreamSettings(rate_hz=rate)
    results = LiveRecognition(recognizer, video, settings=settings)
    assert [result.frame for result in results] == frames


def test_the_spacing_of_the_training_is_taken_where_it_is_known(video, tmp_path):
    how = Preprocessing(frames=4, sampling="dense", window_frames=16, short_side_px=40, crop_px=32)
    recognizer = Recognizer.load(save_causal(tmp_path / "dense", how=how), device="cpu")
    assert training_spacing(how) == 4
    assert training_spacing(Preprocessing()) == 1
    assert [result.frame for result in LiveRecognition(recognizer, video)] == [0, 4, 8]


def test_probabilities_are_smoothed_and_named(recognizer, video):
    plain, smooth = (
        list(LiveRecognition(recognizer, video, settings=StreamSettings(smoothing=rule, top=5)))
        for rule in (EveryFrame(), WindowMean(3))
    )
    probs = [{c.label: c.prob for c in result.top} for result in plain]
    for number, result in enumerate(smooth):
        assert [c.name for c in result.top] == [LABELS[c.label] for c in result.top]
        for entry in result.top:
            mean = np.mean([p[entry.label] for p in probs[max(0, number - 2) : number + 1]])
            assert entry.prob == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize("how", ["restart", "continue"])
def test_what_is_remembered_of_a_lost_source(recognizer, how):
    source = Pictures(12, cuts=(5,))
    settings = StreamSettings(on_reconnect=how, smoothing=EveryFrame())
    scores = [r.scores for r in LiveRecognition(recognizer, source, settings=settings)]
    fresh = Pictures(12)
    fresh.pictures = fresh.pictures[5:]
    again = [r.scores for r in LiveRecognition(recognizer, fresh, settings=settings)]
    whole = [r.scores for r in LiveRecognition(recognizer, Pictures(12), settings=settings)]
    assert_allclose(scores, whole[:5] + again if how == "restart" else whole, rtol=1e-5, atol=1e-5)
    assert np.abs(np.array(again) - whole[5:]).max() > 1e-3


def test_events_tell_of_another_shown_class(recognizer, monkeypatch):
    scores = {"red": [9.0, 0, 0], "none": [0, 0, 0], "blue": [0, 0, 9.0], "green": [0, 9.0, 0]}
    sequence = ["none", "red", "red", "blue", "none", "none", "green", "red"]
    coming = iter(torch.tensor([scores[name]]).float() for name in sequence)
    settings = StreamSettings(
        smoothing=EveryFrame(), hysteresis=Hysteresis(0.6, 0.4, background=(1,))
    )
    recognize = FrameRecognizer(recognizer, settings)
    monkeypatch.setattr(recognize, "_scores", lambda _: next(coming))
    events = {}
    for frame in Pictures(len(sequence)).frames(None):
        result = recognize(frame, decoded_at_s=0)
        if result.changed:
            events[frame.number] = result.shown.name if result.shown else None
    assert events == {1: "red", 3: "blue", 4: None, 7: "red"}


@pytest.mark.parametrize(
    "drop", ["oldest", "newest", pytest.param("never", marks=pytest.mark.slow), None]
)
def test_a_slow_network_drops_by_the_rule(recognizer, monkeypatch, drop):
    plain = FrameRecognizer._scores

    def slow(self, picture):
        time.sleep(0.06)
        return plain(self, picture)

    monkeypatch.setattr(FrameRecognizer, "_scores", slow)
    settings = StreamSettings(drop=drop)
    live = LiveRecognition(recognizer, Pictures(24, live=True), settings=settings)
    frames = [result.frame for result in live]
    assert len(frames) + live.summary.dropped == 24
    if drop == "never":
        assert live.summary.dropped == 0
        return
    assert live.summary.dropped > 8
    assert f"{live.summary.dropped} dropped" in str(live.summary)
    if drop is None:  # the newest frame waits, so no result is much later than one more frame
        assert frames[-1] == 23
        assert live.summary.latency_p99_ms < 250


def test_a_file_at_its_own_pace_takes_its_time(recognizer, video):
    began = time.monotonic()
    settings = StreamSettings(pace="source", limit_s=0.5)
    live = LiveRecognition(recognizer, video, settings=settings)
    assert len(list(live)) + live.summary.dropped in (6, 7)
    assert 0.4 < time.monotonic() - began < 1.5


def test_limits_and_stopping(recognizer):
    limited = StreamSettings(limit_frames=3)
    assert len(list(LiveRecognition(recognizer, Pictures(9), settings=limited))) == 3
    seconds = StreamSettings(limit_s=0.5)
    assert len(list(LiveRecognition(recognizer, Pictures(9), settings=seconds))) == 5
    with LiveRecognition(recognizer, Pictures(9)) as live:
        for result in live:
            if result.frame == 4:
                live.stop()
    assert live.summary.frames == 5


def test_a_network_that_looks_ahead_says_how_to_get_one_that_does_not(video, tmp_path):
    recognizer = Recognizer.load(save_causal(tmp_path / "net", causal=False), device="cpu")
    with pytest.raises(
        OptionError, match=r"causal=True.*import --causal.*RUN/recipe.toml model.causal=true"
    ):
        LiveRecognition(recognizer, video)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 2, "rate_hz": 5.0}, "not by both"),
        ({"every": 0}, "every must be above 0"),
        ({"pace": "full", "drop": "oldest"}, "At full speed no frame is dropped"),
        ({"drop": "newset"}, "Unknown drop 'newset'. Did you mean 'newest'"),
        ({"on_reconnect": "contine"}, "Unknown on_reconnect 'contine'. Did you mean 'continue'"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(OptionError, match=message):
        StreamSettings(**settings)


def test_sources_and_settings_that_do_not_fit(recognizer):
    with pytest.raises(OptionError, match="is live and sets the pace"):
        LiveRecognition(recognizer, Pictures(2, live=True), settings=StreamSettings(pace="full"))
    with pytest.raises(OptionError, match="no frame is dropped.*'oldest' needs pace='source'"):
        LiveRecognition(recognizer, Pictures(2), settings=StreamSettings(drop="oldest"))
    background = StreamSettings(hysteresis=Hysteresis(background=(7,)))
    with pytest.raises(OptionError, match="no class 7"):
        LiveRecognition(recognizer, Pictures(2), settings=background)
    with pytest.raises(UnknownNameError, match="background class 'geen'. Did you mean 'green'"):
        background_labels(("red", "geen"), LABELS)
    with pytest.raises(OptionError, match="positive sizes"):
        RawFormat(0, 4)


@pytest.mark.slow
def test_rtsp_is_recognized_through_a_cut(recognizer):
    with RtspServer() as server:
        how = Connection(timeout_s=1.5, back_off_s=0.05, retries=8)
        source = open_live(server.url, connection=how)
        live = LiveRecognition(recognizer, source, settings=StreamSettings(limit_s=6))
        cut_at = None
        for result in live:
            if result.frame == 8 and cut_at is None:
                server.cut()
                threading.Timer(0.4, server.restore).start()
                cut_at = result.frame
            if live.summary.reconnects and result.frame > 20:
                break
        live.close()
    assert live.summary.reconnects == 1
    assert not any(thread.name == "kinema-decode" for thread in threading.enumerate())


def test_a_captioned_video_has_the_pictures_at_their_times(tmp_path):
    picture = np.full((49, 65, 3), 200, np.uint8)
    with CaptionedVideo(tmp_path / "out.mp4") as canvas:
        for time_s in (0.0, 0.1, 0.5, 0.5):
            assert canvas.add(picture, "jump\n90% jump", time_s=time_s)
    with VideoFile(tmp_path / "out.mp4") as file:
        assert (file.info.frames, file.info.width, file.info.height) == (4, 64, 48)
        assert file.times_s(range(4)) == pytest.approx([0, 0.1, 0.5, 0.501], abs=1e-3)
        first = file.read([0])[0]
    assert first[:, :8].float().mean() < 150  # the bar
    assert first[:, -8:].float().mean() > 180
    assert picture.min() == 200


def test_a_caption_leaves_the_picture_below_as_it_is():
    picture = np.full((90, 120, 3), 200, np.uint8)
    shown = with_caption(picture, "x")
    assert np.array_equal(shown[40:], picture[40:])
    assert not np.array_equal(shown[:20], picture[:20])


def test_a_video_of_an_unknown_kind(tmp_path):
    with pytest.raises(
        OptionError, match="no video container has this suffix and supports .*; use .mp4"
    ):
        CaptionedVideo(tmp_path / "out.xyz")
    with pytest.raises(OptionError, match=r"out\.webm: no video container"):
        CaptionedVideo(tmp_path / "out.webm")


def test_a_video_makes_its_folder(tmp_path):
    with CaptionedVideo(tmp_path / "new" / "out.mp4") as video:
        video.add(np.zeros((48, 64, 3), np.uint8), "nothing", time_s=0.0)
    assert (tmp_path / "new" / "out.mp4").stat().st_size > 0


def test_a_window_needs_opencv(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match="pip install opencv-python"):
        Window("x")


def test_a_window_shows_until_q(monkeypatch):
    shown, keys = [], iter([-1, ord("q")])
    fake = SimpleNamespace(
        imshow=lambda title, image: shown.append((title, image)),
        waitKey=lambda _: next(keys),
        destroyAllWindows=lambda: shown.append("closed"),
    )
    monkeypatch.setitem(sys.modules, "cv2", fake)
    window, picture = Window("x"), np.zeros((40, 60, 3), np.uint8)
    picture[30:, :, 0] = 255
    assert window.add(picture, "a", time_s=0)
    assert not window.add(picture, "a", time_s=0)
    window.close()
    assert shown[0][1][35, 5].tolist() == [0, 0, 255]  # OpenCV takes BGR
    assert shown[-1] == "closed"
