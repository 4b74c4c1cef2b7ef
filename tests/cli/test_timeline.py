"""`kinema timeline` and the files it writes."""

import csv
from pathlib import Path

import numpy as np
import pytest

from kinema import Recognizer
from kinema.timeline import TimelineSettings, timeline

WORDS = ("--window", 0.5, "--enter", 0.34, "--leave", 0.2)


@pytest.fixture
def video(color_set) -> Path:
    return color_set / "green" / "1.mp4"


def test_the_command_says_what_python_says(kinema, checkpoint, video):
    document = kinema("timeline", checkpoint, video, "--window", 0.5, "--top", 2, "--json").document
    recognizer = Recognizer.load(checkpoint)
    expected = timeline(recognizer, video, TimelineSettings(window_s=0.5))
    assert list(document) == [
        *("path", "duration_s", "window_s", "stride_s", "windows", "segments", "error")
    ]
    assert (document["path"], document["error"]) == (str(video), None)
    assert len(document["windows"]) == len(expected.scores) == 3
    for row, window in enumerate(document["windows"]):
        assert window["start_s"] == pytest.approx(expected.starts_s[row], abs=1e-3)
        assert window["end_s"] == pytest.approx(expected.ends_s[row], abs=1e-3)
        best = expected.top(row, 2)
        assert [(e["label"], e["name"]) for e in window["top"]] == [(c.label, c.name) for c in best]
        assert window["top"][0]["prob"] == pytest.approx(best[0].prob, abs=1e-5)
    assert [s["name"] for s in document["segments"]] == [s.name for s in expected.segments]


def test_chunks_change_nothing(kinema, checkpoint, video):
    words = ("timeline", checkpoint, video, *WORDS, "--json")
    assert kinema(*words, "--chunk", 16).out == kinema(*words, "--chunk", 64).out


def test_every_file_holds_the_segments(kinema, checkpoint, video, tmp_path):
    files = {kind: tmp_path / f"out.{kind}" for kind in ("csv", "srt", "html")}
    options = [word for kind, file in files.items() for word in (f"--{kind}", file)]
    words = ("timeline", checkpoint, video, *WORDS)
    answer = kinema(*words, *options, "--scores", tmp_path / "all.npz")
    assert answer.code == 0
    assert answer.err.splitlines()[:4] == [
        *(f"wrote {file}" for file in files.values()),
        f"wrote {tmp_path / 'all.npz'}",
    ]
    segments = kinema(*words, "--json").document["segments"]
    assert segments
    with files["csv"].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [segment["name"] for segment in segments]
    assert [float(row["end_s"]) for row in rows] == [segment["end_s"] for segment in segments]
    assert files["srt"].read_text().startswith("1\n00:00:00,000 --> 00:00:0")
    assert segments[0]["name"] in files["html"].read_text()
    assert segments[0]["name"] in answer.out
    scores = np.load(tmp_path / "all.npz")
    assert scores["scores"].shape == (len(scores["starts_s"]), 3)
    assert scores["class_names"].tolist() == ["red", "green", "blue"]


def test_the_folder_of_a_file_is_made(kinema, checkpoint, video, tmp_path):
    out = tmp_path / "new" / "page.html"
    assert kinema("timeline", checkpoint, video, "--html", out).code == 0
    assert out.exists()


def test_nothing_clear_is_said(kinema, checkpoint, video):
    answer = kinema("timeline", checkpoint, video, "--enter", 1, "--leave", 1)
    assert (answer.code, answer.out) == (0, "")
    assert "No class is probable enough" in answer.err


def test_too_many_windows_are_refused(kinema, checkpoint, video):
    answer = kinema("timeline", checkpoint, video, "--window", 1e-7)
    assert (answer.code, answer.out) == (1, "")
    text = " ".join(answer.err.split())
    assert "more than the limits of 200000 and 10000000" in text
    assert "Choose longer windows or a longer stride" in text


@pytest.mark.data
def test_a_recording_with_a_hole_of_hours(kinema, checkpoint, data_dir):
    path = data_dir.parent / "cases" / "time_hole_timeline" / "hole.mkv"
    answer = kinema("timeline", checkpoint, path, "--json")
    assert answer.code == 0
    assert answer.document["duration_s"] == 72_004.0
    assert len(answer.document["windows"]) < 12


def test_a_damaged_video_gives_what_was_read_and_exit_code_1(
    kinema, checkpoint, video, monkeypatch
):
    from kinema.errors import UnreadableVideoError
    from kinema.video.decode import VideoFile

    whole = VideoFile.in_order

    def in_order(self):
        for number, picture in enumerate(whole(self)):
            if number == 9:
                raise UnreadableVideoError(f"{self.path} cannot be read: lost.")
            yield picture

    monkeypatch.setattr(VideoFile, "in_order", in_order)
    answer = kinema("timeline", checkpoint, video, *WORDS, "--json")
    assert answer.code == 1
    assert len(answer.document["windows"]) == 2
    assert "Reading stopped at 0.75 s of 1.00 s" in answer.document["error"]
    assert f"Error: {video} cannot be read: lost. Reading stopped at 0.75 s" in answer.err


@pytest.mark.parametrize("option", ["--csv", "--srt", "--html"])
def test_existing_files_are_kept(kinema, checkpoint, video, option):
    before = video.read_bytes()
    answer = kinema("timeline", checkpoint, video, option, video)
    assert (answer.code, answer.out) == (2, "")
    assert "already exists" in answer.err
    assert video.read_bytes() == before


def test_what_cannot_be_written_costs_no_result(kinema, checkpoint, video, tmp_path, monkeypatch):
    # As if the folder had been lost after the check in the beginning.
    monkeypatch.setattr("kinema.cli.timeline.check_new", lambda *_, **__: None)
    (tmp_path / "file").touch()
    answer = kinema("timeline", checkpoint, video, "--csv", tmp_path / "file" / "x.csv", "--json")
    assert answer.code == 1
    assert "x.csv cannot be written: " in answer.err
    assert len(answer.document["windows"]) > 0


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("--scores", "z.csv"), 2, "expected a file name ending in .npz"),
        (("--window", "-1"), 2, "Invalid value for '--window'"),
        (("--window", "0"), 1, "window_s must be above 0"),
        (("--smooth", "2"), 1, "number must be odd, got 2"),
        (("--background", "reed"), 1, "Did you mean 'red'?"),
        (("--stream",), 1, "causal"),
    ],
)
def test_wrong_use(kinema, checkpoint, video, words, code, part):
    answer = kinema("timeline", checkpoint, video, *words)
    assert (answer.code, answer.out) == (code, "")
    assert part in " ".join(answer.err.replace("│", " ").split())


def test_a_missing_video_is_exit_code_1(kinema, checkpoint, tmp_path):
    answer = kinema("timeline", checkpoint, tmp_path / "gone.mp4", "--json")
    assert (answer.code, answer.out) == (1, "")
    assert "gone.mp4 does not exist" in answer.err


def test_help_has_an_example(kinema):
    answer = kinema("timeline", "--help")
    assert answer.code == 0
    assert "kinema timeline" in answer.out.split("Example:")[1]
