"""The tutorial, block by block: on rendered videos, on class folders, and a file as the camera."""

import re

import pytest

from .pages import REPOSITORY, Page, run_kinema, videos_in_class_folders

PAGE = Page("docs/tutorial.md")
CLIP = "motion/videos/approach/val_0000.mp4"

# Smaller and shorter; a file replaces the cameras.
SMALL = (
    ("--train 80 --val 20 --size 64", "--train 2 --val 1 --size 32"),
    ("quickstart.toml", "quickstart.toml train.epochs=2 train.batch_size=4 data.workers=0"),
    ("best 0 ", f"best {CLIP} --pace source "),
    ("rtsp://192.168.0.20/stream", f"{CLIP} --limit 3"),
)
# No download, and the smallest frames that survive five stages of stride 2.
SMALL_OWN = (
    ("model.weights=imagenet", "model.weights=none"),
    (
        "small_sets.toml",
        "small_sets.toml train.epochs=1 train.batch_size=2 data.workers=0 evaluation.batch_views=2 "
        "preprocessing.short_side_px=32 preprocessing.crop_px=32",
    ),
)
OWN = [line for line in PAGE.commands if "videos/train" in line]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    (tmp_path / "recipes").symlink_to(REPOSITORY / "src" / "kinema" / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_with_rendered_videos(workplace, capsys):
    commands = [line for line in PAGE.commands if line not in OWN]
    assert len(commands) == 8
    printed = {command: run_kinema(command, SMALL) for command in commands}
    said = {command.split()[1]: out for command, out in printed.items()}
    assert "42 of 42 videos are good" in said["data"]
    assert "runs/live/best holds that network" in said["train"]
    assert CLIP in said["predict"]
    for command in commands[-3:]:
        first = printed[command].splitlines()[0]
        assert set(re.findall(r'"(\w+)":', first)) >= {"frame", "time_s", "top", "latency_ms"}
    assert (workplace / "seen.mp4").is_file()
    for name in ("per_class.csv", "confusion.csv", "confusion.png"):
        assert (workplace / "runs/live/test" / name).is_file()
    capsys.readouterr()
    PAGE.run_python(0)
    assert "Traceback" not in capsys.readouterr().out


@pytest.mark.slow
def test_with_own_videos(workplace):
    videos_in_class_folders(workplace)
    assert len(OWN) == 2
    for command in OWN:
        run_kinema(command, SMALL_OWN)
    assert "--data videos/val --format folders" in PAGE.text
    run_kinema("kinema evaluate runs/live/best --data videos/val --format folders")


def test_the_streamed_lines_have_the_current_format():
    (block,) = PAGE.blocks("json")
    assert '"event": ' in block
    for line in block.splitlines():
        assert line == "..." or line.startswith('{"frame": ')
