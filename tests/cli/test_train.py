"""`kinema train`: settings, run folder, resume and mistakes."""

import json
from pathlib import Path

import pytest

from kinema import Recognizer

RECIPE = """
[model]
backbone = "test_resnet"
temporal = "tsm"
frames = 2

[data]
train = "{folder}/val.csv"
val = "{folder}/val.csv"
root = "{folder}"
workers = 0

[preprocessing]
short_side_px = 36
crop_px = 32

[optimizer]
name = "sgd"
lr = 0.02

[train]
epochs = 1
batch_size = 3
"""


@pytest.fixture
def recipe(tmp_path, color_set) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE.format(folder=color_set), encoding="utf-8")
    return path


def test_a_run_is_trained_and_resumed(kinema, recipe, tmp_path):
    out = tmp_path / "run"
    document = kinema("train", recipe, "optimizer.lr=0.01", "--out", out, "--json").document
    assert (document["run"], document["epochs"], document["best"]["epoch"]) == (str(out), 1, 1)
    assert 0 <= document["best"]["top1"] <= 1
    assert document["bound"] in ("loader", "cores", "model")
    assert document["train_s"] > 0
    assert (out / "curves.png").stat().st_size > 1000
    assert "lr = 0.01" in (out / "recipe.toml").read_text()
    assert Recognizer.load(out / "best").labels == ("blue", "green", "red")
    words = ("train", recipe, "optimizer.lr=0.01", "train.epochs=2", "--resume", out)
    answer = kinema(*words)
    assert answer.code == 0
    assert "of 2" in answer.out
    assert f"kinema predict {out / 'best'}" in answer.err
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["kind"] == "epoch"] == [1, 2]
    again = kinema("train", recipe, "--out", out)
    assert again.code == 1
    assert "is not empty" in again.err
    other = kinema("train", recipe, "optimizer.lr=0.5", "--resume", out)
    assert other.code == 1
    assert "optimizer.lr" in other.err


def test_a_run_goes_on_without_naming_its_recipe(kinema, recipe, tmp_path):
    out = tmp_path / "run"
    assert kinema("train", recipe, "optimizer.lr=0.01", "--out", out).code == 0
    assert kinema("train", "--resume", out, "--json").document["epochs"] == 1
    document = kinema("train", "--resume", out, "train.epochs=2", "--json").document
    assert document["epochs"] == 2
    assert "lr = 0.01" in (out / "recipe.toml").read_text()
    neither = kinema("train")
    assert neither.code == 2
    assert "give a recipe, or --resume with a run folder" in neither.err


@pytest.mark.slow
def test_parts_stay_what_they_are_from_the_recipe_to_the_exported_file(
    kinema, recipe, color_set, tmp_path
):
    text = recipe.read_text()
    assert 'temporal = "tsm"' in text
    listed = '[{module = "tim", at = "after_conv1"}, {module = "tim", stages = [5]}]'
    recipe.write_text(text.replace('temporal = "tsm"', f"parts = {listed}"))
    out = tmp_path / "run"
    assert kinema("train", recipe, "--out", out).code == 0
    other = kinema("train", recipe, "model.parts=[{module = 'tim'}]", "--resume", out)
    assert (other.code, "model.parts differs from" in " ".join(other.err.split())) == (1, True)
    assert kinema("train", recipe, "train.epochs=2", "--resume", out).code == 0
    document = kinema("describe", out / "best", "--json").document
    placed = {(m["place"].split(".")[0], m["place"].split()[1]) for m in document["modules"]}
    assert {place for place in placed if place[1] == "before_conv1"} == {("res5", "before_conv1")}
    assert {place[1] for place in placed} == {"before_conv1", "after_conv1"}
    assert document["model"] == "tim+tim_test_resnet"
    evaluated = kinema("evaluate", out / "best", "--data", color_set / "val.csv", "--json")
    assert evaluated.code == 0
    words = ("--format", "exported", "--out", tmp_path / "net.pt2", "--videos", color_set)
    assert kinema("export", out / "best", *words, "--json").document["top1_agreement"] == 1


def test_a_folder_is_named_after_the_recipe(kinema, recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = {}

    class StopHereError(RuntimeError):
        pass

    def train(settings, *, out, **rest):
        seen["out"] = out
        raise StopHereError

    monkeypatch.setattr("kinema.train.loop.train", train)
    with pytest.raises(StopHereError):
        kinema("train", recipe)
    assert seen["out"].parent == Path("runs")
    assert seen["out"].name.startswith("tiny-2")


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("train.epoch=3", ("train.epoch", "Did you mean 'epochs'?")),
        ("train.epochs=three", ("train.epochs", "three")),
        ("epochs=3", ("section.key=value", "epochs=3")),
        ("optimizer.name=sdg", ("optimizer", "sgd")),
        ("model.backbone=resnet19", ("resnet19", "Did you mean 'resnet18'?")),
        ("data.root=/no/such/folder", ("/no/such/folder",)),
    ],
)
def test_wrong_settings_are_named(kinema, recipe, tmp_path, word, parts):
    answer = kinema("train", recipe, word, "--out", tmp_path / "run")
    assert (answer.code, answer.out) == (1, "")
    for part in parts:
        assert part in answer.err


def test_a_missing_recipe_and_a_missing_run(kinema, recipe, tmp_path):
    answer = kinema("train", tmp_path / "tinny.toml")
    assert answer.code == 1
    assert "There is no recipe file" in answer.err
    assert "Did you mean 'tiny.toml'?" in answer.err
    answer = kinema("train", recipe, "--resume", tmp_path / "nothing")
    assert answer.code == 1
    assert "There is no run to resume" in answer.err
