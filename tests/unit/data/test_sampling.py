"""Which frames make a clip."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinema.data.sampling import (
    DenseSampling,
    SegmentSampling,
    ShuffledSegmentSampling,
    sampling_of,
)
from kinema.errors import OptionError
from kinema.values import Preprocessing, Views

frames, totals, seeds = st.integers(1, 40), st.integers(1, 500), st.integers(0, 2**32)


@given(frames, totals, seeds)
def test_a_random_clip_has_one_frame_of_each_segment(count, total, seed):
    chosen = SegmentSampling(count).train(total, np.random.default_rng(seed))
    assert chosen.dtype == np.int64
    assert chosen.shape == (count,)
    edges = np.arange(count + 1) * total / count
    assert (chosen >= np.floor(edges[:-1])).all()
    assert (chosen <= np.ceil(edges[1:])).all()
    assert (chosen < total).all()
    assert (np.diff(chosen) >= 0).all()


@given(frames, totals, st.integers(1, 12))
def test_test_clips_are_inside_of_the_video_and_in_order(count, total, clips):
    chosen = SegmentSampling(count).test(total, clips)
    assert chosen.shape == (clips, count)
    assert (chosen >= 0).all()
    assert (chosen < total).all()
    assert (np.diff(chosen, axis=1) >= 0).all()
    assert (np.diff(chosen, axis=0) >= 0).all()


def test_every_frame_can_be_drawn_up_to_the_last():
    rng = np.random.default_rng(0)
    drawn = {int(i) for _ in range(400) for i in SegmentSampling(8).train(30, rng)}
    assert drawn == set(range(30))


def test_short_videos_repeat_frames_in_order():
    assert SegmentSampling(8).test(3, 1)[0].tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert SegmentSampling(4).test(1, 2).tolist() == [[0] * 4] * 2


def test_several_clips_lie_between_each_other():
    assert SegmentSampling(2).test(40, 4).tolist() == [[2, 22], [7, 27], [12, 32], [17, 37]]


def test_two_clips_of_twice_sample_are_middles_and_starts():
    twice = SegmentSampling(4, "twice")
    assert twice.test(24, 2).tolist() == [[3, 9, 15, 21], [0, 6, 12, 18]]
    assert twice.test(10, 2).tolist() == [[1, 3, 6, 8], [0, 2, 5, 7]]
    assert twice.test(3, 2).tolist() == [[0, 1, 1, 2], [0, 0, 1, 2]]
    assert SegmentSampling(4).test(24, 2).tolist() == [[1, 7, 13, 19], [4, 10, 16, 22]]


@given(frames, totals)
def test_twice_sample_takes_the_frames_of_the_authors_code(count, total):
    tick = total / count  # as ops/dataset.py of TSM, without its count from 1
    middles = [int(tick / 2.0 + tick * x) for x in range(count)]
    starts = [int(tick * x) for x in range(count)]
    chosen = SegmentSampling(count, "twice").test(total, 2)
    assert chosen.tolist() == [middles, starts]
    assert SegmentSampling(count).test(total, 1).tolist() == [middles]


def test_clips_of_uniform_sample_spread_from_the_first_frame_of_a_segment_to_the_last():
    uniform = SegmentSampling(4, "uniform")
    assert uniform.test(24, 2).tolist() == [[0, 6, 12, 18], [5, 11, 17, 23]]
    assert uniform.test(24, 3).tolist() == [[0, 6, 12, 18], [2, 8, 14, 20], [5, 11, 17, 23]]
    assert uniform.test(10, 2).tolist() == [[0, 2, 5, 7], [1, 3, 6, 8]]
    assert uniform.test(3, 2).tolist() == [[0, 0, 1, 2]] * 2


@given(frames, totals, st.integers(2, 10))
def test_uniform_sample_takes_the_frames_of_the_authors_code(count, total, clips):
    tick = total / count  # as ops/dataset.py of TANet, without its count from 1
    # NumPy rounded towards zero there; since 1.20 a short video would begin at its end.
    starts = [int(start) for start in np.linspace(0, tick - 1, clips)]
    chosen = SegmentSampling(count, "uniform").test(total, clips)
    expected = [[int(start + tick * x) % total for x in range(count)] for start in starts]
    assert chosen.tolist() == expected


@given(st.sampled_from([4, 8, 16, 32]), totals, seeds, st.integers(1, 10))
def test_dense_clips_are_inside_of_the_video(count, total, seed, clips):
    sampling = DenseSampling(count)
    drawn = sampling.train(total, np.random.default_rng(seed))
    for chosen in (drawn, *sampling.test(total, clips)):
        assert chosen.shape == (count,)
        assert (chosen >= 0).all()
        assert (chosen < total).all()
        if total >= 64:
            assert (np.diff(chosen) == 64 // count).all()


def test_dense_windows_spread_from_end_to_end():
    starts = DenseSampling(8).test(100, 4)[:, 0]
    assert starts.tolist() == [0, 12, 24, 36]
    assert DenseSampling(8).test(100, 1)[0, 0] == 18


def test_a_video_shorter_than_the_window_starts_again():
    assert DenseSampling(8).test(20, 1)[0].tolist() == [0, 8, 16, 4, 12, 0, 8, 16]


@given(frames, totals, st.integers(1, 5), seeds)
def test_shuffled_clips_hold_the_frames_of_ordered_ones(count, total, clips, seed):
    shuffled, ordered = ShuffledSegmentSampling(count), SegmentSampling(count)
    chosen = shuffled.test(total, clips)
    assert (np.sort(chosen, axis=1) == ordered.test(total, clips)).all()
    assert (chosen == shuffled.test(total, clips)).all()
    drawn = shuffled.train(total, np.random.default_rng(seed))
    assert (np.sort(drawn) == ordered.train(total, np.random.default_rng(seed))).all()


def test_shuffled_clips_are_not_in_order():
    chosen = ShuffledSegmentSampling(8).test(80, 20)
    assert (np.diff(chosen, axis=1) < 0).any(axis=1).all()
    assert len({tuple(np.argsort(row)) for row in chosen}) == 20


def test_the_preprocessing_names_the_rule():
    assert sampling_of(Preprocessing(frames=16)) == SegmentSampling(16)
    dense = Preprocessing(frames=16, sampling="dense", window_frames=32)
    assert sampling_of(dense) == DenseSampling(16, 32)
    shuffled = Preprocessing(frames=4, sampling="shuffled_segments")
    assert sampling_of(shuffled) == ShuffledSegmentSampling(4)
    twice = Views(clips=2, twice_sample=True)
    assert sampling_of(Preprocessing(), twice) == SegmentSampling(8, "twice")
    uniform = Views(clips=2, uniform_sample=True)
    assert sampling_of(Preprocessing(), uniform) == SegmentSampling(8, "uniform")
    assert sampling_of(Preprocessing(), Views(clips=2)) == SegmentSampling(8)


def test_twice_sample_needs_two_clips_of_segments():
    with pytest.raises(OptionError, match="twice_sample is for two clips, got clips=3"):
        Views(clips=3, twice_sample=True)
    dense = Preprocessing(sampling="dense")
    with pytest.raises(OptionError, match="twice_sample is for segments, but this network samples"):
        sampling_of(dense, Views(clips=2, twice_sample=True))


def test_uniform_sample_needs_several_clips_of_segments():
    with pytest.raises(OptionError, match="uniform_sample is for several clips, got clips=1"):
        Views(uniform_sample=True)
    with pytest.raises(OptionError, match="twice_sample and uniform_sample exclude each other"):
        Views(clips=2, uniform_sample=True, twice_sample=True)
    dense = Preprocessing(sampling="dense")
    with pytest.raises(OptionError, match="uniform_sample is for segments, but this network"):
        sampling_of(dense, Views(clips=3, uniform_sample=True))


@pytest.mark.parametrize("sampling", [SegmentSampling(8), DenseSampling(8)])
def test_a_video_without_frames_is_an_error(sampling):
    with pytest.raises(OptionError, match="total must be at least 1, got 0"):
        sampling.test(0, 1)
    with pytest.raises(OptionError, match="total must be at least 1"):
        sampling.train(0, np.random.default_rng(0))


def test_a_window_must_hold_the_frames():
    with pytest.raises(
        OptionError, match="window_frames \\(8\\) must hold at least frames \\(16\\)"
    ):
        DenseSampling(16, window_frames=8)


def test_an_interval_reaches_the_last_frame():
    # SampleFrames(clip_len=8, frame_interval=8, num_clips=10, test_mode=True) of mmaction2 1.x.
    sampling = sampling_of(Preprocessing(sampling="interval"))
    chosen = sampling.test(300, 10)
    assert chosen[:, 0].tolist() == [0, 27, 54, 81, 108, 135, 162, 189, 216, 243]
    assert chosen[9].tolist() == [243, 251, 259, 267, 275, 283, 291, 299]
    assert sampling.test(60, 1)[0].tolist() == [1, 9, 17, 25, 33, 41, 49, 57]
    assert sampling.test(58, 3)[:, 0].tolist() == [0, 0, 1]  # half a frame goes to the even one
    assert sampling.test(20, 2).tolist() == [[0, 8, 16, 4, 12, 0, 8, 16]] * 2
    rng = np.random.default_rng(0)
    assert {int(sampling.train(66, rng)[0]) for _ in range(50)} == {0, 1, 2}
    with pytest.raises(OptionError, match="window_frames \\(64\\) must hold at least frames"):
        Preprocessing(sampling="interval", frames=65)
    with pytest.raises(OptionError, match="twice_sample is for segments"):
        sampling_of(Preprocessing(sampling="interval"), Views(2, twice_sample=True))
