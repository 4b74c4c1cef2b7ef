"""The benchmark of `kinema label` labels the same videos in both ways."""

import pytest

from benchmarks.label import measure_label
from kinema.archive.settings import ClusterSettings
from kinema.values import Preprocessing


@pytest.mark.slow
@pytest.mark.filterwarnings(
    # Ray sets its own deprecated settings when it makes its defaults.
    "ignore:`use_.*` is deprecated:DeprecationWarning:ray",
)
def test_both_rates_are_measured_on_the_same_videos(color_set, monkeypatch, tmp_path):
    monkeypatch.setenv("KINEMA_CACHE", str(tmp_path))
    measurement = measure_label(
        color_set,
        network="tsm_test_resnet",
        videos=40,
        preprocessing=Preprocessing(frames=4, short_side_px=40, crop_px=32),
        cluster=ClusterSettings(workers=1, decoders=1, device="cpu"),
        rounds=1,
    )
    single, archive = measurement.rows
    assert (single["form"], single["ratio"]) == ("one process, optimized", 1)
    assert archive["videos_per_s"] > archive["whole_videos_per_s"] > 0
    assert archive["whole_ratio"] == pytest.approx(
        archive["whole_videos_per_s"] / single["videos_per_s"], abs=0.002
    )
