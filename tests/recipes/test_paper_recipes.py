"""The papers' recipes run as they stand, on made-up videos in their data sets' own formats.

Changed are only the size of the network and of its input, the batch, and the weight file. TEA keeps
its backbone, which is the only one that has a place for it.
"""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

import kinema
from kinema.data.sampling import DenseSampling, SegmentSampling
from kinema.models.transfer import holds_network
from kinema.system.interrupts import HeldSignals
from kinema.train.job import build_job
from kinema.train.journal import Journal
from kinema.train.loop import train_epoch
from kinema.train.recipe import Recipe, load_recipe

from ..docs.pages import Page

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPES = sorted((REPOSITORY / "src" / "kinema" / "recipes" / "papers").glob("*.toml"))
LARGE = ("tea_ucf101_hmdb51",)  # writes and reads a full Res2Net-50
# Changes that make a recipe small.
SMALL = (
    "data.workers=0",
    "data.empty_classes=allow",
    "train.batch_size=2",
    "preprocessing.short_side_px=36",
    "preprocessing.crop_px=32",
)


def commands(path: Path) -> list[list[str]]:
    """The words after `kinema train` of each command in the header."""
    header = path.read_text(encoding="utf-8").split("\n[model]")[0]
    text = re.sub(r"^# ?", "", header, flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    return [shlex.split(line)[2:] for line in lines if line.startswith("kinema train")]


COMMANDS = [(path, words) for path in RECIPES for words in commands(path)]
PAGE = Page("docs/reference/papers.md").text  # all of its commands run in test_papers_page_runs.py


def small(path: Path, words: list[str]) -> Recipe:
    """The recipe of a command with a small network, which starts from a small one."""
    assert words[0] == path.relative_to(REPOSITORY / "src" / "kinema").as_posix()
    overrides = [word for word in words[1:] if "=" in word]
    recipe = load_recipe(path, [*overrides, *SMALL])
    changes = [] if recipe.model.temporal == "tea" else ["model.backbone=test_resnet"]
    if recipe.model.weights == "imagenet":
        changes.append("model.weights=none")
    return load_recipe(path, [*overrides, *SMALL, *changes])


def pretrain(recipe: Recipe) -> None:
    """Leaves a network for Kinetics-400 in the place from which a transfer starts."""
    model = recipe.model
    if model.weights is None or holds_network(model.weights):
        return
    net = kinema.create_model(model.backbone, temporal=model.temporal, classes=400, frames=16)
    labels = [str(number) for number in range(400)]
    kinema.save(net, model.weights, labels=labels)


def two_steps(recipe: Recipe, out: Path):
    """Builds a run and trains its first epoch; returns the state before, and the run."""
    pretrain(recipe)
    job = build_job(recipe, out=out, resume=False)
    before = {name: tensor.clone() for name, tensor in job.state.net.state_dict().items()}
    with Journal(job.run, job.position, enabled=True, quiet=True) as journal:
        train_epoch(job, journal, HeldSignals())
    assert job.position.steps == 2
    assert np.isfinite(job.position.of_epoch.loss)
    return before, job


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in LARGE))
        for path in RECIPES
    ],
)
def test_two_steps_run_what_the_recipe_says(path, paper_sets, tmp_path, monkeypatch):
    monkeypatch.chdir(paper_sets)
    recipe = small(path, commands(path)[0])
    before, job = two_steps(recipe, tmp_path / "run")
    check_optimizer(recipe, job)
    check_schedule(recipe, job)
    check_norm_layers(recipe, job, before)
    check_clips(recipe, job)
    assert (recipe.model.weights is None) == (job.state.net.weights_report is None)
    assert len(job.class_names) == {"K": 400, "s": 174, "u": 101, "d": 48}[data_set(path)]


def data_set(path: Path) -> str:
    return "K" if "kinetics" in path.stem else path.stem.split("_")[1][0]


def check_optimizer(recipe, job):
    settings, optimizer = recipe.optimizer, job.state.optimizer
    assert isinstance(optimizer, torch.optim.SGD)
    lr = settings.lr * (2 / settings.scale_lr_for_batch if settings.scale_lr_for_batch else 1)
    for group in optimizer.param_groups:
        factors = (1.0, 1.0)
        if group["name"].startswith("classifier"):
            factors = (settings.classifier_lr_mult, settings.classifier_decay_mult)
        assert group["lr"] == pytest.approx(lr * factors[0])
        assert group["weight_decay"] == pytest.approx(settings.weight_decay * factors[1])
        assert group["momentum"] == 0.9
    assert len(optimizer.param_groups) == 4
    assert job.state.net.head.dropout.p == recipe.model.dropout


def check_schedule(recipe, job):
    factor = job.state.schedule.lr_lambdas[0]
    milestones = recipe.schedule.milestones
    for epoch in range(recipe.train.epochs):
        drops = sum(epoch >= milestone for milestone in milestones)
        for step in (0, job.steps_per_epoch - 1):
            assert factor(epoch * job.steps_per_epoch + step) == pytest.approx(0.1**drops)
    assert milestones[-1] < recipe.train.epochs


def check_norm_layers(recipe, job, before):
    """Which statistics have moved; norms in a module have theirs from the network before, too."""
    after = job.state.net.state_dict()
    moved = [
        not torch.equal(before[name], after[name])
        for name in after
        if name.endswith("running_mean")
    ]
    assert len(moved) > 5
    assert moved[0]
    assert moved[1:] == [recipe.train.norm_layers == "train"] * (len(moved) - 1)
    assert bool(job.frozen) == (recipe.train.norm_layers == "freeze_all_but_first")


def check_clips(recipe, job):
    clips = job.loader._loader.dataset
    kind = DenseSampling if recipe.preprocessing.sampling == "dense" else SegmentSampling
    assert isinstance(clips.sampling, kind)
    assert clips.sampling.frames == recipe.model.frames
    assert getattr(clips.sampling, "window_frames", 64) == 64
    assert clips.transform.augmentation == recipe.augmentation
    assert clips.transform.augmentation.crop == "multiscale"


def test_every_command_of_a_header_reads_its_data(paper_sets, monkeypatch):
    monkeypatch.chdir(paper_sets)
    formats = set()
    for path, words in COMMANDS:
        data = small(path, words).data
        formats.add(data.format)
        for file, subset in ((data.train, "train"), (data.val, "test")):
            rows = kinema.read_annotations(
                file,
                format=data.format,
                root=data.root,
                classes=data.classes,
                split=data.split,
                subset=subset,
            )
            assert rows.samples[0].label is not None
    assert formats == {"kinetics", "sthv1", "sthv2", "ucf101", "hmdb51", "diving48"}
    assert len(COMMANDS) == 15 + 6 + 2 * 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "words"),
    [
        pair
        for pair in COMMANDS
        if pair[1] != commands(pair[0])[0] and f"train {shlex.join(pair[1])} --out" not in PAGE
    ],
    ids=lambda value: value.stem if isinstance(value, Path) else value[1],
)
def test_the_other_commands_of_a_header_run(path, words, paper_sets, tmp_path, monkeypatch):
    monkeypatch.chdir(paper_sets)
    two_steps(small(path, words), tmp_path / "run")
