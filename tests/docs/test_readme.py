"""Every code block of the README runs."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import kinema
from kinema.cli.main import app
from kinema.data.synthetic import MotionSettings, render_motion_set

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")

# The README's recipe starts from ImageNet and takes its time.
SMALL = (
    ("weights = ", "# weights = "),
    ('backbone = "resnet18"', 'backbone = "test_resnet"'),
    ("short_side_px = 256", "short_side_px = 32"),
    ("crop_px = 224", "crop_px = 32"),
    ("epochs = 25", "epochs = 2"),
    ("workers = 2", "workers = 0"),
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """Videos in class folders, as the README describes them, and a small own_videos recipe."""
    settings = MotionSettings(train_per_class=2, val_per_class=1, size_px=32)
    motion = render_motion_set(tmp_path / "motion", settings=settings, workers=0)
    for split in ("train", "val"):
        for folder in sorted((motion / "videos").iterdir())[:2]:
            target = tmp_path / "videos" / split / folder.name
            target.mkdir(parents=True)
            for video in folder.glob(f"{split}_*.mp4"):
                video.rename(target / video.name)
    (tmp_path / "more_videos").mkdir()
    for name in ("new_video.mp4", "more_videos/another.mp4"):
        source = next((tmp_path / "videos" / "train").rglob("*.mp4"))
        (tmp_path / name).write_bytes(source.read_bytes())
    text = (REPOSITORY / "recipes" / "own_videos.toml").read_text(encoding="utf-8")
    for old, new in SMALL:
        assert old in text
        text = text.replace(old, new)
    text += "\n[evaluation]\nbatch_views = 2\n"
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "own_videos.toml").write_text(
        text.replace("batch_size = 16", "batch_size = 2"), encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_commands_run_in_their_order(workplace):
    commands = [
        line.split("#")[0].strip()
        for block in blocks("sh")
        for line in block.splitlines()
        if line.startswith("kinema ")
    ]
    assert len(commands) == 6
    for command in commands:
        words = shlex.split(command.replace("train.epochs=30", "train.epochs=1"))[1:]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, (command, result.output, result.exception)
    assert (workplace / "runs/first/curves.png").is_file()


def test_the_first_python_block_runs():
    exec(compile(blocks("python")[0], "README", "exec"), {})


def test_the_prediction_block_runs(workplace, capsys):
    net = kinema.create_model("tsm_test_resnet", classes=2, frames=8)
    how = kinema.Preprocessing(frames=8, short_side_px=32, crop_px=32)
    kinema.save(net, workplace / "runs/first/best", labels=["a", "b"], preprocessing=how)
    exec(compile(blocks("python")[1], "README", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_the_make_targets_exist():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([a-z-]+)", "\n".join(blocks("sh")), flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_links_lead_somewhere():
    for link in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (REPOSITORY / link).exists(), link
