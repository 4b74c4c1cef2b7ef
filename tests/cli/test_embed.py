"""`kinema embed`: features of videos in a file."""

import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kinema import Recognizer


def test_the_archive_holds_what_python_gives(kinema, checkpoint, color_set, tmp_path):
    out = tmp_path / "x.npz"
    words = ("--clips", 2, "--crops", 3, "--device", "cpu")
    answer = kinema("embed", checkpoint, color_set, "--out", out, *words)
    assert (answer.code, answer.out) == (0, f"6 videos, 96 features each: {out}\n")
    recognizer = Recognizer.load(checkpoint, device="cpu")
    with np.load(out) as stored:
        assert stored["paths"].tolist() == sorted(str(p) for p in color_set.rglob("*.mp4"))
        wanted = list(recognizer.embed(stored["paths"].tolist()))
        once = list(recognizer.embed(stored["paths"], clips=2, crops=3))
        assert_array_equal(stored["features"], once)
        assert np.abs(once[0] - wanted[0]).max() > 0


def test_parquet_has_a_row_per_video_and_no_ray(kinema, checkpoint, color_set, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "x.parquet"
    red = color_set / "red"
    answer = kinema("embed", checkpoint, red, "--out", out, "--json")
    assert answer.document == {
        "videos": 2,
        "ok": 2,
        "failed": [],
        "features": 96,
        "out": str(out),
    }
    table = pq.read_table(out)
    assert table.column_names == ["path", "features"]
    wanted = list(Recognizer.load(checkpoint, device="cpu").embed([red / "0.mp4", red / "1.mp4"]))
    assert table["path"].to_pylist() == [str(red / "0.mp4"), str(red / "1.mp4")]
    assert_array_equal(np.float32(table["features"].to_pylist()), wanted)
    assert "ray" not in sys.modules


def test_unreadable_videos_are_left_out_and_named(kinema, checkpoint, color_set, tmp_path):
    gone, out = tmp_path / "gone.mp4", tmp_path / "x.npz"
    answer = kinema("embed", checkpoint, gone, color_set / "red" / "0.mp4", "--out", out)
    assert answer.code == 1
    assert "Error: " in answer.err
    assert "gone.mp4 does not exist" in answer.err
    assert "1 of 2 videos could not be read" in answer.err
    with np.load(out) as stored:
        assert stored["features"].shape == (1, 96)
    other = tmp_path / "none.npz"
    answer = kinema("embed", checkpoint, gone, "--out", other)
    assert answer.code == 1
    assert "No video could be read, so none.npz is not written" in answer.err
    assert not other.exists()


def test_wrong_names_of_the_file(kinema, checkpoint, tmp_path):
    def error(out: object) -> str:
        answer = kinema("embed", checkpoint, tmp_path, "--out", out)
        assert answer.code == 2
        return " ".join(answer.err.replace("│", " ").split())

    assert "expected a file name ending in .npz or .parquet, got" in error(tmp_path / "x.csv")
    (tmp_path / "x.npz").touch()
    assert "already exists" in error(tmp_path / "x.npz")
