"""The how-tos "run faster" and "export a network", and the page of benchmarks."""

import re
import runpy
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kinema.cli.main import app

REPOSITORY = Path(__file__).resolve().parents[2]
FASTER = (REPOSITORY / "docs/howto/run_faster.md").read_text(encoding="utf-8")
EXPORT = (REPOSITORY / "docs/howto/export_a_network.md").read_text(encoding="utf-8")
# The pages name networks and rounds for a patient reader.
SMALL = {"tsn_resnet50": "tsn_test_resnet", "tsm_resnet50": "tsm_test_resnet"}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


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


def run(command: str) -> None:
    words = [SMALL.get(word, word) for word in shlex.split(command)[1:]]
    if words[0] == "bench":
        words += ["--rounds", "1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (command, result.output, result.exception)


def commands(text: str) -> list[str]:
    lines = "\n".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("kinema")]


@pytest.mark.slow
@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    "command",
    [line for text in (FASTER, EXPORT) for line in commands(text) if "bench operators" not in line],
)
def test_every_command_runs(command):
    run(command)


@pytest.mark.slow
@pytest.mark.usefixtures("workplace")
def test_the_python_block_runs(capsys):
    (block,) = blocks(FASTER, "python")
    exec(compile(block, "how-to", "exec"), {})
    assert "times as fast as the plain network" in capsys.readouterr().out


def test_the_page_of_benchmarks_is_of_the_measurements():
    script = runpy.run_path(str(REPOSITORY / "scripts/benchmark_tables.py"))
    assert script["page"]() == script["TARGET"].read_text(encoding="utf-8"), (
        "run python scripts/benchmark_tables.py"
    )
