"""The how-to "reproduce a row of a paper", on synthetic videos in the paths that it uses."""

import shutil
from pathlib import Path

import pytest

import kinema
from kinema.evaluation.ensemble import average_splits, fuse_scores
from kinema.sweep.spec import load_sweep

from ..recipes.conftest import paper_sets  # noqa: F401 - a fixture
from .pages import REPOSITORY, Page, run_kinema

PAGE = Page("docs/howto/reproduce_a_paper_row.md")
SMALL = (
    "model.backbone=test_resnet train.epochs=1 train.batch_size=2 data.workers=0 "
    "data.empty_classes=allow "  # a few videos of 174 classes
    "preprocessing.short_side_px=36 preprocessing.crop_px=32"
)
SWAPS = (
    ("teinet_something.toml", f"teinet_something.toml {SMALL} model.weights=none"),
    ("teinet_ucf101_hmdb51.toml", f"teinet_ucf101_hmdb51.toml {SMALL}"),
    ("kinema evaluate", "kinema evaluate --workers 0"),
)


@pytest.fixture
def workplace(tmp_path, monkeypatch, paper_sets) -> Path:  # noqa: F811
    """Both data sets, and the Kinetics network that initializes the transfer."""
    monkeypatch.chdir(tmp_path)
    for name in ("something-v1", "ucf101"):
        shutil.copytree(paper_sets / name, name)
    Path("recipes").symlink_to(REPOSITORY / "src" / "kinema" / "recipes")
    Path("something-v1/something-something-v1-test.csv").write_text("3\n4\n")
    lists = Path("ucf101/ucfTrainTestlist")
    for split in (2, 3):  # the made-up splits all have the same test video
        path = (lists / f"trainlist0{split}.txt").read_text().splitlines()[split].split()[0]
        (lists / f"testlist0{split}.txt").write_text(path + "\n")
    net = kinema.create_model("tei_test_resnet", classes=400, frames=16)
    kinema.save(net, "runs/teinet_kinetics400/best", labels=[str(n) for n in range(400)])
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("workplace")
def test_the_page_runs():
    *most, average, _ = PAGE.commands
    for command in most:
        run_kinema(command, SWAPS)
        if "ucf1.npz" in command:
            for split in ("2", "3"):
                other = command.replace("01.txt", f"0{split}.txt").replace(
                    "ucf1.npz", f"ucf{split}.npz"
                )
                run_kinema(other, SWAPS)
    run_kinema(average)
    assert fuse_scores(["tei_both.npz"]).report.top1 is not None
    assert average_splits(["ucf1.npz", "ucf2.npz", "ucf3.npz"]).mean["top1"] >= 0
    assert len(Path("tei16_test.csv").read_text().splitlines()) == 2


def test_the_sweep_of_the_page_is_one_of_the_paper(tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    _, _, file, _, _ = PAGE.commands[-1].split()
    plan = load_sweep(Path(file), out=tmp_path)
    assert "TEINet" in plan.spec.quoted.source


def test_the_weights_of_the_papers_time_have_a_name():
    net = kinema.create_model("resnet50.tv_in1k", temporal="tei", classes=2)
    assert net.name == "tei_resnet50.tv_in1k"
