"""A run that starts from a network trained on other classes."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from kinema.errors import CheckpointError
from kinema.models.saved import load_saved, save
from kinema.models.zoo import create_model
from kinema.train.job import build_job
from kinema.train.loop import train
from kinema.train.recipe import recipe_from
from kinema.values import Preprocessing

Tables = dict[str, dict[str, Any]]
HEAD = ("head.classifier.weight", "head.classifier.bias")


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    """A network for five classes with random norms."""
    net = create_model("resnet10t", temporal="tim", classes=5, frames=2, stages=(5,))
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            torch.nn.init.uniform_(tensor, 0.1, 0.2)
    return save(net, tmp_path / "five", labels="abcde")


def test_backbone_and_temporal_weights_are_taken_over(
    settings: Tables, pretrained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings["model"]["weights"] = str(pretrained)
    with caplog.at_level(logging.INFO, logger="kinema"):
        job = build_job(recipe_from(settings, source="test"), out=tmp_path / "run", resume=False)
    from safetensors.torch import load_file

    theirs = load_file(pretrained / "model.safetensors")
    ours = job.state.net.state_dict()
    assert theirs.keys() == ours.keys()
    assert any("tim" in name for name in ours)
    for name in ours:
        assert torch.equal(ours[name], theirs[name]) == (name not in HEAD), name
    assert job.class_names == ("blue", "red")
    (line,) = [record.getMessage() for record in caplog.records if "Weights" in record.message]
    assert f"{pretrained} (tim_resnet10t, 5 classes)" in line
    assert "2 new (head.classifier.weight, head.classifier.bias)" in line
    facts = json.loads(job.run.facts.read_text(encoding="utf-8"))["weights"]
    assert set(facts["new"]) == set(facts["unused"]) == set(HEAD)
    assert set(facts["copied"]) == set(ours) - set(HEAD)


def test_a_resumed_run_keeps_its_origin_and_does_not_need_it(
    settings: Tables, pretrained: Path, tmp_path: Path
) -> None:
    settings["model"]["weights"] = str(pretrained)
    settings["schedule"] = {"name": "constant"}
    settings["train"]["epochs"] = 1
    out = tmp_path / "run"
    train(recipe_from(settings, source="test"), out=out, quiet=True)
    before = json.loads((out / "run.json").read_text(encoding="utf-8"))["weights"]
    pretrained.rename(tmp_path / "elsewhere")
    settings["train"]["epochs"] = 2
    train(recipe_from(settings, source="test"), out=out, resume=True, quiet=True)
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["weights"] == before
    assert before["source"].startswith(str(pretrained))


def test_norms_from_another_data_set_stay_frozen_in_a_resumed_run(
    settings: Tables, tmp_path: Path
) -> None:
    net = create_model("resnet10t", temporal="tam", classes=5, frames=2, stages=(5,))
    theirs = save(net, tmp_path / "five", labels="abcde")
    settings["model"] |= {"temporal": "tam", "weights": str(theirs)}
    settings["schedule"] = {"name": "constant"}
    settings["train"] |= {"epochs": 1, "norm_layers": "freeze_all_but_first"}
    out = tmp_path / "run"
    train(recipe_from(settings, source="test"), out=out, quiet=True)
    theirs.rename(tmp_path / "elsewhere")
    settings["train"]["epochs"] = 2
    train(recipe_from(settings, source="test"), out=out, resume=True, quiet=True)
    before, after = net.state_dict(), load_saved(out / "last").net.state_dict()
    norms = [name.removesuffix("running_mean") for name in after if "running_mean" in name]
    moved = {
        norm
        for norm in norms
        for name in after
        if name.startswith(norm)
        if not torch.equal(before[name], after[name])
    }
    assert any(".tam." in norm for norm in norms)
    assert moved == {"backbone.conv1.1."}


def test_colors_of_the_old_network_must_be_those_of_the_new(
    settings: Tables, tmp_path: Path
) -> None:
    net = create_model("resnet10t", temporal="tim", classes=5, frames=2, stages=(5,))
    how = Preprocessing(frames=2, mean=(0.5, 0.5, 0.5))
    folder = save(net, tmp_path / "gray", labels="abcde", preprocessing=how)
    settings["model"]["weights"] = str(folder)
    with pytest.raises(CheckpointError, match=r"Set preprocessing.mean to \[0.5, 0.5, 0.5\]"):
        build_job(recipe_from(settings, source="test"), out=tmp_path / "run", resume=False)
    settings["preprocessing"]["mean"] = [0.5, 0.5, 0.5]
    build_job(recipe_from(settings, source="test"), out=tmp_path / "run", resume=False)


def test_a_run_without_weights_says_so(settings: Tables, tmp_path: Path) -> None:
    job = build_job(recipe_from(settings, source="test"), out=tmp_path / "run", resume=False)
    assert json.loads(job.run.facts.read_text(encoding="utf-8"))["weights"] is None
