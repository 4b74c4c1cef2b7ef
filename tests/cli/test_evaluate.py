"""`kinema evaluate` end to end."""

import csv

import numpy as np
import pytest

from kinema.evaluate import load_scores


@pytest.fixture
def words(checkpoint, colour_set):
    return ("evaluate", checkpoint, "--data", colour_set / "val.csv", "--workers", 0)


def test_all_files_and_numbers(kinema, words, tmp_path):
    document = kinema(
        *words,
        *("--clips", 2, "--crops", 3, "--batch", 5, "--json"),
        *("--scores", tmp_path / "scores.npz", "--out", tmp_path / "tables"),
    ).document
    assert document["videos"] == 6
    assert document["views"] == {"clips": 2, "crops": 3, "full_resolution": False}
    assert document["skipped"] == []
    assert document["top5"] == 1.0
    assert document["top1"] == document["mean_class"]  # two videos in each class
    assert [row["name"] for row in document["per_class"]] == ["red", "green", "blue"]
    report = load_scores(tmp_path / "scores.npz")
    assert report.top1 == document["top1"]
    names = {path.name for path in (tmp_path / "tables").iterdir()}
    assert names == {"per_class.csv", "confusion.csv", "confusion.png"}
    with (tmp_path / "tables" / "confusion.csv").open(encoding="utf-8") as file:
        counts = np.array([row[1:] for row in list(csv.reader(file))[1:]], int)
    assert counts.tolist() == report.confusion.tolist()


def test_the_tables_are_results_and_the_rest_is_not(kinema, words, tmp_path):
    answer = kinema(*words, "--scores", tmp_path / "scores.npz")
    assert answer.code == 0
    for part in ("Accuracy by class", "green", "mean class", "1 x 1"):
        assert part in answer.out
    assert answer.err == f"Scores: {tmp_path / 'scores.npz'}\n"


def test_full_resolution_differs(kinema, words, tmp_path):
    for name, more in (("crop", ()), ("whole", ("--full-resolution",))):
        kinema(*words, *more, "--scores", tmp_path / f"{name}.npz")
    crop, whole = (load_scores(tmp_path / f"{name}.npz") for name in ("crop", "whole"))
    assert whole.views.full_resolution
    assert not np.allclose(crop.scores, whole.scores)


def test_unreadable_videos(kinema, checkpoint, colour_set, tmp_path):
    rows = (colour_set / "val.csv").read_text() + "gone.mp4,red\n"
    (tmp_path / "list.csv").write_text(rows)
    words = ("evaluate", checkpoint, "--data", tmp_path / "list.csv", "--root", colour_set)
    answer = kinema(*words, "--workers", 0)
    assert (answer.code, answer.out) == (1, "")
    assert "gone.mp4 does not exist" in answer.err
    assert "--skip-unreadable" in answer.err
    answer = kinema(*words, "--workers", 0, "--skip-unreadable", "--json")
    assert answer.code == 0
    (skipped,) = answer.document["skipped"]
    assert skipped["path"] == "gone.mp4"
    assert answer.document["videos"] == 6
    answer = kinema(*words, "--workers", 0, "--skip-unreadable")
    assert "Skipped: " in answer.err


def test_labels_outside_the_network(kinema, checkpoint, tmp_path):
    (tmp_path / "list.csv").write_text("path,label\na.mp4,purple\n")
    answer = kinema("evaluate", checkpoint, "--data", tmp_path / "list.csv")
    assert answer.code == 1
    assert "list.csv, line 2" in answer.err
    assert "purple" in answer.err


def test_missing_files(kinema, checkpoint, colour_set, tmp_path):
    answer = kinema("evaluate", tmp_path, "--data", colour_set / "val.csv")
    assert "is not a kinema checkpoint" in answer.err
    answer = kinema("evaluate", checkpoint, "--data", tmp_path / "none.csv")
    assert "none.csv does not exist" in answer.err
    answer = kinema("evaluate", checkpoint, "--data", colour_set / "val.csv", "--format", "csw")
    assert "Unknown annotation format 'csw'. Did you mean 'csv'?" in answer.err
    assert answer.code == 1
