"""Every command of the page of the papers' tables runs on made-up data, trainings for two steps.

A command stays as it is; the words that make networks and pictures small stand at its end. Sweeps
lie in the working folder with one seed and a set of one video per class.
"""

import json
import shlex
import shutil
from pathlib import Path

import pytest

import kinema
from kinema.sweep.cell import run_cell
from kinema.sweep.spec import load_sweep
from kinema.synthetic.motion_set import MotionSettings, render_motion_set
from kinema.train.recipe import load_recipe
from kinema.values import Preprocessing

from ..docs.pages import Page, run_kinema, swapped
from ..random_weights import tiny_network
from ..sweep_results import SWEEPS, write_results

SECTIONS = {
    name: [shlex.split(command)[1:] for command in dict.fromkeys(row[2] for row in rows)]
    for name, rows in Page("docs/reference/papers.md").table_commands.items()
}
SWEEP_WORDS = {tuple(words) for rows in SECTIONS.values() for words in rows if words[0] == "sweep"}
MOTION = MotionSettings(train_per_class=1, val_per_class=1, size_px=32, max_frames=24)
SMALL_SWEEP = (
    ("seeds = [0, 1, 2]", "seeds = [0]"),
    ("train_per_class = 80", "train_per_class = 1"),
    ("val_per_class = 20", "val_per_class = 1"),
    ("size_px = 112", "size_px = 32\nmax_frames = 24"),
)
TWO_STEPS = (
    "data.workers=0",
    "preprocessing.short_side_px=36",
    "preprocessing.crop_px=32",
    "train.epochs=1",
    "train.log_every_steps=1",
)


@pytest.fixture(scope="module")
def motion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_motion_set(tmp_path_factory.mktemp("motion"), settings=MOTION, workers=0)


@pytest.mark.slow
@pytest.mark.parametrize("words", sorted(SWEEP_WORDS), ids=lambda words: Path(words[1]).stem)
def test_a_sweep_runs_with_every_variant(words, motion, tmp_path, monkeypatch):
    """Its cells are trained in this process before, since a process for each takes much longer."""
    monkeypatch.chdir(tmp_path)
    file, out = Path(words[1]), out_of(words)
    file.parent.mkdir(parents=True)
    text = (SWEEPS / file.name).read_text(encoding="utf-8")
    file.write_text(swapped(text, SMALL_SWEEP), encoding="utf-8")
    shutil.copy(SWEEPS.parent / "motion.toml", file.parent.parent)
    (out / "videos").mkdir(parents=True)
    (out / "videos/val").symlink_to(motion)
    changes = [*TWO_STEPS, "train.batch_size=7", "schedule.warmup_epochs=0"]
    for cell in load_sweep(file, out=out, overrides=changes).cells:
        run_cell(cell)
        assert steps(cell.run) == 2, cell.name
    written = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/result.json")}
    table = run_kinema(shlex.join(["kinema", *words, *changes]))
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert len(results["variants"]) == len(written) > 1
    assert all(name in table for name in results["variants"])
    assert written == {path: path.stat().st_mtime_ns for path in written}


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS)
def test_the_other_commands_run(section, paper_sets, color_set, tmp_path, monkeypatch):
    """Trainings first, in the order of the page: some start from others, and figures draw them."""
    monkeypatch.chdir(tmp_path)
    for folder in paper_sets.iterdir():
        if folder.name != "runs":  # networks of other tests
            Path(folder.name).symlink_to(folder)
    Path("videos").symlink_to(color_set)
    others = [words for words in SECTIONS[section] if words[0] != "sweep"]
    for words in sorted(others, key=lambda words: words[0] != "train"):
        if "runs/i3d/best" in words:
            save_i3d(Path("runs/i3d/best"))
        for results in (Path(word) for word in words if word.endswith("/results.json")):
            write_results(results.parent, results.parent.name)
        out = run_kinema(shlex.join(["kinema", *words, *small(words)]))
        assert out.strip(), words
        if words[0] == "train":
            assert steps(out_of(words)) == 2, words


def small(words: list[str]) -> list[str]:
    """Words that make a command small; a network of ImageNet begins at random."""
    if words[0] == "bench":
        return shlex.split("--frames 2 --size 32 --rounds 1 --form eager-32")
    if words[0] != "train":
        return []
    model = load_recipe(words[1]).model
    more = [*TWO_STEPS, "data.empty_classes=allow", "train.batch_size=2"]
    if not any(word.startswith("model.backbone=") for word in words):
        tea = model.temporal == "tea"  # has places in a Res2Net only
        more.append(f"model.backbone={'res2net26_26w_4s' if tea else 'test_resnet'}")
    return [*more, "model.weights=none"] if model.weights == "imagenet" else more


def save_i3d(out: Path) -> None:
    labels = ("red", "green", "blue")
    how = Preprocessing(frames=4, short_side_px=40, crop_px=32)
    kinema.save(tiny_network("i3d"), out, labels=labels, preprocessing=how)


def out_of(words: list[str]) -> Path:
    return Path(words[words.index("--out") + 1])


def steps(run: Path) -> int:
    """Steps of a finished run; their losses are numbers."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [line["loss"] for line in map(json.loads, lines) if line["kind"] == "train"]
    assert all(0 < loss < 10 for loss in losses), losses
    return len(losses)
