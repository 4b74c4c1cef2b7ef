"""The benchmark of decoding, on tiny videos."""

import importlib

import pytest

from kinema.bench import decode
from kinema.bench.decode import CACHED, DECORD, KINDS, PYAV, SCANNED, measure_decode
from kinema.errors import OptionError, UnknownNameError

TINY = {"seconds": 1.0, "rounds": 1}


@pytest.fixture
def without_decord(monkeypatch):
    real = importlib.import_module

    def absent(name, *rest):
        if name == "decord":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", absent)


def test_every_form_is_measured_on_the_kinds_wished_for(without_decord):
    found = measure_decode(kinds=["h264 GOP 12", "mpeg4 avi"], **TINY)
    assert found.kind == "decode"
    assert found.settings["against"] == PYAV
    assert "decord is not installed" in " ".join(found.notes)
    assert [(row["video"], row["form"]) for row in found.rows] == [
        (video, form) for video in ("h264 GOP 12", "mpeg4 avi") for form in (PYAV, SCANNED, CACHED)
    ]
    for row in found.rows:
        assert row["cpu_ms"] > 0
        assert row["videos_per_cpu_s"] == pytest.approx(1000 / row["cpu_ms"], rel=0.01)
    assert all(row["ratio"] == 1 for row in found.rows if row["form"] == PYAV)


def test_the_clip_of_the_user_is_used(color_set, without_decord):
    clip = color_set / "red" / "0.mp4"
    found = measure_decode(clip=clip, kinds=["mjpeg avi"], **TINY)
    assert found.settings["clip"] == "0.mp4"


@pytest.mark.slow
def test_all_kinds_can_be_made():
    pytest.importorskip("decord")
    found = measure_decode(seconds=2.0, rounds=1)
    assert {row["video"] for row in found.rows} == set(KINDS)
    assert found.settings["against"] == DECORD


def test_dense_frames_come_from_one_window():
    assert decode._wanted(300, dense=False) == [18, 56, 93, 131, 168, 206, 243, 281]
    assert decode._wanted(300, dense=True) == [122, 130, 138, 146, 154, 162, 170, 178]
    assert decode._wanted(8, dense=True) == list(range(8))


def test_wrong_wishes_are_named(without_decord):
    with pytest.raises(UnknownNameError, match="Unknown kind 'h264 GOP 13'. Did you mean"):
        measure_decode(kinds=["h264 GOP 13"])
    with pytest.raises(OptionError, match="at least 8 frames, 0.1 s give 3"):
        measure_decode(kinds=["mjpeg avi"], seconds=0.1, rounds=1)
