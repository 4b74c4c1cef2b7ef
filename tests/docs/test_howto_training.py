"""The how-tos "fine-tune on few videos" and "find out why training is slow"."""

import logging
import re
import shutil
from pathlib import Path

import pytest

from kinema.train.result import LIMIT_WITH_WORKERS, LIMIT_WITHOUT_WORKERS, EpochResult, EpochTime

from .pages import Page, run_kinema, small_recipe, videos_in_class_folders

FEW = Page("docs/howto/fine_tune_on_few_videos.md")
SLOW = Page("docs/howto/debug_slow_loading.md")
SWAPS = (
    ("train.batch_size=8", "train.batch_size=2"),
    ("data.workers=4", "data.workers=1"),
    ("--out runs/first", "train.log_every_steps=1 --out runs/first"),
    ("data prepare", "data prepare --workers 0"),
    ("kinema bench decode", "kinema bench decode --rounds 1"),
    ("kinema bench video", "kinema bench video --rounds 1"),
)


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KINEMA_CACHE", str(tmp_path / "cache"))
    small_recipe(tmp_path)
    videos_in_class_folders(tmp_path)
    shutil.copy(next(tmp_path.glob("videos/train/*/*.mp4")), "videos/new.mp4")
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("workplace")
def test_fine_tuning_runs(caplog, capsys):
    (sweep,) = FEW.blocks("toml")
    Path("order.toml").write_text(sweep.replace("[0, 1, 2]", "[0]"), encoding="utf-8")
    with caplog.at_level(logging.INFO, "kinema"):
        for command in FEW.commands:
            run_kinema(command, SWAPS)
    (said,) = FEW.blocks("text")
    wanted = re.sub(r"\d+ tensors", r"\\d+ tensors", re.escape(said.strip()).replace("\\ ", " "))
    assert re.search(wanted.replace("resnet18", "test_resnet"), caplog.text)
    FEW.run_python(0)
    assert len(re.findall(r"^epoch \d: .* gap", capsys.readouterr().out, flags=re.MULTILINE)) == 2


@pytest.mark.slow
def test_the_weights_line_of_the_page(tmp_path):
    import kinema

    net = kinema.create_model("tsm_resnet18", classes=2, frames=8)
    kinema.save(net, tmp_path / "best", labels=["a", "b"])
    again = kinema.create_model("tsm_resnet18", classes=2, frames=8, weights=tmp_path / "best")
    report = str(again.weights_report).replace(str(tmp_path), "runs/first")
    assert f"Weights: {report}\n" in FEW.text


@pytest.mark.slow
@pytest.mark.usefixtures("workplace")
def test_slow_loading_runs(capsys):
    run_kinema("kinema train recipes/own_videos.toml --out runs/first", SWAPS)
    for command in SLOW.commands:
        run_kinema(command, SWAPS)
    capsys.readouterr()
    SLOW.run_python(0)
    assert len(re.findall(r"^\d+ waits [\d.]+ s, computes", capsys.readouterr().out, re.M)) == 4


def test_the_epoch_line_is_that_of_the_program():
    time = EpochTime(wait_s=64, compute_s=36, videos=1820, workers=2)
    scores = {"loss": 1.204, "top1": 0.613, "val_top1": 0.58}
    line = EpochResult(epoch=3, lr=0.01, **scores, skipped=0, val_skipped=0, time=time)
    assert f"{line}\n" == SLOW.blocks("text")[0]
    limits = re.findall(r"^\| (?:0|1 or more) \| (\d+) % \|", SLOW.text, flags=re.MULTILINE)
    assert [int(n) / 100 for n in limits] == [LIMIT_WITH_WORKERS, LIMIT_WITHOUT_WORKERS]


def test_the_standard_errors_are_right():
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \|$", FEW.text, flags=re.MULTILINE)
    assert len(rows) == 4
    for videos, points in rows:
        assert 100 * (0.8 * 0.2 / int(videos)) ** 0.5 == pytest.approx(float(points), abs=0.06)
