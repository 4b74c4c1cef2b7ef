"""`kinema evaluate` end to end."""

import csv
import json

import numpy as np
import pytest
import torch

from kinema.evaluation.evaluate import load_scores
from kinema.models.saved import load_saved, save
from kinema.temporal import TemporalModule, base


@pytest.fixture
def words(checkpoint, color_set):
    return ("evaluate", checkpoint, "--data", color_set / "val.csv", "--workers", 0)


def test_all_files_and_numbers(kinema, words, tmp_path):
    document = kinema(
        *words,
        *("--clips", 2, "--crops", 3, "--batch", 5, "--json"),
        *("--scores", tmp_path / "scores.npz", "--out", tmp_path / "tables"),
    ).document
    assert document["videos"] == 6
    assert document["views"] == {
        "clips": 2,
        "crops": 3,
        "full_resolution": False,
        "resize_px": None,
        "twice_sample": False,
        "uniform_sample": False,
    }
    assert document["protocol"] is None
    macs = load_saved(words[1]).net.cost(32).macs
    assert document["per_video"] == {
        "gmacs_per_view": macs / 1e9,
        "views": 6,
        "gmacs": macs * 6 / 1e9,
    }
    assert document["skipped"] == []
    assert document["top5"] == 1.0
    assert document["top1"] == document["mean_class"]  # two videos in each class
    assert [row["name"] for row in document["per_class"]] == ["red", "green", "blue"]
    report = load_scores(tmp_path / "scores.npz")
    assert report.top1 == document["top1"]
    names = {path.name for path in (tmp_path / "tables").iterdir()}
    assert names == {"results.json", "per_class.csv", "confusion.csv", "confusion.png"}
    assert json.loads((tmp_path / "tables" / "results.json").read_text()) == document
    assert (document["network"]["name"], document["network"]["frames"]) == ("tsm_test_resnet", 4)
    with (tmp_path / "tables" / "confusion.csv").open(encoding="utf-8") as file:
        counts = np.array([row[1:] for row in list(csv.reader(file))[1:]], int)
    assert counts.tolist() == report.confusion.tolist()


def test_the_tables_are_results_and_the_rest_is_not(kinema, words, tmp_path):
    answer = kinema(*words, "--scores", tmp_path / "scores.npz")
    assert answer.code == 0
    for part in ("Accuracy by class", "green", "mean class", "1 x 1"):
        assert part in answer.out
    assert answer.out.index("Result") < answer.out.index("Accuracy by class")
    assert answer.err == f"Scores: {tmp_path / 'scores.npz'}\n"


def test_the_table_has_only_classes_that_occur(kinema, checkpoint, color_set, tmp_path):
    reds = [r for r in (color_set / "val.csv").read_text().splitlines() if "green" not in r]
    (tmp_path / "list.csv").write_text("\n".join(reds))
    words = ("evaluate", checkpoint, "--data", tmp_path / "list.csv", "--root", color_set)
    answer = kinema(*words, "--workers", 0)
    assert answer.code == 0
    assert "green" not in answer.out
    assert "(2 of 3 have videos)" in " ".join(answer.out.split())
    document = kinema(*words, "--workers", 0, "--json").document
    assert [row["videos"] for row in document["per_class"]] == [2, 0, 2]


def test_full_resolution_differs(kinema, words, tmp_path):
    for name, more in (("crop", ()), ("whole", ("--full-resolution",))):
        kinema(*words, *more, "--scores", tmp_path / f"{name}.npz")
    crop, whole = (load_scores(tmp_path / f"{name}.npz") for name in ("crop", "whole"))
    assert whole.views.full_resolution
    assert not np.allclose(crop.scores, whole.scores)


def test_costs_are_for_the_size_of_the_views(kinema, words):
    macs = load_saved(words[1]).net.cost(40).macs  # the short side
    squares = kinema(*words, "--full-resolution", "--crops", 3, "--json").document
    assert squares["per_video"]["gmacs_per_view"] == macs / 1e9
    whole = kinema(*words, "--full-resolution", "--json").document
    assert whole["per_video"] is None  # the size differs from video to video


class Brightness(TemporalModule):
    """A user's module that reads a value in its forward pass."""

    def __init__(self, channels: int, *, frames: int) -> None:
        super().__init__(frames=frames, look_back=0, look_ahead=0)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        return x_NCHW * (1 if float(x_NCHW.mean()) > 0 else 2)


def test_a_network_whose_cost_cannot_be_counted_is_evaluated(
    kinema, checkpoint, color_set, tmp_path, monkeypatch
):
    monkeypatch.setattr(base, "_REGISTRY", dict(base._REGISTRY))
    base.register("brightness", at="before_conv1")(Brightness)
    saved = load_saved(checkpoint)
    net = saved.net.insert("brightness", stages=(5,), blocks="first")
    own = save(net, tmp_path / "own", labels=saved.labels, preprocessing=saved.preprocessing)
    words = ("evaluate", own, "--data", color_set / "val.csv", "--workers", 0)
    assert kinema(*words).err == ""
    answer = kinema(*words, "--json", "--out", tmp_path / "tables")
    assert answer.document["per_video"] is None
    assert "The cost per video is not counted" in answer.err
    assert json.loads((tmp_path / "tables" / "results.json").read_text()) == answer.document


def test_the_mean_over_views_is_of_scores_or_of_probabilities(kinema, words, tmp_path):
    for name in ("scores", "probs"):
        more = () if name == "scores" else ("--average", name, "--json")
        answer = kinema(*words, "--crops", 3, *more, "--scores", tmp_path / f"{name}.npz")
    assert answer.document["preprocessing"]["average"] == "probs"
    of_scores, of_probs = (
        np.exp(load_scores(tmp_path / f"{name}.npz").scores) for name in ("scores", "probs")
    )
    assert np.allclose(of_probs.sum(1), 1, atol=1e-5)
    assert not np.allclose(of_scores.sum(1), 1, atol=1e-5)
    answer = kinema(*words, "--average", "prob")
    assert answer.code == 1
    assert "average must be one of scores, probs, got 'prob'. Did you mean 'probs'" in answer.err


def test_two_clips_are_at_three_kinds_of_places(kinema, words, tmp_path):
    for name in ("even", "twice", "uniform"):
        more = () if name == "even" else (f"--{name}-sample",)
        kinema(*words, "--clips", 2, *more, "--scores", tmp_path / f"{name}.npz")
    reports = {path.stem: load_scores(path) for path in tmp_path.glob("*.npz")}
    assert {name: report.views.clip_places for name, report in reports.items()} == {
        name: name for name in ("even", "twice", "uniform")
    }
    even, twice, uniform = (reports[name].scores for name in ("even", "twice", "uniform"))
    assert not np.array_equal(even, twice)
    assert np.array_equal(even, uniform)  # segments of three frames: the first and the last one
    answer = kinema(*words, "--twice-sample")
    assert answer.code == 1
    assert "twice_sample is for two clips, got clips=1." in answer.err


def test_unreadable_videos(kinema, checkpoint, color_set, tmp_path):
    rows = (color_set / "val.csv").read_text() + "gone.mp4,red\n"
    (tmp_path / "list.csv").write_text(rows)
    words = ("evaluate", checkpoint, "--data", tmp_path / "list.csv", "--root", color_set)
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


def test_missing_files(kinema, checkpoint, color_set, tmp_path):
    answer = kinema("evaluate", tmp_path, "--data", color_set / "val.csv")
    assert "is not a kinema checkpoint" in answer.err
    answer = kinema("evaluate", checkpoint, "--data", tmp_path / "none.csv")
    assert "none.csv does not exist" in answer.err
    answer = kinema("evaluate", checkpoint, "--data", color_set / "val.csv", "--format", "csw")
    assert "Unknown annotation format 'csw'. Did you mean 'csv'?" in answer.err
    assert answer.code == 1


def test_a_protocol_decides_views_and_sizes(kinema, words):
    answer = kinema(*words, "--protocol", "1x1-center-256to224", "--json")
    document = answer.document
    assert document["protocol"] == "1x1-center-256to224"
    assert document["views"] == {
        "clips": 1,
        "crops": 1,
        "full_resolution": False,
        "resize_px": 224,
        "twice_sample": False,
        "uniform_sample": False,
    }
    how = document["preprocessing"]
    assert (how["frames"], how["short_side_px"], how["crop_px"]) == (4, 256, 256)
    assert "Protocol 1x1-center-256to224: short side 256, crops of 256 (training: 40, 32)" in (
        answer.err
    )


def test_options_that_agree_with_the_protocol_are_no_conflict(kinema, words):
    document = kinema(*words, "--protocol", "1x1-center", "--clips", 1, "--json").document
    assert document["views"]["clips"] == 1


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (("--clips", 4), "Invalid value for --clips: 10x3 has 10 clips, not 4"),
        (("--crops", 1), "Invalid value for --crops: 10x3 has 3 crops, not 1"),
        (("--full-resolution",), "Invalid value for --full-resolution: 10x3 has crops of 224"),
        (("--twice-sample",), "Invalid value for --twice-sample: 10x3 has clips at other places"),
        (
            ("--uniform-sample",),
            "Invalid value for --uniform-sample: 10x3 has clips at other places",
        ),
    ],
)
def test_a_conflict_with_the_protocol_is_wrong_use(kinema, words, more, part):
    answer = kinema(*words, "--protocol", "10x3", *more)
    assert (answer.code, answer.out) == (2, "")
    assert part in " ".join(answer.err.replace("│", " ").split())


def test_an_unknown_protocol_is_named(kinema, words):
    answer = kinema(*words, "--protocol", "10x4")
    assert answer.code == 1
    assert "Unknown protocol '10x4'. Did you mean '10x3'?" in answer.err


def test_protocols_are_listed_with_their_papers(kinema):
    rows = kinema("evaluate", "--list-protocols", "--json").document
    by_name = {row["name"]: row for row in rows}
    assert by_name["4x3-256"]["views"]["clips"] == 4
    assert by_name["4x3-256"]["papers"][0]["paper"] == "TAM"
    assert sum(len(row["papers"]) for row in rows) == 20
    twice = by_name["2x3-full"]
    assert (twice["views"]["twice_sample"], twice["views"]["full_resolution"]) == (True, True)
    assert twice["papers"][0]["place"] == "supplement, table 4, rows 16x3x2 of TSN and TSM"
    table = kinema("evaluate", "--list-protocols").out
    for name in by_name:
        assert name in table
    assert "TEINet" in table


@pytest.fixture
def unlabeled(words, color_set, tmp_path):
    """A list without labels."""
    (tmp_path / "test.csv").write_text("path\nred/0.mp4\ngreen/1.mp4\n", encoding="utf-8")
    more = ("--data", tmp_path / "test.csv", "--root", color_set, "--workers", 0)
    return (*words[:2], *more)


def test_videos_without_labels_are_scored(kinema, unlabeled, tmp_path):
    files = ("--scores", tmp_path / "s.npz", "--submission", tmp_path / "s.csv")
    answer = kinema(*unlabeled, *files, "--submission-form", "name")
    assert answer.code == 0
    assert answer.out == "2 videos scored; no labels, so no accuracy\n"
    assert f"Submission: {tmp_path / 's.csv'}" in answer.err
    report = load_scores(tmp_path / "s.npz")
    assert (report.top1, report.labels.tolist()) == (None, [-1, -1])
    best = [report.class_names[k] for k in report.scores.argmax(1)]
    assert (tmp_path / "s.csv").read_text() == f"0;{best[0]}\n1;{best[1]}\n"
    document = kinema(*unlabeled, "--scores", tmp_path / "t.npz", "--json").document
    assert (document["top1"], document["top5"], document["videos"]) == (None, None, 2)


def test_without_labels_something_must_be_written(kinema, unlabeled, tmp_path):
    answer = kinema(*unlabeled)
    assert (answer.code, answer.out) == (1, "")
    assert "test.csv has no labels, so there is no accuracy. Write the" in answer.err
    answer = kinema(*unlabeled, "--scores", tmp_path / "s.npz", "--out", tmp_path / "tables")
    assert answer.code == 1
    assert "and no table of it (--out)" in answer.err
    assert not (tmp_path / "s.npz").exists()


def test_what_cannot_be_submitted_is_told_before_the_videos_are_read(kinema, words, tmp_path):
    file = ("--submission", tmp_path / "s.csv", "--submission-form")
    answer = kinema(*words, *file, "name", "--scores", tmp_path / "s.npz")
    assert (answer.code, list(tmp_path.iterdir())) == (1, [])
    assert "two have the id 0" in answer.err
    (tmp_path / "two.csv").write_text("path\nred/0.mp4\nred/1.mp4\n", encoding="utf-8")
    answer = kinema(*words[:2], "--data", tmp_path / "two.csv", *file, "top5")
    assert "'red' is not a class of Something-Something V2" in answer.err


def test_existing_files_stop_the_command_before_any_work(kinema, words, tmp_path):
    for option, name in (("--scores", "s.npz"), ("--submission", "s.csv")):
        (tmp_path / name).write_text("kept")
        answer = kinema(*words, option, tmp_path / name)
        assert answer.code == 2
        words_alone = "".join(answer.err.replace("│", " ").split())  # a box breaks lines anywhere
        assert f"{name}alreadyexists" in words_alone
        assert (tmp_path / name).read_text() == "kept"


@pytest.mark.parametrize("name", ["per_class.csv", "confusion.csv", "confusion.png"])
def test_existing_tables_are_kept(kinema, words, tmp_path, name):
    (tmp_path / name).write_text("kept")
    answer = kinema(*words, "--out", tmp_path)
    assert answer.code == 2
    assert "already exists" in answer.err
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (("--submission", "s.csv"), "give the format with --submission-form"),
        (("--submission-form", "name"), "needs --submission"),
        (("--submission", "s.csv", "--submission-form", "json"), "expected name or top5"),
    ],
)
def test_the_form_of_a_submission(kinema, words, more, part):
    answer = kinema(*words, *more)
    assert answer.code == 2
    assert part in " ".join(answer.err.replace("│", " ").split())


def test_times_are_those_of_the_views(kinema, words):
    assert kinema(*words, "--json").document["measured"] is None
    one, many = kinema(*words, "--crops", 3, "--measure", "--json").document["measured"]
    assert (one["batch"], many["batch"]) == (1, 16)
    assert one["videos_per_s"] == pytest.approx(1e3 / 3 / one["ms"], rel=0.2)
    assert "1 view at a time: " in kinema(*words, "--measure").out
