"""What the papers print beside our recipes and protocols (paper_rows.csv: `ours`, then theirs)."""

import csv
import re
from pathlib import Path

import pytest

from kinema.evaluation.protocols import all_paper_tests, protocol_named, protocols
from kinema.train.recipe import load_recipe
from kinema.values import Preprocessing

HERE = Path(__file__).resolve().parent
RECIPES = HERE.parents[1] / "src" / "kinema" / "recipes" / "papers"
with (HERE / "paper_rows.csv").open(encoding="utf-8", newline="") as file:
    ROWS = list(csv.DictReader(file))
TRAINING = [
    (row, name) for row in ROWS if row["kind"] == "train" for name in row["ours"].split(";")
]
TESTING = [row for row in ROWS if row["kind"] == "inference"]
BACKBONES = {"ResNet-50": "resnet50.tv_in1k", "Res2Net50": "res2net50_26w_4s"}


def printed(text: str) -> list[float]:
    """The numbers of a cell without its remarks; none where nothing is stated."""
    if text.startswith(("ns", "n/a")):
        return []
    bare = re.sub(r"\(.*?\)", "", text)
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?(?:e-\d+)?", bare)]


def test_every_row_has_its_file_or_protocol():
    assert (len(ROWS), len(TESTING)) == (32, 18)
    assert {name for _, name in TRAINING} == {path.stem for path in RECIPES.glob("*.toml")}
    own = {t.id: t.protocol for t in all_paper_tests() if "-Q-" not in t.id}  # Q: quoted rows
    assert {row["id"]: row["ours"] for row in TESTING} == own
    assert {test.protocol for test in all_paper_tests()} == set(protocols())


@pytest.mark.parametrize(("row", "name"), TRAINING, ids=[name for _, name in TRAINING])
def test_a_recipe_has_what_its_paper_prints(row, name):
    recipe = load_recipe(RECIPES / f"{name}.toml")
    optimizer, settings = recipe.optimizer, recipe.train
    assert (optimizer.name, recipe.schedule.name) == ("sgd", "multistep")
    for key, value in (
        ("batch_size", settings.batch_size),
        ("epochs", settings.epochs),
        ("lr", optimizer.lr),
        ("momentum", optimizer.momentum),
        ("weight_decay", optimizer.weight_decay),
        ("lr_gamma", recipe.schedule.gamma),
        ("dropout", recipe.model.dropout),
        ("short_side", recipe.preprocessing.short_side_px),
        ("input_size", recipe.preprocessing.crop_px),
        ("fc_lr_mult", optimizer.classifier_lr_mult),
        ("fc_wd_mult", optimizer.classifier_decay_mult),
    ):
        assert value in (printed(row[key])[:1] or [value]), key
    milestones = list(recipe.schedule.milestones)
    assert milestones == (printed(row["lr_milestones"]) or milestones)
    assert recipe.model.frames in (printed(row["frames"]) or [recipe.model.frames])
    scaled = 64 if row["linear_lr_scaling"].startswith("yes") else None
    assert optimizer.scale_lr_for_batch == scaled
    assert recipe.model.backbone == BACKBONES[row["backbone"].split()[0]]
    assert (recipe.model.weights == "imagenet") == (row["pretraining"] == "ImageNet")
    dense = row["train_sampling"].startswith("dense")
    assert recipe.preprocessing.sampling == ("dense" if dense else "segments")
    assert recipe.preprocessing.window_frames == 64
    if row["bn_policy"] != "ns":
        frozen = row["bn_policy"].startswith("frozen except the first")
        assert settings.norm_layers == ("freeze_all_but_first" if frozen else "train")


@pytest.mark.parametrize("row", TESTING, ids=[row["id"] for row in TESTING])
def test_a_protocol_has_what_its_paper_prints(row):
    protocol = protocol_named(row["ours"])
    views = protocol.views
    assert views.clips in (printed(row["clips"]) or [views.clips])
    assert views.crops in (printed(row["crops"])[:1] or [views.crops])
    assert protocol.short_side_px in (printed(row["short_side"]) or [256])
    assert views.full_resolution == (row["test_crop_size"] == "full resolution")
    assert protocol.crop_px in (printed(row["test_crop_size"])[:1] or [protocol.crop_px])
    if row["resize_after_crop"] != "ns":
        resized = None if row["resize_after_crop"].startswith("no") else 224
        assert views.resize_px == resized


def test_a_protocol_keeps_the_frames_and_colors_of_the_network():
    own = Preprocessing(frames=16, sampling="dense", short_side_px=48, crop_px=40, mean=(0, 0, 0))
    how = protocol_named("10x3-256to224").applied_to(own)
    assert (how.short_side_px, how.crop_px) == (256, 256)
    assert (how.frames, how.sampling, how.window_frames, how.mean) == (16, "dense", 64, (0, 0, 0))


@pytest.mark.data
def test_the_rows_are_those_of_the_papers(data_dir):
    source = data_dir.parent / "papers" / "recipes.csv"
    # The papers' table is not ours to publish; paper_rows.csv is checked wherever it lies.
    if not source.is_file():
        pytest.skip(f"no {source}")
    with source.open(encoding="utf-8", newline="") as file:
        theirs = [row for row in csv.DictReader(file) if row["kind"] != "benchmark"]
    keys = [key for key in ROWS[0] if key != "ours"]
    assert [{k: row[k] for k in keys} for row in ROWS] == [{k: r[k] for k in keys} for r in theirs]
