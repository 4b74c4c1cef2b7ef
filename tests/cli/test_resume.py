"""A run that is killed and resumed ends with exactly the weights of one that was not."""

import json
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from . import run_training

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["kinema.train"])

RECIPE = """\
[model]
backbone = "resnet10t"
temporal = "tim"
frames = 2

[data]
train = "{set}/train.csv"
val = "{set}/val.csv"
root = "{set}/videos"
workers = 1

[preprocessing]
short_side_px = 32
crop_px = 32

[optimizer]
name = "sgd"
lr = 0.02

[schedule]
name = "cosine"
warmup_epochs = 1

[train]
epochs = 3
batch_size = 2
mixup_alpha = 0.5
ema_decay = 0.9
checkpoint_every_steps = 3
log_every_steps = 1
"""


@pytest.fixture(scope="module")
def recipe(motion_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    file.write_text(RECIPE.format(set=motion_set), encoding="utf-8")
    return file


def start(*words: str | Path) -> BaseProcess:
    """A real process of its own, forked from one that has done the imports, which take longest."""
    process = FORKS.Process(target=run_training.main, args=([str(word) for word in words],))
    process.start()
    return process


def finish(process: BaseProcess) -> int | None:
    """Its exit code; what it says on the way stands in the output of the test."""
    process.join(120)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode


def lines(run: Path) -> list[dict[str, Any]]:
    clock = ("wait_s", "step_s", "train_s", "videos_per_s", "bound")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in clock} for row in rows]


def assert_same(whole: Path, parts: Path) -> None:
    for folder in ("best", "last"):
        expected = load_file(whole / folder / "model.safetensors")
        got = load_file(parts / folder / "model.safetensors")
        assert expected.keys() == got.keys()
        assert all(torch.equal(expected[key], got[key]) for key in expected)
    a, b = (torch.load(run / "state.pt", weights_only=True) for run in (whole, parts))
    assert all(torch.equal(value, b["net"][key]) for key, value in a["net"].items())
    for number, state in a["optimizer"]["state"].items():
        momentum = b["optimizer"]["state"][number]["momentum_buffer"]
        assert torch.equal(state["momentum_buffer"], momentum)
    assert lines(whole) == lines(parts)


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a training that nothing disturbed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert finish(start(recipe, run)) == 0
    return run


# Long enough to be stopped from outside on a busy machine.
LONG = "train.epochs=14"


@pytest.fixture(scope="module")
def long(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with more epochs."""
    run = tmp_path_factory.mktemp("long") / "run"
    assert finish(start(recipe, run, LONG)) == 0
    return run


@pytest.mark.slow
def test_killed_in_the_middle_of_an_epoch(recipe: Path, whole: Path, tmp_path: Path) -> None:
    # Step 11 lies in the second epoch (7 steps each), two steps after the last saved state; then
    # once more soon after resuming, and before anything was saved.
    parts = tmp_path / "parts"
    assert finish(start(recipe, parts, "--kill-at", "11")) == -signal.SIGKILL
    assert finish(start(recipe, parts, "--resume", "--kill-at", "13")) == -signal.SIGKILL
    assert finish(start(recipe, parts, "--resume")) == 0
    assert_same(whole, parts)

    early = tmp_path / "early"
    assert finish(start(recipe, early, "--kill-at", "1")) == -signal.SIGKILL
    assert not (early / "state.pt").exists()
    assert finish(start(recipe, early, "--resume")) == 0
    assert_same(whole, early)


@pytest.mark.slow
def test_killed_from_outside_at_any_time(recipe: Path, long: Path, tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    for wanted_lines in (4, 21):
        words = [recipe, parts, LONG, *(["--resume"] if parts.exists() else [])]
        process = start(*words)
        metrics = parts / "metrics.jsonl"
        while not metrics.exists() or metrics.read_bytes().count(b"\n") < wanted_lines:
            assert process.is_alive(), "the run ended before it could be killed"
            time.sleep(0.01)
        process.kill()
        assert finish(process) == -signal.SIGKILL
    assert finish(start(recipe, parts, LONG, "--resume")) == 0
    assert_same(long, parts)


@pytest.mark.slow
def test_signals_lose_no_step_and_the_printed_command_resumes(
    recipe: Path, long: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as in the undisturbed run
    kinema = [sys.executable, "-m", "kinema"]
    rare = "train.checkpoint_every_steps=1000"

    def interrupted(*words: str, number: signal.Signals, wanted_lines: int) -> tuple[int, str]:
        process = subprocess.Popen(
            [*kinema, *words], stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        while not metrics.exists() or metrics.read_bytes().count(b"\n") < wanted_lines:
            assert process.poll() is None, "the run ended before it could be interrupted"
            time.sleep(0.01)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does: the loader gets it too
        else:
            process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors, errors
        return process.returncode, errors

    parts = tmp_path / "two parts"
    metrics = parts / "metrics.jsonl"
    words = ("train", str(recipe), LONG, rare)
    code, _ = interrupted(*words, "--out", str(parts), number=signal.SIGTERM, wanted_lines=2)
    assert code == -signal.SIGTERM
    steps = torch.load(parts / "state.pt", weights_only=True)["positions"][0]["steps"]
    assert steps >= 2
    code, errors = interrupted(
        *words, "--resume", str(parts), number=signal.SIGINT, wanted_lines=steps + 2
    )
    assert code == 130
    *_, how, last = errors.splitlines()
    assert last == "Interrupted."
    name, *resume_words = shlex.split(how.removeprefix("To resume: "))
    assert name == "kinema"
    subprocess.run([*kinema, *resume_words], check=True, timeout=120)
    assert_same(long, parts)
