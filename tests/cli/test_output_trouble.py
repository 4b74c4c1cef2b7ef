"""Every output of every command where it cannot be written: one line with its path and a fix."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import kinema as library
from kinema.cli.main import app
from kinema.values import Preprocessing

from ..causal import save_causal
from ..random_weights import tiny_network
from ..robustness.conftest import disk  # noqa: F401  # a fixture
from ..small_recipe import DATA_AND_OPTIMIZER
from ..sweep_results import write_results

# Parameters that name what a command writes.
OUTPUTS = {"out", "scores", "submission", "csv", "srt", "html", "write"}
# Name of the output, for each command and parameter; its other words are in `words_of`.
TABLE = {
    ("quickstart", "out"): "run",
    ("data synth", "out"): "set",
    ("data convert", "out"): "list.csv",
    ("data prepare", "out"): "small",
    ("import", "out"): "net",
    ("train", "out"): "run",
    ("sweep", "out"): "sweep",
    ("evaluate", "out"): "tables",
    ("evaluate", "scores"): "scores.npz",
    ("evaluate", "submission"): "submission.csv",
    ("ensemble", "scores"): "scores.npz",
    ("ensemble", "submission"): "submission.csv",
    ("label", "out"): "labels",
    ("embed", "out"): "e.npz",
    ("timeline", "csv"): "t.csv",
    ("timeline", "srt"): "t.srt",
    ("timeline", "html"): "t.html",
    ("timeline", "scores"): "t.npz",
    ("stream", "write"): "s.mp4",
    ("export", "out"): "net.pt2",
    ("bench model", "out"): "b.json",
    ("bench decode", "out"): "b.json",
    ("bench video", "out"): "b.json",
    ("bench stream", "out"): "b.json",
    ("figures me", "out"): "f",
    ("figures tam-kernels", "out"): "f",
    ("figures tsi-alignment", "out"): "f",
    ("figures cam", "out"): "f",
    ("figures accuracy-cost", "out"): "f",
    ("figures sweep", "out"): "f",
}
# `fetch` writes into a cache, see tests/unit/models/published/test_fetch.py; `push` to a server.
WITHOUT_OUTPUT = {"models", "describe", "papers", "predict", "serve", "data check", "fetch", "push"}

TRAIN = """
[model]
backbone = "test_resnet"
temporal = "tsm"
frames = 2
"""
SWEEP = """
recipe = "recipe.toml"
seeds = [0]
[motion]
train_per_class = 1
val_per_class = 1
size_px = 32
min_frames = 8
max_frames = 8
[variants]
TSM = ["model.temporal=tsm"]
"""


def commands(group: Any, *before: str) -> Iterator[tuple[str, set[str]]]:
    """Names of all commands, each with its parameters."""
    for name, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from commands(one, *before, name)
        else:
            yield " ".join((*before, name)), {parameter.name for parameter in one.params}


def test_no_output_is_forgotten():
    found = dict(commands(get_command(app)))
    outputs = {(name, p) for name, given in found.items() for p in given & OUTPUTS}
    assert outputs == set(TABLE)
    assert set(found) == {name for name, _ in TABLE} | WITHOUT_OUTPUT


@dataclass(frozen=True)
class Inputs:
    folder: Path
    color_set: Path
    checkpoint: Path

    def words_of(self, command: str, option: str, out: Path) -> list[object]:
        """Words of a small call of a command that writes `out`."""
        video = self.color_set / "red" / "0.mp4"
        data = (self.color_set / "val.csv", "--root", self.color_set)
        two = (self.folder / "two.csv", "--root", self.color_set)
        bench = ("--frames", 2, "--size", 32, "--rounds", 1)
        words: tuple[object, ...] = {
            "quickstart": ("--train", 1, "--val", 1, "train.epochs=1", "data.workers=0"),
            "data synth": (out, "--train", 1, "--val", 1, "--size", 32),
            "data convert": (self.color_set / "val.csv", out),
            "data prepare": (*data, "--workers", 0),
            "import": (self.checkpoint,),
            "train": (self.folder / "recipe.toml",),
            "sweep": (self.folder / "sweep.toml", "--jobs", 1),
            "evaluate": (self.checkpoint, "--data", *two, "--workers", 0),
            "ensemble": (self.folder / "scores.npz",),
            "label": (self.checkpoint, self.color_set / "red"),
            "embed": (self.checkpoint, video),
            "timeline": (self.checkpoint, video),
            "stream": (self.folder / "causal", video, "--limit", 3),
            "export": (self.checkpoint, "--format", "exported"),
            "bench model": ("tsn_test_resnet", "--form", "eager-32", "--batch", 1, *bench),
            "bench decode": (video, "--rounds", 1),
            "bench video": (video, "--network", "tsm_test_resnet", "--rounds", 1),
            "bench stream": (
                *("--backbone", "test_resnet", "--family", "tsm", "--cameras", 1),
                *("--form", "fused-32", *bench),
            ),
            "figures me": (self.folder / "me", video),
            "figures tam-kernels": (self.folder / "tam", video),
            "figures tsi-alignment": (self.folder / "sme", video),
            "figures cam": (self.checkpoint, video),
            "figures accuracy-cost": (self.folder / "results" / "results.json",),
            "figures sweep": (self.folder / "results" / "results.json",),
        }[command]
        given = () if out in words else (f"--{option}", out)
        form = ("--submission-form", "name") if option == "submission" else ()
        return [*command.split(), *words, *given, *form]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, color_set, checkpoint) -> Inputs:
    from kinema import Recognizer
    from kinema.data.annotations import read_annotations
    from kinema.data.dataset import VideoDataset
    from kinema.evaluation.evaluate import evaluate, save_scores

    folder = tmp_path_factory.mktemp("inputs")
    how = Preprocessing(frames=4, short_side_px=40, crop_px=32)
    for name, options in (("me", {}), ("tam", {}), ("sme", {"reduction": 8})):
        labels = ("red", "green", "blue")
        library.save(tiny_network(name, **options), folder / name, labels=labels, preprocessing=how)
    recognizer = Recognizer.load(checkpoint)
    save_causal(folder / "causal")
    (folder / "two.csv").write_text("path,label\nred/0.mp4,red\ngreen/1.mp4,green\n")
    rows = read_annotations(folder / "two.csv", classes=recognizer.labels)
    dataset = VideoDataset(rows, color_set, recognizer.preprocessing)
    save_scores(evaluate(recognizer.net, dataset), folder / "scores.npz")
    write_results(folder / "results", "motion_networks")
    options = DATA_AND_OPTIMIZER.format(set=color_set)
    (folder / "recipe.toml").write_text(TRAIN + options + "[train]\nepochs = 1\n")
    (folder / "sweep.toml").write_text('title = "Order"' + SWEEP)
    return Inputs(folder, color_set, checkpoint)


def check_refused(answer: Any, out: Path) -> None:
    assert answer.code in (1, 2), answer
    said = answer.err.splitlines()
    errors = [line for line in said if line.startswith("Error: ")]
    assert len(errors) == 1, answer.err
    assert said[-1] == errors[0], answer.err
    assert "Traceback" not in answer.err
    assert "[Errno" not in answer.err
    place = out.parent if str(out) not in errors[0] else out
    assert str(place) in errors[0]
    assert any(word in errors[0] for word in ("try again", "Choose", "Check", "check")), errors[0]


ROWS = [pytest.param(*row, name, id=f"{row[0]} {row[1]}") for row, name in TABLE.items()]


@pytest.mark.parametrize(("command", "option", "name"), ROWS)
def test_a_file_in_the_way_of_the_folder(kinema, inputs, tmp_path, command, option, name):
    (tmp_path / "file").write_bytes(b"")
    out = tmp_path / "file" / name
    check_refused(kinema(*inputs.words_of(command, option, out)), out)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# Ray's processes take long to start (see tests/robustness/test_disk_trouble.py), and the other
# measurements end as that of a video does.
LONG = {("label", "out"), *((f"bench {kind}", "out") for kind in ("model", "decode", "stream"))}
LONGER = LONG | {("quickstart", "out"), ("sweep", "out")}


def left_in(folder: Path) -> list[str]:
    return [p.name for p in folder.rglob("*") if p.is_file() and p.name not in ("filler", ".lock")]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "option", "name"), ROWS)
def test_a_place_that_is_read_only(kinema, inputs, disk, command, option, name):  # noqa: F811
    out = disk.folder / "new" / name
    with disk.read_only():
        check_refused(kinema(*inputs.words_of(command, option, out)), out)
        assert left_in(disk.folder) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "option", "name"), [row for row in ROWS if row.values[:2] not in LONG]
)
def test_no_room(kinema, inputs, disk, command, option, name):  # noqa: F811
    out = disk.folder / "new" / name
    with disk.full(left=0):
        check_refused(kinema(*inputs.words_of(command, option, out)), out)
        assert left_in(disk.folder) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "option", "name"), [row for row in ROWS if row.values[:2] not in LONGER]
)
def test_missing_folders_are_made(kinema, inputs, tmp_path, command, option, name):
    out = tmp_path / "new" / "deep" / name
    answer = kinema(*inputs.words_of(command, option, out))
    assert answer.code == 0, answer.err
    assert out.exists()
