"""The page of the papers' tables names all of them, and its commands exist."""

import re
import shlex

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from kinema.cli.main import app
from kinema.report.accuracies import printed_accuracies

from .pages import REPOSITORY

PAGE = (REPOSITORY / "docs/reference/papers.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (.+?) \| .+? \| `(kinema .+?)` \|$", PAGE, flags=re.MULTILINE)


def test_every_printed_table_has_a_command():
    places = {place for place, _ in ROWS}
    for row in printed_accuracies():
        paper, first = re.split(r", | \(", row.source)[:2]
        assert f"{paper}, {first}" in places, row.source


def test_every_recipe_of_a_paper_and_every_sweep_is_named():
    folder = REPOSITORY / "src/kinema"
    shipped = {
        str(path.relative_to(folder))
        for kind in ("papers", "sweeps")
        for path in (folder / "recipes" / kind).glob("*.toml")
    }
    assert set(re.findall(r"recipes/\w+/\w+\.toml", PAGE)) == shipped


@pytest.mark.parametrize("words", sorted({tuple(shlex.split(row[1])[1:]) for row in ROWS}))
def test_a_command_is_known(words):
    """Training two steps is tested with the recipes, drawing with docs/howto/draw_figures.md."""
    command = get_command(app)
    words = iter(words)
    while isinstance(command, TyperGroup):
        name = next(words)
        assert name in command.commands, name
        command = command.commands[name]
    known = {option for param in command.params for option in param.opts}
    assert {word for word in words if word.startswith("--")} <= known
