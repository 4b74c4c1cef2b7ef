"""Timelines: windows get the scores of the same frames alone, at the times of the file."""

import math
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import kinema
from kinema import Recognizer
from kinema.data.transforms import ViewTransform, normalize
from kinema.errors import OptionError, UnknownNameError, UnreadableVideoError
from kinema.timeline import Segment, SegmentRule, TimelineSettings, task, timeline
from kinema.timeline.reading import prefetch
from kinema.values import Preprocessing, Views
from kinema.video.decode import VideoFile, open_source

from ...random_weights import with_random_norms

NAMES = ("red", "green", "blue")
RATE_HZ = 12
SMALL = {"short_side_px": 40, "crop_px": 32}


def write_video(path: Path, times_ms: list[int], *, key_every: int = 12) -> Path:
    """Noise that changes its color every 20 frames."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=RATE_HZ, options={"g": str(key_every)})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, time_ms in enumerate(times_ms):
            picture = rng.integers(0, 90, (48, 64, 3), dtype=np.uint8)
            picture[..., number // 20 % 3] += 150
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """100 frames at 12 Hz."""
    times_ms = [round(1000 * number / RATE_HZ) for number in range(100)]
    return write_video(tmp_path_factory.mktemp("long") / "long.mp4", times_ms)


@pytest.fixture(scope="module")
def frames(video) -> np.ndarray:
    """(n, H, W, 3)."""
    with open_source(video) as source:
        return np.stack(list(source.in_order()))


def recognizer_of(name: str, how: Preprocessing, **options) -> Recognizer:
    torch.manual_seed(3)
    net = kinema.create_model(name, classes=len(NAMES), frames=how.frames, **options)
    return Recognizer(with_random_norms(net), NAMES, how, device="cpu")


@pytest.fixture(scope="module")
def dense() -> Recognizer:
    """T=4 frames, 3 frames apart."""
    how = Preprocessing(frames=4, sampling="dense", window_frames=12, **SMALL)
    return recognizer_of("tsm_test_resnet", how)


@pytest.fixture(scope="module")
def segments() -> Recognizer:
    return recognizer_of("tsm_test_resnet", Preprocessing(frames=4, **SMALL))


@pytest.fixture(scope="module")
def alone() -> Recognizer:
    """No temporal module: a frame's scores depend on itself only."""
    how = Preprocessing(frames=4, sampling="dense", window_frames=12, **SMALL)
    return recognizer_of("tsn_test_resnet", how)


@pytest.fixture(scope="module")
def causal() -> Recognizer:
    how = Preprocessing(frames=4, sampling="dense", window_frames=12, **SMALL)
    return recognizer_of("tsm_test_resnet", how, causal=True)


def test_dense_windows_are_those_of_predict(dense, video, frames):
    found = timeline(dense, video)
    starts = range(0, 91, 6)  # the grid has 34 frames, the last window begins at its place 30
    assert_allclose(found.starts_s, np.array(starts) / RATE_HZ, rtol=0, atol=2e-3)
    for row, start in enumerate(starts[:-1]):
        expected = dense.predict_frames(frames[start : start + 12]).scores
        assert_allclose(found.scores[row], expected, rtol=0, atol=1e-4)
    assert found.duration_s == pytest.approx(100 / RATE_HZ, abs=2e-3)
    assert found.ends_s[-1] == found.duration_s
    assert (found.window_s, found.stride_s) == pytest.approx((1, 0.5), abs=2e-3)
    assert found.error is None


def test_windows_of_given_seconds_are_those_of_predict(segments, video, frames):
    found = timeline(segments, video, TimelineSettings(window_s=2.0))
    for row, start in enumerate(range(0, 73, 12)):
        assert_allclose(found.starts_s[row], start / RATE_HZ, rtol=0, atol=1e-6)
        expected = segments.predict_frames(frames[start : start + 24]).scores
        assert_allclose(found.scores[row], expected, rtol=0, atol=1e-4)
    assert found.window_s == pytest.approx(2)
    assert timeline(segments, video).window_s == pytest.approx(2.5)


@pytest.mark.parametrize("frames_in_all", [1, 3, 7])
def test_a_short_video_is_one_window(segments, dense, tmp_path, frames_in_all):
    times_ms = [round(1000 * n / RATE_HZ) for n in range(frames_in_all)]
    short = write_video(tmp_path / "short.mp4", times_ms)
    for recognizer in (segments, dense):
        found = timeline(recognizer, short)
        assert found.scores.shape == (1, 3)
        assert found.starts_s[0] == 0
        assert found.ends_s[0] == found.duration_s == pytest.approx(frames_in_all / 12, abs=2e-3)
    expected = segments.predict(short).scores
    assert_allclose(timeline(segments, short).scores[0], expected, rtol=0, atol=1e-4)


def test_chunks_do_not_change_a_number(dense, alone, causal, video):
    for recognizer, stream in ((dense, False), (alone, False), (causal, True)):
        one, two, three = (
            timeline(recognizer, video, TimelineSettings(stream=stream, chunk=chunk))
            for chunk in (1, 16, 64)
        )
        assert_array_equal(one.scores, two.scores)
        assert_array_equal(one.scores, three.scores)
        assert one.segments == two.segments == three.segments


def test_batches_change_no_more_than_rounding(dense, alone, causal, video):
    for recognizer, stream in ((dense, False), (alone, False), (causal, True)):
        one = timeline(recognizer, video, TimelineSettings(stream=stream, batch=1))
        seven = timeline(recognizer, video, TimelineSettings(stream=stream, batch=7))
        assert_allclose(one.scores, seven.scores, rtol=0, atol=1e-5)


def test_all_passes_have_one_size(dense, video, monkeypatch):
    sizes = []

    def score(clips: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(clips.shape))
        return dense.net(clips)

    monkeypatch.setattr(dense, "score", score)
    found = timeline(dense, video, TimelineSettings(batch=5))
    assert sizes == [(5, 4, 3, 32, 32)] * math.ceil(len(found.scores) / 5)


def test_frames_that_stand_alone_are_scored_once(alone, video, monkeypatch):
    shared = timeline(alone, video)
    scored = []
    whole = alone.net.frame_scores

    def frame_scores(clips: torch.Tensor) -> torch.Tensor:
        scored.append(len(clips))
        return whole(clips)

    monkeypatch.setattr(alone.net, "frame_scores", frame_scores)
    timeline(alone, video)
    assert sum(scored) == 48  # 34 frames of the grid in three passes of 16
    monkeypatch.setattr(alone, "score", alone.net.forward)
    clips = timeline(alone, video)
    assert sum(scored) == 48
    assert_allclose(shared.scores, clips.scores, rtol=0, atol=1e-5)


def test_a_stream_is_the_whole_video_at_once(causal, video, frames):
    found = timeline(causal, video, TimelineSettings(stream=True, batch=2))
    grid = torch.from_numpy(frames[::3]).permute(0, 3, 1, 2)
    how = causal.preprocessing
    clips = normalize(ViewTransform(how, Views())(grid), how.mean, how.std)
    with torch.no_grad():
        whole_GK = causal.net.frame_scores(clips)[0]
    expected = torch.stack([whole_GK[place : place + 4].mean(0) for place in range(0, 31, 2)])
    assert_allclose(found.scores, expected.numpy(), rtol=0, atol=1e-5)


def test_only_causal_networks_stream(dense, video):
    with pytest.raises(OptionError, match="ahead"):
        timeline(dense, video, TimelineSettings(stream=True))


def test_a_fast_network_does_not_stream(causal, video, monkeypatch):
    monkeypatch.setattr(causal, "score", causal.net.forward)
    with pytest.raises(OptionError, match="choose stream or fast"):
        timeline(causal, video, TimelineSettings(stream=True))


def test_the_video_is_decoded_once_and_in_order(dense, video, monkeypatch):
    passes = []
    whole = VideoFile.in_order

    def in_order(self):
        passes.append(self.path)
        return whole(self)

    monkeypatch.setattr(VideoFile, "in_order", in_order)
    monkeypatch.setattr(VideoFile, "read", None)
    timeline(dense, video)
    assert passes == [video]


def test_times_are_those_of_the_file(segments, tmp_path):
    fast = [40 * n for n in range(25)]  # one second at 25 Hz
    slow = [1000 + 500 * n for n in range(8)]  # four seconds at 2 Hz
    file = write_video(tmp_path / "variable.mp4", fast + slow)
    found = timeline(segments, file, TimelineSettings(window_s=1.0, stride_s=1.0))
    assert 4.5 < found.duration_s < 5  # the file does not say how long its last frame lasts
    assert_allclose(found.starts_s[:4], [0, 1, 2, 3], rtol=0, atol=1e-6)
    with open_source(file) as source:
        pictures = source.read(range(33))
    shown = [25, 25, 26, 26]  # from 1 s to 2 s
    expected = segments.predict_frames(pictures[shown]).scores
    assert_allclose(found.scores[1], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["late.mkv", "late.mp4"])
def test_pictures_that_begin_after_the_sound_are_timed_as_players_do(dense, video, tmp_path, name):
    silent, late = timeline(dense, video), tmp_path / name
    with av.open(str(video)) as source, av.open(str(late), "w") as file:
        pictures = file.add_stream_from_template(source.streams.video[0])
        sound = file.add_stream("aac", rate=16000, layout="mono")
        for number in range(20):
            tone = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            tone.rate, tone.pts = 16000, 1024 * number
            file.mux(sound.encode(tone))
        file.mux(sound.encode())
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts += round(0.75 / packet.time_base)
                packet.dts += round(0.75 / packet.time_base)
                packet.stream = pictures
                file.mux(packet)
    found = timeline(dense, late)
    assert_array_equal(found.scores, silent.scores)
    assert found.starts_s[0] == pytest.approx(0.75, abs=1024 / 16000)  # of the coder's first packet
    assert_allclose(found.starts_s - found.starts_s[0], silent.starts_s, rtol=0, atol=2e-3)
    later_s = found.duration_s - silent.duration_s
    assert later_s == pytest.approx(found.starts_s[0], abs=1 / RATE_HZ)  # of the last frame
    first, other = found.segments[0], silent.segments[0]
    assert first.start_s - other.start_s == pytest.approx(found.starts_s[0], abs=2e-3)


def test_strides_are_rounded_to_the_grid(dense, video):
    found = timeline(dense, video, TimelineSettings(stride_s=0.7))
    assert found.stride_s == pytest.approx(0.75, abs=2e-3)
    wide = timeline(dense, video, TimelineSettings(stride_s=3.0))
    assert_allclose(wide.starts_s, [0, 3, 6, 7.5], rtol=0, atol=2e-3)


def test_a_stride_of_hours_does_not_decode_hours_ahead(dense, video, monkeypatch):
    ahead = []

    def prefetched(items, most):
        ahead.append(most)
        return prefetch(items, min(most, 100))

    monkeypatch.setattr(task, "prefetch", prefetched)
    found = timeline(dense, video, TimelineSettings(stride_s=86400.0, chunk=2))
    assert (len(found.scores), ahead) == (2, [2 * dense.net.frames])


def test_damage_keeps_what_was_read(dense, alone, video, tmp_path):
    damaged = tmp_path / "damaged.mp4"
    with av.open(str(video)) as file:
        lost = next(islice((p for p in file.demux(video=0) if p.size), 60, None))
    data = bytearray(video.read_bytes())
    data[lost.pos : lost.pos + lost.size] = bytes(lost.size)
    damaged.write_bytes(data)
    whole = timeline(dense, video)
    found = timeline(dense, damaged)
    windows = len(found.scores)
    assert 3 < windows < len(whole.scores)
    assert_allclose(found.scores[: windows - 1], whole.scores[: windows - 1], rtol=0, atol=1e-5)
    assert found.ends_s[-1] == pytest.approx(5, abs=2e-3)
    assert found.duration_s == whole.duration_s
    assert "damaged.mp4 cannot be read: only" in found.error
    assert "Reading stopped at 5.00 s of 8.33 s." in found.error
    assert timeline(alone, damaged).error == found.error


@pytest.mark.parametrize("readable", [2, 40])
def test_the_place_of_damage_is_named(dense, video, monkeypatch, readable):
    whole = VideoFile.in_order

    def in_order(self):
        yield from islice(whole(self), readable)
        raise UnreadableVideoError("long.mp4 cannot be read: lost.")

    monkeypatch.setattr(VideoFile, "in_order", in_order)
    found = timeline(dense, video)
    stopped_s = readable / RATE_HZ
    assert f"lost. Reading stopped at {stopped_s:.2f} s of 8.33 s." in found.error
    assert found.ends_s[-1] == pytest.approx(stopped_s, abs=0.25)


def test_no_frame_at_all_is_an_error(dense, video, monkeypatch):
    def in_order(self):
        raise UnreadableVideoError("long.mp4 cannot be read: lost.")
        yield

    monkeypatch.setattr(VideoFile, "in_order", in_order)
    with pytest.raises(UnreadableVideoError, match="lost. Reading stopped at 0.00 s"):
        timeline(dense, video)


def test_progress_counts_windows(dense, video):
    steps = []
    found = timeline(dense, video, progress=lambda done, total: steps.append((done, total)))
    total = len(found.scores)
    assert steps == [(done, total) for done in range(1, total + 1)]


def test_folders_of_frames_have_no_timestamps(dense, tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "0.png")
    with pytest.raises(OptionError, match="folder: give one video file. .*has no timestamps"):
        timeline(dense, tmp_path)


def test_wrong_options_are_refused(dense, video):
    with pytest.raises(OptionError, match="window_s must be above 0, got 0"):
        TimelineSettings(window_s=0)
    with pytest.raises(OptionError, match="stride_s must be above 0, got nan"):
        TimelineSettings(stride_s=math.nan)
    with pytest.raises(OptionError, match="chunk must be at least 1, got 0"):
        TimelineSettings(chunk=0)
    with pytest.raises(OptionError, match="number must be odd, got 2"):
        SegmentRule(smooth_windows=2)
    with pytest.raises(OptionError, match="min_length_s must be at least 0, got -1"):
        SegmentRule(min_length_s=-1)
    with pytest.raises(OptionError, match="leave <= enter"):
        SegmentRule(enter=0.2, leave=0.3)
    with pytest.raises(UnknownNameError, match="background class 'gren'. Did you mean 'green'"):
        timeline(dense, video, rule=SegmentRule(background=("gren",)))


def test_segments_touch_between_the_middles_of_windows(dense, video):
    found = timeline(dense, video, rule=SegmentRule(enter=0.0, leave=0.0))
    assert found.segments[0].start_s == 0
    assert found.segments[-1].end_s == found.duration_s
    for before, after in zip(found.segments, found.segments[1:], strict=False):
        assert before.end_s == after.start_s
    assert all(isinstance(segment, Segment) for segment in found.segments)


def test_top_and_probs_agree(dense, video):
    found = timeline(dense, video)
    assert_allclose(found.probs.sum(1), 1, rtol=0, atol=1e-5)
    best = found.top(3, 2)
    assert [c.label for c in best] == np.argsort(-found.probs[3])[:2].tolist()
    assert best[0].name == NAMES[best[0].label]
    assert best[0].prob == pytest.approx(found.probs[3].max())


def loop_video(source: Path, out: Path, times: int) -> Path:
    """The packets of a video again and again."""
    with av.open(str(source)) as file, av.open(str(out), "w") as looped:
        stream = file.streams.video[0]
        copy = looped.add_stream_from_template(stream)
        packets = [p for p in file.demux(stream) if p.size]
        kept = [(bytes(p), p.pts, p.dts, p.duration, p.is_keyframe) for p in packets]
        span = sum(duration for *_, duration, _ in kept)
        for turn in range(times):
            for data, pts, dts, duration, key in kept:
                packet = av.Packet(data)
                packet.pts, packet.dts = pts + turn * span, dts + turn * span
                packet.duration, packet.time_base = duration, stream.time_base
                packet.stream, packet.is_keyframe = copy, key
                looped.mux(packet)
    return out


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_does_not_grow_with_the_video(dense, data_dir, tmp_path):
    clip = data_dir / "clips" / "k400_tai_chi.mp4"
    timeline(dense, clip)
    before, peak = resident_mib(), 0.0

    def progress(done: int, total: int) -> None:
        nonlocal peak
        peak = max(peak, resident_mib())

    long = timeline(dense, loop_video(clip, tmp_path / "long.mp4", 10), progress=progress)
    assert len(long.scores) > 300
    assert peak - before < 50
