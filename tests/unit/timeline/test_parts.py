"""Parts of a timeline: sliding windows, prefetching, segments of smoothed scores."""

from itertools import islice

import numpy as np
import pytest
from numpy.testing import assert_allclose

from kinema.errors import OptionError
from kinema.timeline import SegmentRule, find_segments, smoothed
from kinema.timeline.reading import prefetch
from kinema.timeline.scoring import count_windows, sliding_windows

NAMES = ("red", "green", "blue")


@pytest.mark.parametrize("length", [1, 3, 4])
@pytest.mark.parametrize("hop", [1, 2, 5])
def test_windows_cover_everything(length, hop):
    for count in range(1, 20):
        made = list(sliding_windows(range(count), length, hop))
        assert len(made) == count_windows(count, length, hop)
        assert all(len(run) == length for run in made)
        starts = [min(n * hop, max(0, count - length)) for n in range(len(made))]
        expected = [[(s + i) % count for i in range(length)] for s in starts]
        assert made == expected
        assert made[-1][min(length, count) - 1] == count - 1


def test_prefetched_items_keep_their_order_and_their_errors():
    made = []

    def items():
        for number in range(6):
            made.append(number)
            yield number
        raise OptionError("broken")

    prefetched = prefetch(items(), 3)
    assert next(prefetched) == 0
    assert len(made) <= 4
    assert list(islice(prefetched, 5)) == [1, 2, 3, 4, 5]
    with pytest.raises(OptionError, match="broken"):
        next(prefetched)
    stopped = prefetch(iter(range(1000)), 2)
    next(stopped)
    stopped.close()


def test_smoothing_is_centered():
    probs = np.zeros((5, 1), np.float32)
    probs[2] = 1
    assert_allclose(smoothed(probs, 3)[:, 0], [0, 1 / 3, 1 / 3, 1 / 3, 0])
    assert_allclose(smoothed(probs, 1), probs)
    assert_allclose(smoothed(probs[:2] + 1, 9), probs[:2] + 1)


def test_segments_come_in_clearly_and_stay():
    red = np.array([0.1, 0.6, 0.45, 0.45, 0.2, 0.1, 0.1, 0.1], np.float32)
    green = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.8, 0.9, 0.1], np.float32)
    probs = np.stack([red, green, 1 - red - green], 1)
    cells_s = np.arange(9.0)
    rule = SegmentRule(smooth_windows=1, background=("blue",))
    found = find_segments(probs, cells_s, NAMES, rule)
    assert [(s.start_s, s.end_s, s.name) for s in found] == [(1, 4, "red"), (5, 7, "green")]
    assert [s.prob for s in found] == pytest.approx([0.5, 0.85])
    long = SegmentRule(smooth_windows=1, background=("blue",), min_length_s=3)
    assert [s.name for s in find_segments(probs, cells_s, NAMES, long)] == ["red"]
    strict = SegmentRule(smooth_windows=1, background=("blue",), enter=0.95)
    assert find_segments(probs, cells_s, NAMES, strict) == ()
