"""The load test of the service: real clients and a real server, and what it calls missed."""

import os
import time
from dataclasses import replace

import pytest

from benchmarks.load import Upload, send_load
from benchmarks.processes import cpu_seconds, resident_mb
from benchmarks.serve import ServeLoad, measure_serve, missed
from kinema.bench.result import Measurement
from kinema.errors import OptionError
from kinema.values import Preprocessing

GOOD = {
    **{"form": "served", "clips": 100, "ratio": 0.9, "failed": 0, "refused": 0},
    **{"p99_ms": 900.0, "limit_ms": 1000.0, "rss_growth": 1.01},
}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({}, None),
        ({"ratio": 0.849}, "the ratio is 0.849, not in 0.85 to 1.15"),
        ({"ratio": 2.6}, "the ratio is 2.6, not in"),  # offline was disturbed: nothing is shown
        ({"failed": 1}, "1 of 101 accepted requests failed"),
        ({"clips": 0}, "0 of 0 accepted requests failed"),
        ({"p99_ms": 1001.0}, "the p99 is 1001.0 ms, above 1000.0 ms"),
        ({"rss_growth": 1.06}, "grew by a factor of 1.06"),
        ({"rss_growth": None}, None),  # not told by this system
    ],
)
def test_what_is_missed(change, part):
    found = missed(Measurement("serve", {}, [{"form": "offline"}, {**GOOD, **change}]))
    assert len(found) == (part is not None)
    assert part is None or part in found[0]


def test_no_videos(tmp_path):
    with pytest.raises(OptionError, match="No videos in"):
        measure_serve([tmp_path])


def test_a_server_that_is_not_there_is_a_failure(color_set):
    upload = Upload.of(color_set / "red" / "0.mp4", [0.5, 0.5])
    found = send_load("http://127.0.0.1:9", [upload], clients=2, until=time.perf_counter() + 0.05)
    assert len(found) >= 2
    assert {one.fate for one in found} == {"failed"}
    assert found[0].words.startswith("0.mp4: ConnectionRefusedError")


def test_what_this_process_uses_is_told():
    before = cpu_seconds(os.getpid())
    assert before is not None
    sum(range(3_000_000))
    assert cpu_seconds(os.getpid()) > before
    assert 20 < resident_mb(os.getpid()) < 50_000
    assert resident_mb(2**22 + 1) is None


@pytest.mark.slow
def test_a_server_under_load(color_set):
    load = ServeLoad(clients=4, seconds=3.0, workers=1, batch=4)
    how = Preprocessing(frames=4, short_side_px=40, crop_px=32)
    measurement = measure_serve(
        [color_set], network="tsm_test_resnet", preprocessing=how, load=load
    )
    offline, served = measurement.rows
    assert offline.keys() == served.keys()
    assert (offline["ratio"], measurement.settings["videos"]) == (1.0, 6)
    assert served["clips"] > 10
    assert (served["failed"], served["refused"]) == (0, 0), measurement.notes[-1]
    assert served["p99_ms"] >= served["p50_ms"] > 0
    assert served["ratio"] == pytest.approx(served["clips_per_s"] / offline["clips_per_s"], 0.01)
    assert served["cpu_ms"] > 0
    assert served["rss_growth"] == pytest.approx(1, abs=0.5)


@pytest.mark.slow
def test_wrong_answers_are_seen(color_set, monkeypatch):
    """Clips that are mixed up would not be noticed by their number."""
    real = Upload.of.__func__
    wrong = classmethod(lambda cls, path, probs: replace(real(cls, path, probs), probs=[9.0] * 400))
    monkeypatch.setattr(Upload, "of", wrong)
    measurement = measure_serve(
        [color_set],
        network="tsm_test_resnet",
        preprocessing=Preprocessing(frames=4, short_side_px=40, crop_px=32),
        load=ServeLoad(clients=2, seconds=1.0, workers=1, batch=4),
    )
    assert measurement.rows[-1]["clips"] == 0
    assert measurement.rows[-1]["failed"] > 0
    assert "accepted requests failed" in missed(measurement)[0]
    assert "offline 9.000" in measurement.notes[-1]
