"""Timelines over holes: recordings that pause for hours."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import kinema
from kinema import Recognizer
from kinema.errors import OptionError
from kinema.timeline import TimelineSettings, timeline
from kinema.timeline import grid as grid_module
from kinema.timeline.grid import GridLimits, TooManyWindowsError, build_grid
from kinema.values import Preprocessing
from kinema.video.decode import VideoFile

from ...random_weights import with_random_norms
from .test_timeline import RATE_HZ, write_video

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    torch.manual_seed(3)
    how = Preprocessing(frames=4, short_side_px=40, crop_px=32)
    net = kinema.create_model("tsm_test_resnet", classes=3, frames=4)
    return Recognizer(with_random_norms(net), ("red", "green", "blue"), how, device="cpu")


def with_holes(path: Path, *holes_ms: int) -> Path:
    """40 frames before, between and after the holes."""
    times_ms, start_ms = [], 0
    for hole_ms in (*holes_ms, 0):
        times_ms += [start_ms + round(1000 * n / RATE_HZ) for n in range(40)]
        start_ms = times_ms[-1] + hole_ms
    return write_video(path, times_ms)


def shown_parts(found) -> list[tuple[float, float]]:
    return list(zip(found.starts_s.tolist(), found.ends_s.tolist(), strict=True))


@pytest.mark.parametrize("stride_s", [None, 0.125, 0.75, 3.0, 100.0])
@pytest.mark.parametrize("holes_ms", [(60_000,), (11_000, 95_000), (12_345,)])
def test_a_hole_is_one_window_and_others_stay(
    recognizer, tmp_path, monkeypatch, holes_ms, stride_s
):
    path = with_holes(tmp_path / "hole.mp4", *holes_ms)
    settings = TimelineSettings(window_s=1.0, stride_s=stride_s)
    found = timeline(recognizer, path, settings)
    monkeypatch.setattr(grid_module, "HOLE_S", np.inf)
    whole = timeline(recognizer, path, settings)
    with VideoFile(path) as source:
        shown_s = np.array([*source.times_s(range(source.info.frames)), source.info.duration_s])

    def frames_of(starts_s, ends_s) -> list[tuple[int, int]]:
        # Frames shown in the middles of the first and of the last quarter.
        middles = starts_s + 0.125, ends_s - 0.125
        first, last = (np.searchsorted(shown_s, m + 1e-6, side="right") - 1 for m in middles)
        return list(zip(first.tolist(), last.tolist(), strict=True))

    # The windows of the whole grid, with runs of those that show only one frame as one.
    runs: list[list[float]] = []
    before = None
    rows = []
    for row, (first, last) in enumerate(frames_of(whole.starts_s, whole.ends_s)):
        alone = first if first == last and np.diff(shown_s)[first] >= 10 else None
        is_last = row == len(whole.scores) - 1 and (whole.starts_s[row] % 0.25 > 1e-6)
        if alone is not None and alone == before and not is_last:
            runs[-1][1] = whole.ends_s[row]
        else:
            runs.append([whole.starts_s[row], whole.ends_s[row]])
            rows.append(row)
        before = alone
    assert_allclose(np.array(shown_parts(found)), np.array(runs), rtol=0, atol=1e-6)
    assert_allclose(found.scores, whole.scores[rows], rtol=0, atol=1e-5)
    assert found.duration_s == whole.duration_s
    if stride_s is None:
        assert len(found.scores) < 25 < len(whole.scores)


def test_a_hole_of_hours_costs_nothing(recognizer, tmp_path):
    path = with_holes(tmp_path / "hole.mkv", 300 * HOUR_MS, HOUR_MS)
    steps = []
    began = time.process_time()
    found = timeline(recognizer, path, progress=lambda done, total: steps.append((done, total)))
    assert time.process_time() - began < 20
    assert len(found.scores) == len(steps) == steps[-1][1] < 20
    assert found.duration_s == pytest.approx(301 * 3600 + 119 / RATE_HZ, abs=1)
    longest = sorted(found.ends_s - found.starts_s)[-2:]
    assert longest == pytest.approx([3600, 300 * 3600], abs=2 * 2.5)
    # Segments change where the recording pauses, not in the middle of the pause.
    for segment in found.segments:
        for edge in (segment.start_s, segment.end_s):
            inside = [s < edge < e for s, e in ((10, 1_079_990), (1_080_020, 1_083_590))]
            assert not any(inside)


def test_short_pauses_change_nothing(recognizer, tmp_path):
    path = with_holes(tmp_path / "pause.mp4", 9_900)
    found = timeline(recognizer, path, TimelineSettings(window_s=1.0))
    assert_allclose(np.diff(found.starts_s[:-1]), 0.5, rtol=0, atol=1e-9)
    assert len(found.scores) > 30


def test_a_dense_network_sees_a_hole_as_a_frame(tmp_path):
    torch.manual_seed(3)
    how = Preprocessing(frames=4, sampling="dense", window_frames=12, short_side_px=40, crop_px=32)
    net = kinema.create_model("tsm_test_resnet", classes=3, frames=4)
    dense = Recognizer(with_random_norms(net), ("red", "green", "blue"), how, device="cpu")
    found = timeline(dense, with_holes(tmp_path / "hole.mp4", 20 * HOUR_MS))
    plain = timeline(dense, with_holes(tmp_path / "plain.mp4", 1000 // RATE_HZ))
    assert_array_equal(found.scores, plain.scores)
    assert found.ends_s[-1] == found.duration_s == pytest.approx(72_006.5, abs=0.1)


def test_the_number_of_windows_has_a_limit(recognizer, tmp_path):
    path = with_holes(tmp_path / "a.mp4", 80)
    text = r"a.mp4 has \d+ windows of \d+ frames in all, more than the limits of 200000 and"
    for options in ({"window_s": 1e-9}, {"window_s": 1e-18}, {"window_s": 1.0, "stride_s": 1e-9}):
        settings = TimelineSettings(**options)
        if "stride_s" in options:
            assert len(timeline(recognizer, path, settings).scores) == 24  # each grid frame
            continue
        with pytest.raises(OptionError, match=text + ".*longer windows or a longer stride"):
            timeline(recognizer, path, settings)
    how = recognizer.preprocessing
    with VideoFile(path) as source:  # noqa: SIM117
        with pytest.raises(TooManyWindowsError, match="than the limits of 3"):
            build_grid(source, how, window_s=1.0, stride_s=None, limits=GridLimits(3, 1000))


@pytest.mark.data
def test_the_recording_with_a_hole(recognizer, data_dir):
    path = data_dir.parent / "cases" / "time_hole_timeline" / "hole.mkv"
    found = timeline(recognizer, path)
    assert found.duration_s == 72_004.0
    assert len(found.scores) < 12
    assert found.error is None
    assert max(found.ends_s - found.starts_s) == pytest.approx(72_000, abs=5)


@pytest.mark.data
@pytest.mark.parametrize("how", ["segments", "dense"])
def test_the_joined_recording_is_seen_whole(recognizer, data_dir, how):
    path = data_dir.parent / "cases" / "ts_timestamp_reset" / "joined.ts"
    settings = TimelineSettings(window_s=1.0)
    found = timeline(recognizer, path, settings)
    assert_allclose(found.starts_s, np.arange(11) / 2, rtol=0, atol=1e-6)
    assert found.duration_s == pytest.approx(6.0)
    with VideoFile(path) as source:
        pictures = source.read(range(72))
    expected = recognizer.predict_frames(pictures[48:60]).scores
    assert_allclose(found.scores[8], expected, rtol=0, atol=1e-4)
