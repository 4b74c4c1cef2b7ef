"""Two real processes train one network over gloo."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("run_training.py")
HOWTO = Path(__file__).resolve().parents[2] / "docs/howto/train_on_several_nodes.md"

# Without BatchNorm and dropout a batch over two processes is the same batch as in one.
RECIPE = """\
[model]
backbone = "convnext_atto"
frames = 2
dropout = 0.0

[data]
train = "{set}/train.csv"
val = "{set}/val.csv"
root = "{set}/videos"
workers = 0

[preprocessing]
short_side_px = 32
crop_px = 32

[optimizer]
name = "sgd"
lr = 0.02

[train]
epochs = 2
batch_size = 4
clip_norm = 1.0
log_every_steps = 1
accelerator = "cpu"
"""


@pytest.fixture(scope="module")
def recipe(motion_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    file.write_text(RECIPE.format(set=motion_set), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def alone(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    run(recipe, folder)
    return folder


@pytest.fixture(scope="module")
def two(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two processes."""
    folder = tmp_path_factory.mktemp("two") / "run"
    answer = run(recipe, folder, "train.devices=2", "train.strategy=ddp")
    assert all(f"rank {rank} finished 2 epochs" in answer.stdout for rank in (0, 1))
    return folder


def run(
    *words: str | Path, launcher: tuple[str, ...] = (), code: int = 0
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *launcher, str(SCRIPT), *map(str, words)]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=200, env=environment, check=False
    )
    assert (done.returncode == 0) == (code == 0), done.stderr
    return done


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def losses(folder: Path) -> list[float]:
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]
    return [row["loss"] for row in rows if row["kind"] == "train"]


def assert_close(a: Path, b: Path) -> None:
    expected, got = (load_file(run / "last" / "model.safetensors") for run in (a, b))
    for key, value in expected.items():
        torch.testing.assert_close(got[key], value, rtol=1e-3, atol=1e-5)
    assert losses(b) == pytest.approx(losses(a), rel=1e-4)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(
    recipe: Path, alone: Path, two: Path, tmp_path: Path
) -> None:
    assert_close(alone, two)

    more = tmp_path / "more"
    run(recipe, more, "train.devices=2", "train.epochs=1", "train.accumulate=2")
    assert len(losses(more)) == 3


@pytest.mark.slow
def test_two_processes_resume(recipe: Path, two: Path, tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    run(recipe, parts, "train.devices=2", "train.epochs=1")
    run(recipe, parts, "train.devices=2", "--resume")
    expected, got = (load_file(path / "last" / "model.safetensors") for path in (two, parts))
    assert all(torch.equal(expected[key], got[key]) for key in expected)


@pytest.mark.slow
def test_under_torchrun(recipe: Path, alone: Path, tmp_path: Path) -> None:
    port = f"--master-port={free_port()}"
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node=2", port)
    run(recipe, tmp_path / "run", launcher=launcher)
    assert_close(alone, tmp_path / "run")


@pytest.mark.slow
def test_two_nodes_train_as_the_how_to_says(recipe: Path, alone: Path, tmp_path: Path) -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", HOWTO.read_text(encoding="utf-8"), flags=re.DOTALL)
    out = tmp_path / "nodes"
    changed = {
        "--nproc-per-node=4": "--nproc-per-node=1",
        "--master-addr=node0": "--master-addr=127.0.0.1",
        "--master-port=29500": f"--master-port={free_port()}",
        "recipes/own_videos.toml": str(recipe),
        "train.batch_size=64": "train.batch_size=4",
        "runs/first": str(out),
    }
    words = shlex.split(block.replace("\\\n", " "))
    assert words[0] == "torchrun"
    assert set(changed) <= set(words)
    words = [sys.executable, "-m", "torch.distributed.run", *(changed.get(w, w) for w in words[1:])]
    nodes = [
        subprocess.Popen(
            [word.replace("--node-rank=0", f"--node-rank={rank}") for word in words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"GLOO_SOCKET_IFNAME": "lo"},
        )
        for rank in (0, 1)
    ]
    errors = [node.communicate(timeout=200)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], errors
    assert_close(alone, out)


@pytest.mark.slow
def test_two_processes_stop_together(recipe: Path, tmp_path: Path) -> None:
    odd = run(recipe, tmp_path / "odd", "train.devices=2", "train.batch_size=3", code=1)
    assert "batch_size (3) must be a multiple of processes x train.accumulate (2 x 1)" in odd.stderr
    used = tmp_path / "used"
    used.mkdir()
    (used / "notes.txt").write_text("mine")
    refused = run(recipe, used, "train.devices=2", code=1)
    assert f"The run folder {used} is not empty" in refused.stderr
