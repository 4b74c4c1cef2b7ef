"""The memory of a server is sampled while it predicts."""

import pytest

from benchmarks.memory import measure_memory
from benchmarks.serve import ServeLoad
from kinema.errors import OptionError


def test_no_videos(tmp_path):
    load = ServeLoad()
    with pytest.raises(OptionError, match="No videos in"):
        measure_memory([tmp_path], network="tsm_test_resnet", predictions=10, load=load)


@pytest.mark.slow
def test_the_memory_is_sampled(color_set):
    load = ServeLoad(clients=2, seconds=20, workers=1, batch=2)
    found = measure_memory([color_set], network="tsm_test_resnet", predictions=10, load=load)
    counts = [row["predictions"] for row in found.rows]
    assert counts == sorted(counts)
    assert counts[-1] >= 10
    assert all(row["all_mb"] > row["server_mb"] > 100 for row in found.rows)
    assert 0.5 < found.settings["growth"] < 2
