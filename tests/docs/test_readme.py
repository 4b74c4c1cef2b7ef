"""Every code block of the README and of the home page of the documentation runs."""

import re
from pathlib import Path

import pytest

import kinema

from ..file_server import FileServer
from ..published_files import ONLINE, ONLINE_FILE, online_file
from .pages import REPOSITORY, Page, run_kinema, small_recipe, videos_in_class_folders

PAGE = Page("README.md")
HOME = Page("docs/index.md")


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """Folder with videos in class folders, as in the README, and a small own_videos recipe."""
    videos_in_class_folders(tmp_path)
    (tmp_path / "more_videos").mkdir()
    for name in ("new_video.mp4", "more_videos/another.mp4"):
        source = next((tmp_path / "videos" / "train").rglob("*.mp4"))
        (tmp_path / name).write_bytes(source.read_bytes())
    small_recipe(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_commands_run_in_their_order(workplace, monkeypatch):
    assert len(PAGE.commands) == 7
    by_name, *others = PAGE.commands
    monkeypatch.setenv("KINEMA_HOME", str(workplace / "home"))
    with FileServer({ONLINE_FILE: online_file()}) as server:
        monkeypatch.setenv("KINEMA_MIRROR", server.url)
        run_kinema(by_name, [("tsm_resnet50:kinetics400", ONLINE)])
    for command in others:
        run_kinema(command, [("train.epochs=30", "train.epochs=1")])
    assert (workplace / "runs/first/curves.png").is_file()


def test_the_first_python_block_runs():
    PAGE.run_python(0)


def test_the_prediction_block_runs(workplace, capsys):
    net = kinema.create_model("tsm_test_resnet", classes=2, frames=8)
    how = kinema.Preprocessing(frames=8, short_side_px=32, crop_px=32)
    kinema.save(net, workplace / "runs/first/best", labels=["a", "b"], preprocessing=how)
    PAGE.run_python(1)
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("page", [PAGE, HOME], ids=["readme", "home"])
def test_the_make_targets_exist(page):
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make ([a-z-]+)", "\n".join(page.lines), flags=re.MULTILINE)
    assert targets[:2] == ["quickstart", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_both_pages_have_the_same_numbers():
    for row in re.findall(
        r"^\| (?:TSN|TSM).*?((?:\| [\d.]+ % )+)\|$", HOME.text, flags=re.MULTILINE
    ):
        assert row in PAGE.text


def test_links_lead_somewhere():
    assert PAGE.broken_links() == []
