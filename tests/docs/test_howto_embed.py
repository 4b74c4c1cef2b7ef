"""The how-to "embed videos": its program and its command."""

import shutil

import numpy as np
import pytest

from .pages import Page, run_kinema

PAGE = Page("docs/howto/embed_videos.md")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch, checkpoint, color_set) -> None:
    shutil.copytree(checkpoint, tmp_path / "runs" / "first" / "best")
    for name in ("new_video", "a", "b", "videos/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(color_set / "red" / "0.mp4", tmp_path / f"{name}.mp4")
    monkeypatch.chdir(tmp_path)


def test_the_program_prints_shapes(capsys):
    names = PAGE.run_python(0)
    assert capsys.readouterr().out == "(96,)\n(96,)\n"
    assert names["by_frame"].shape == (4, 96)


def test_the_command_writes_the_file(tmp_path):
    (command,) = PAGE.commands
    run_kinema(command)
    with np.load(tmp_path / "features.npz") as stored:
        assert stored["paths"].tolist() == ["videos/c.mp4"]
