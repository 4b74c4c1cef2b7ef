"""The commands and programs of the FAQ."""

import pytest

from ..causal import save_causal
from .pages import Page, run_kinema, small_recipe, trained_on_colors

PAGE = Page("docs/faq.md")
# One epoch, and a file instead of the camera.
SMALL = (
    ("own_videos.toml", "own_videos.toml train.epochs=1"),
    ("rtsp://camera/1 --fps 12", "video.mp4 --fps 12"),
)


@pytest.fixture
def workplace(tmp_path, monkeypatch, checkpoint, color_set) -> None:
    trained_on_colors(tmp_path, checkpoint, color_set)
    save_causal(tmp_path / "runs/live/best")
    small_recipe(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KINEMA_CACHE", str(tmp_path / "cache"))


@pytest.mark.slow
@pytest.mark.usefixtures("workplace")
def test_the_commands_run_in_their_order():
    # Here training and validation have the same videos, which the check reports as an error.
    commands = [line for line in PAGE.commands if not line.startswith("kinema data check")]
    assert len(commands) == len(PAGE.commands) - 1 == 17
    for command in commands:
        run_kinema(command, SMALL)


@pytest.mark.usefixtures("workplace")
def test_the_programs_run(capsys):
    PAGE.run_python(0)
    assert capsys.readouterr().out.strip() in ("red", "green", "blue")
    PAGE.run_python(1)
    assert "backbone." in capsys.readouterr().out


def test_every_question_has_an_answer():
    questions = PAGE.text.split("\n### ")[1:]
    assert len(questions) == 27
    for part in questions:
        question, _, answer = part.partition("\n")
        assert "?" in question
        assert len(answer.split()) > 15, question
