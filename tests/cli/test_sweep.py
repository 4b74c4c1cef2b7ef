"""`kinema sweep` trains, tests, resumes after a kill and reports what failed."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from PIL import Image

RECIPE = """\
[model]
backbone = "test_resnet"
frames = 2

[data]
train = "train.csv"
val = "val.csv"
workers = 0

[preprocessing]
short_side_px = 32
crop_px = 32

[train]
epochs = 2
batch_size = 2
checkpoint_every_steps = 1
"""
SWEEP = """\
title = "Is order needed?"
recipe = "recipe.toml"
seeds = [0, 1]

[motion]
train_per_class = 1
val_per_class = 1
size_px = 32
min_frames = 8
max_frames = 8

[variants]
TSN = ["model.temporal=tsn"]
TSM = ["model.temporal=tsm"]

[tests.shaky]
camera = 1.0
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    path = tmp_path / "sweep.toml"
    path.write_text(SWEEP, encoding="utf-8")
    return path


def numbers(document: dict[str, Any]) -> list[Any]:
    """All that must be the same when a sweep is repeated."""
    return [
        {name: cell[name] for name in ("variant", "seed", "tests", "params", "macs")}
        for cell in document["cells"]
    ]


@pytest.mark.slow
def test_a_killed_sweep_ends_with_the_numbers_of_one_that_was_not(
    kinema: Any, file: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    answer = kinema("sweep", file, "--out", whole, "--jobs", 2, "--json")
    assert answer.code == 0, answer.err
    document = answer.document
    assert [row["variant"] for row in document["rows"]] == ["TSN", "TSM"]
    assert all(row["tests"]["shaky"]["seeds"] == 2 for row in document["rows"])
    assert json.loads((whole / "results.json").read_text()) == document
    with Image.open(whole / "results.png") as plot:
        assert plot.width > 300

    words = ["sweep", file, "--out", killed, "--jobs", 2]
    process = subprocess.Popen([sys.executable, "-m", "kinema", *map(str, words)])
    second = killed / "runs" / "TSN" / "seed1" / "metrics.jsonl"
    while not second.exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "results.json").exists()
    part = kinema(*words[:-2], "--report-only", "--json")
    assert 1 <= len(part.document["cells"]) < 4
    assert part.document["cells"][0]["variant"] == "TSN"
    answer = kinema(*words, "--json")
    assert answer.code == 0, answer.err
    assert "TSN, seed 0" not in answer.err  # finished before the kill
    assert numbers(answer.document) == numbers(document)

    (killed / "part.json").write_text(json.dumps(part.document), encoding="utf-8")
    elsewhere = ["sweep", file, "--out", tmp_path / "other", "--known", killed / "part.json"]
    merged = kinema(*elsewhere, "--report-only", "--json")
    assert merged.document["cells"] == part.document["cells"]
    answer = kinema(*elsewhere, "--jobs", 2, "--json")
    assert answer.code == 0, answer.err
    assert f"{len(part.document['cells'])} of them are finished elsewhere" in answer.err
    assert not (tmp_path / "other" / "runs" / "TSN" / "seed0").exists()
    assert numbers(answer.document) == numbers(document)

    answer = kinema(*words, "train.epochs=3")
    assert answer.code == 1
    assert "was trained for 2 epochs, not 3" in answer.err
    answer = kinema(*words, "optimizer.lr=0.5")
    assert answer.code == 1
    assert "optimizer.lr differs" in answer.err


@pytest.mark.slow
def test_one_failing_variant_stops_no_other(kinema: Any, file: Path, tmp_path: Path) -> None:
    text = (
        SWEEP.replace("seeds = [0, 1]", "")
        .replace("tsn", "tsn")
        .replace(
            'TSM = ["model.temporal=tsm"]', 'Broken = ["optimizer.lr=1e30", "optimizer.name=sgd"]'
        )
    )
    file.write_text(text, encoding="utf-8")
    answer = kinema("sweep", file, "--out", tmp_path / "out")
    assert answer.code == 1
    assert "1 of 2 trainings failed" in answer.err
    assert "Broken, seed 0: The loss is" in answer.err
    assert (tmp_path / "out" / "runs" / "TSN" / "seed0" / "result.json").is_file()


def test_nothing_finished_is_no_report(kinema: Any, file: Path, tmp_path: Path) -> None:
    answer = kinema("sweep", file, "--out", tmp_path / "out", "--report-only")
    assert answer.code == 1
    assert "No training of" in answer.err


def test_two_sweeps_do_not_share_a_folder(kinema: Any, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with FileLock(out / ".lock"):
        answer = kinema("sweep", file, "--out", out)
    assert answer.code == 1
    assert "Another sweep is writing to" in answer.err
