"""The how-tos "run faster" and "export a network", and the page of benchmarks."""

import runpy
import shutil
from pathlib import Path

import pytest

from .pages import REPOSITORY, Page, run_kinema

FASTER = Page("docs/howto/run_faster.md")
EXPORT = Page("docs/howto/export_a_network.md")
# The pages name networks and rounds for a patient reader.
SMALL = (
    ("tsn_resnet50", "tsn_test_resnet"),
    ("tsm_resnet50", "tsm_test_resnet"),
)


@pytest.fixture
def workplace(tmp_path, monkeypatch, checkpoint, colour_set) -> Path:
    """The checkpoint, videos and annotations that the pages name."""
    shutil.copytree(checkpoint, tmp_path / "runs/first/best")
    for name in ("videos", "videos/val", "videos/train"):
        shutil.copytree(colour_set, tmp_path / name, dirs_exist_ok=True)
    shutil.copy(colour_set / "val.csv", tmp_path / "train.csv")
    shutil.copy(colour_set / "red/0.mp4", tmp_path / "video.mp4")
    for folder in ("train", "val"):
        (tmp_path / "videos" / folder / "val.csv").unlink()
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KINEMA_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    "command",
    [line for page in (FASTER, EXPORT) for line in page.commands if "bench operators" not in line],
)
def test_every_command_runs(command):
    rounds = " --rounds 1" if command.startswith("kinema bench") else ""
    run_kinema(command + rounds, SMALL)


@pytest.mark.slow
@pytest.mark.usefixtures("workplace")
def test_the_python_block_runs(capsys):
    FASTER.run_python(0)
    assert "times as fast as the plain network" in capsys.readouterr().out


def test_the_page_of_benchmarks_is_of_the_measurements():
    script = runpy.run_path(str(REPOSITORY / "scripts/benchmark_tables.py"))
    assert script["page"]() == script["TARGET"].read_text(encoding="utf-8"), (
        "run python scripts/benchmark_tables.py"
    )
