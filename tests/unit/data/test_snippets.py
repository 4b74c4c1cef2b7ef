"""Snippets: neighboring frames in place of each frame of a clip."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinema.data.sampling import SegmentSampling, SnippetSampling, sampling_of
from kinema.errors import OptionError
from kinema.values import Preprocessing, Views

TDN = SnippetSampling(SegmentSampling(8), 5)


def of_the_authors(total: int, segments: int = 8) -> list[int]:
    """`_get_test_indices` of TDN's code with `new_length` 5, and its reading of frames."""
    tick = (total - 4) / segments
    starts = [int(tick / 2 + tick * i) for i in range(segments)]
    return [min(start + j, total - 1) for start in starts for j in range(5)]


@given(st.integers(13, 500), st.sampled_from([8, 16]))
def test_a_test_takes_the_frames_of_the_authors_code(total, segments):
    chosen = SnippetSampling(SegmentSampling(segments), 5).test(max(total, segments + 5), 1)
    assert chosen.tolist() == [of_the_authors(max(total, segments + 5), segments)]


def test_the_center_lies_in_the_middle_of_its_segment():
    (chosen,) = TDN.test(44, 1)
    assert chosen.reshape(8, 5).tolist() == [
        [2 + 5 * i, 3 + 5 * i, 4 + 5 * i, 5 + 5 * i, 6 + 5 * i] for i in range(8)
    ]


@given(st.integers(1, 200), st.integers(1, 4), st.integers(0, 2**32))
def test_snippets_stay_inside_of_the_video_and_adjacent(total, clips, seed):
    drawn = TDN.train(total, np.random.default_rng(seed))
    for row in (drawn, *TDN.test(total, clips)):
        assert row.shape == (40,)
        snippets = row.reshape(8, 5)
        assert (row >= 0).all()
        assert (row < total).all()
        # Adjacent, up to the last frame of a video that is shorter than a snippet.
        steps = np.diff(snippets, axis=1)
        assert ((steps == 1) | (snippets[:, 1:] == total - 1)).all()
        if total >= 5:
            assert (steps == 1).all()
        assert (np.diff(snippets[:, 0]) >= 0).all()


def test_a_short_video_repeats_its_last_frame():
    assert TDN.test(3, 1).tolist() == [[0, 1, 2, 2, 2] * 8]


def test_the_preprocessing_has_one_rule_for_all_samplings():
    assert sampling_of(Preprocessing(snippet=5)) == TDN
    plain = Preprocessing(sampling="dense")
    assert sampling_of(plain).test(99, 3).shape == (3, 8)
    dense = Preprocessing(sampling="dense", snippet=3)
    firsts = sampling_of(plain).test(97, 3)
    assert sampling_of(dense).test(99, 3).reshape(3, 8, 3)[..., 0].tolist() == firsts.tolist()
    shuffled = sampling_of(Preprocessing(sampling="shuffled_segments", snippet=5))
    (mixed,), (ordered,) = shuffled.test(80, 1), TDN.test(80, 1)
    assert mixed.tolist() != ordered.tolist()
    assert sorted(mixed.reshape(8, 5).tolist()) == ordered.reshape(8, 5).tolist()
    twice = Views(clips=2, twice_sample=True)
    assert sampling_of(Preprocessing(snippet=5), twice).test(84, 2)[1, :5].tolist() == [*range(5)]


def test_a_preprocessing_without_snippets_is_saved_as_before():
    assert "snippet" not in Preprocessing().to_dict()
    saved = Preprocessing(snippet=5).to_dict()
    assert saved["snippet"] == 5
    assert Preprocessing.from_dict(saved, source="config.json") == Preprocessing(snippet=5)
    assert Preprocessing(snippet=5).clip_frames == 40


@pytest.mark.parametrize(
    ("snippet", "message"),
    [(0, "snippet must be at least 1, got 0"), (4, "snippet must be odd.* got 4")],
)
def test_a_snippet_needs_a_center(snippet, message):
    with pytest.raises(OptionError, match=message):
        Preprocessing(snippet=snippet)
