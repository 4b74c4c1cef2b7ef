"""The training state: written whole, read back exactly, and enough to go on from."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kinema.errors import CheckpointError, RecipeError
from kinema.models.zoo import create_model
from kinema.train import loop
from kinema.train.checkpoint import (
    Position,
    Sums,
    TrainState,
    load_state,
    save_state,
)
from kinema.train.loop import train
from kinema.train.optim import build_ema, build_optimizer, build_schedule
from kinema.train.recipe import recipe_from
from kinema.train.settings import AdamWSettings, CosineSettings

Tables = dict[str, dict[str, Any]]


def learner(*, classes: int = 3, ema: bool = True) -> TrainState:
    net = create_model("tsn_resnet10t", classes=classes, frames=2)
    optimizer = build_optimizer(net, AdamWSettings(), batch_size=2)
    schedule = build_schedule(optimizer, CosineSettings(), epochs=2, steps_per_epoch=3, lr=1e-3)
    return TrainState(net, optimizer, schedule, build_ema(net, 0.9) if ema else None)


def step(learner: TrainState) -> None:
    learner.net(torch.rand(2, 2, 3, 32, 32)).square().sum().backward()
    learner.optimizer.step()
    learner.optimizer.zero_grad()
    learner.schedule.step()
    if learner.ema is not None:
        learner.ema.update_parameters(learner.net)


def tensors(learner: TrainState) -> dict[str, Any]:
    assert learner.ema is not None
    moments = {
        f"{number}.{key}": value
        for number, state in learner.optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }
    return {**learner.net.state_dict(), **learner.ema.state_dict(), **moments}


def test_everything_comes_back_exactly(tmp_path: Path) -> None:
    first = learner()
    step(first)
    step(first)
    position = Position(epoch=1, batches=2, steps=5, lines=4, best_top1=0.5, best_epoch=1)
    position.add(Sums(loss=1.5, correct=2.0, clips=4, compute_s=0.1, wait_s=0.2))
    save_state(tmp_path / "state.pt", first, position)

    second = learner()
    assert load_state(tmp_path / "state.pt", second) == position
    expected, got = tensors(first), tensors(second)
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[key], got[key]) for key in expected)
    assert second.schedule.get_last_lr() == first.schedule.get_last_lr()

    torch.manual_seed(1)
    step(first)
    torch.manual_seed(1)
    step(second)
    expected, got = tensors(first), tensors(second)
    assert all(torch.equal(expected[key], got[key]) for key in expected)


def test_every_process_gets_its_own_sums_back(tmp_path: Path) -> None:
    positions = [Position(epoch=1), Position(epoch=1)]
    for number, position in enumerate(positions, start=1):
        position.add(Sums(loss=number, clips=4))
    save_state(tmp_path / "state.pt", learner(), *positions)

    def clips_and_losses(world: int) -> list[tuple[int, float]]:
        loaded = (
            load_state(tmp_path / "state.pt", learner(), rank=rank, world=world)
            for rank in range(world)
        )
        return [(found.of_epoch.clips, found.of_window.loss) for found in loaded]

    assert clips_and_losses(2) == [(4, 1.0), (4, 2.0)]
    # With another number of processes the first one resumes with the total.
    assert clips_and_losses(1) == [(8, 3.0)]
    assert clips_and_losses(3) == [(8, 3.0), (0, 0.0), (0, 0.0)]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_damaged_state_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "state.pt"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"state\.pt is not a readable training state"):
        load_state(file, learner())


def test_a_flipped_bit_is_named(tmp_path: Path) -> None:
    file, work = tmp_path / "state.pt", learner()
    save_state(file, work, Position(steps=7))
    good, found = file.read_bytes(), []
    weights = torch.load(file, weights_only=True)["net"]
    for at in range(5, len(good), len(good) // 30):
        content = bytearray(good)
        content[at] ^= 1
        file.write_bytes(content)
        try:
            assert load_state(file, work).steps == 7  # in the space between two records
            assert all(torch.equal(value, weights[n]) for n, value in work.net.state_dict().items())
        except CheckpointError as error:
            found.append(str(error))
    assert len(found) > 20
    fix = "Restore it from a copy, or delete it to train from the start"
    assert all(said.startswith(f"{file} is not a readable training") for said in found)
    assert all(fix in said for said in found)
    assert any("Bad CRC-32" in said for said in found)


def test_state_of_something_else_is_named(tmp_path: Path) -> None:
    file = tmp_path / "state.pt"
    torch.save({"format": 99}, file)
    with pytest.raises(CheckpointError, match="not a training state of this version"):
        load_state(file, learner())
    save_state(file, learner(), Position())
    with pytest.raises(CheckpointError, match="belongs to another network or optimizer"):
        load_state(file, learner(classes=4))


def test_best_is_noted_once() -> None:
    position = Position(epoch=2)
    assert position.note_validation(0.5)
    position.epoch = 3
    assert not position.note_validation(0.5)
    assert not position.note_validation(None)
    assert (position.best_top1, position.best_epoch) == (0.5, 3)


RARELY = pytest.mark.slow
CHOICES = {
    "defaults": ("train.mixup_alpha=0.5",),
    "sgd one by one": ("train.fused_optimizer=false",),
    "adamw fused": ("optimizer.name=adamw", "optimizer.lr=0.001"),
    "checkpointing": ("train.activation_checkpointing=true", "train.precision=bf16"),
    "compiled": ("train.compile=true", "data.workers=0"),
}


@pytest.mark.parametrize(
    ("stop_after", "choice"),
    [
        (3, "defaults"),
        (3, "checkpointing"),
        pytest.param(3, "sgd one by one", marks=RARELY),
        pytest.param(3, "adamw fused", marks=RARELY),
        pytest.param(3, "compiled", marks=RARELY),
        pytest.param(1, "defaults", marks=RARELY),
        pytest.param(6, "defaults", marks=RARELY),
        pytest.param(6, "checkpointing", marks=RARELY),
    ],
)
def test_resumed_run_equals_an_uninterrupted_one(
    settings: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int, choice: str
) -> None:
    settings["train"] |= {"checkpoint_every_steps": 2, "ema_decay": 0.9}
    recipe = recipe_from(settings, source="test", overrides=CHOICES[choice])
    train(recipe, out=tmp_path / "whole", quiet=True)

    real_step = loop.take_step

    def interrupted(job: loop.Job) -> None:
        if job.position.steps == stop_after:
            raise KeyboardInterrupt
        real_step(job)

    monkeypatch.setattr(loop, "take_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out=tmp_path / "parts", quiet=True)
    monkeypatch.setattr(loop, "take_step", real_step)
    train(recipe, out=tmp_path / "parts", resume=True, quiet=True)
    assert_same_state(tmp_path / "whole", tmp_path / "parts")
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "parts")


@pytest.mark.slow
def test_checkpointing_may_change_on_resume_and_a_fused_optimizer_not(
    settings: Tables, tmp_path: Path
) -> None:
    settings["schedule"] = {"name": "constant"}

    def started(*words: str, out: str, resume: bool = False) -> None:
        recipe = recipe_from(settings, source="test", overrides=words)
        train(recipe, out=tmp_path / out, resume=resume, quiet=True)

    started(out="whole")
    started("train.epochs=1", out="parts")
    thrifty = "train.activation_checkpointing=true"
    with pytest.raises(RecipeError, match=r"train\.fused_optimizer differs"):
        started(thrifty, "train.fused_optimizer=false", out="parts", resume=True)
    started(thrifty, out="parts", resume=True)
    assert_same_state(tmp_path / "whole", tmp_path / "parts")


def assert_same_state(whole: Path, parts: Path) -> None:
    """Weights, averages, momenta and rates are equal."""
    a, b = (torch.load(run / "state.pt", weights_only=True) for run in (whole, parts))
    for part in ("net", "ema"):
        assert (a[part] is None) == (b[part] is None)
        for key, value in (a[part] or {}).items():
            assert torch.equal(value, b[part][key]), f"{part} {key}"
    assert a["optimizer"]["param_groups"] == b["optimizer"]["param_groups"]
    for number, state in a["optimizer"]["state"].items():
        for key, value in state.items():
            assert torch.equal(value, b["optimizer"]["state"][number][key]), f"{number} {key}"


def metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of the log without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    clock = ("wait_s", "step_s", "train_s", "videos_per_s", "bound")
    return [{k: v for k, v in line.items() if k not in clock} for line in lines]
