"""Times of frames rise, whatever their clock did."""

from operator import itemgetter

import pytest

from kinema.video.rising_times import RisingTimes, looking_ahead

WRAP = 1 << 33


def known(times: list[int], **options) -> tuple[list[float], int, int]:
    """Rising times where all times are known; steps and outliers."""
    line = RisingTimes(**options)
    others = looking_ahead(times[1:], int)
    placed = [line.begin(times[0], at=times[0]), *(line.place(t, later=n) for t, n in others)]
    return placed, line.steps, line.outliers


def arriving(times: list[float], most: float = 35) -> tuple[list[float], int, int]:
    """The same where no later time is known."""
    line = RisingTimes()
    placed = [line.begin(times[0], at=0), *(line.place(t, most=most) for t in times[1:])]
    return placed, line.steps, line.outliers


@pytest.mark.parametrize(
    ("times", "placed", "steps", "outliers"),
    [
        ([7, 17, 27, 37], [7, 17, 27, 37], 0, 0),
        ([0, 10, 20, 9000, 9010], [0, 10, 20, 9000, 9010], 0, 0),  # a hole stays
        ([50, 60, 70, 0, 10, 20], [50, 60, 70, 80, 90, 100], 1, 0),
        ([50, 60, 70, 0, 10, 5, 15], [50, 60, 70, 80, 82.5, 85, 95], 1, 0),
        ([90, 95, 50, 60, 70, 0, 10, 20], [90, 95, 100, 110, 120, 130, 140, 150], 2, 0),
        ([0, 10, 20, 9999, 40, 50, 60], [0, 10, 20, 30, 40, 50, 60], 0, 1),
        ([0, 10, 20, 9999, 10009, 50, 60], [0, 10, 20, 30, 40, 50, 60], 0, 2),
        ([900, 910, 920, 0, 940, 950], [900, 910, 920, 930, 940, 950], 0, 1),
        ([0, 10, 20, 40, 30, 50, 60], [0, 10, 20, 25, 30, 50, 60], 0, 0),  # swapped by a decoder
        ([1, 2, 4, 3, 5, 7, 6, 8], [1, 2, 3, 4, 5, 6, 7, 8], 0, 0),
        ([0, 10, 20, 20, 30, 40], [0, 10, 20, 25, 30, 40], 0, 0),  # one time twice
        ([0, 10, 20, 20, 20, 20, 30], [0, 10, 20, 21, 31, 36, 41], 1, 0),
        ([5], [5], 0, 0),
    ],
)
def test_known_times_become_one_line(times, placed, steps, outliers):
    assert known(times) == (placed, steps, outliers)


@pytest.mark.parametrize(
    ("times", "placed", "steps", "outliers"),
    [
        ([5, 15, 25], [0, 10, 20], 0, 0),
        ([50, 60, 70, 0, 10, 20], [0, 10, 20, 30, 40, 50], 1, 0),
        ([0, 10, 20, 9000, 9010, 9020], [0, 10, 20, 30, 40, 50], 1, 0),
        ([0, 10, 20, 9999, 40, 50], [0, 10, 20, 30, 40, 50], 0, 1),
        ([900, 910, 920, 0, 940, 950], [0, 10, 20, 30, 40, 50], 0, 1),
        ([0, 10, 20, 9000, 9010, 50, 60], [0, 10, 20, 30, 40, 50, 60], 2, 0),
        ([0, 10, 20, 15, 40, 50], [0, 10, 20, 21, 40, 50], 0, 0),
        ([5000, 5010, 5020, 9999, 0, 10, 20], [0, 10, 20, 30, 40, 50, 60], 2, 0),
    ],
)
def test_arriving_times_become_one_line(times, placed, steps, outliers):
    assert arriving(times) == (placed, steps, outliers)


def test_a_frame_period_is_a_median():
    # One lost frame before the step does not double the period.
    times = [100, 110, 120, 130, 150, 0, 10]
    assert known(times)[0] == [100, 110, 120, 130, 150, 160, 170]
    assert known([100, 0, 40, 80], period=40)[0] == [100, 140, 180, 220]


def test_clocks_of_mpeg_wrap():
    # FFmpeg adds a wrap to a step back by more than a minute; it may leave out one that is due.
    assert known([9000, 9010, WRAP, WRAP + 10], wrap=WRAP) == ([9000, 9010, 9020, 9030], 1, 0)
    times = [WRAP - 20, WRAP - 10, 0, 10]
    assert known(times, wrap=WRAP) == ([WRAP - 20, WRAP - 10, WRAP, WRAP + 10], 0, 0)
    assert known([WRAP - 10, WRAP, WRAP + 10], wrap=WRAP)[0] == [WRAP - 10, WRAP, WRAP + 10]


def test_looking_ahead_gives_every_item_once():
    items = [("a", 5), ("b", 1), ("c", 7), ("d", 8), ("e", 2)]
    found = list(looking_ahead(items, itemgetter(1)))
    assert found == list(zip(items, [1, 2, 2, 2, None], strict=True))
    assert list(looking_ahead([], itemgetter(1))) == []
