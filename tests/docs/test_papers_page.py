"""The page of the papers' tables names all of them, and its commands exist."""

import re
import shlex

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from kinema.cli.main import app
from kinema.report.accuracies import printed_accuracies
from kinema.train.recipe import load_recipe

from .pages import REPOSITORY, Page

PAGE = Page("docs/reference/papers.md")
ROWS = [row for rows in PAGE.table_commands.values() for row in rows]


def test_every_printed_table_has_a_command():
    places = {row[0] for row in ROWS}
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
    assert set(re.findall(r"recipes/\w+/\w+\.toml", PAGE.text)) == shipped


DATA_SETS = {
    "Something-Something V1": "something_v1",
    "Something-Something V2": "something_v2",
    "Kinetics-400": "kinetics400",
    "Diving48": "diving48",
    "UCF101": "ucf101",
}


def test_a_training_has_the_data_set_and_the_frames_of_its_row():
    found = set()
    for place, shows, command in ROWS:
        _, task, *words = shlex.split(command)
        named = [name for name in DATA_SETS if name in f"{place}, {shows}"]
        if task == "train" and named:
            recipe = load_recipe(words[0], [word for word in words[1:] if "=" in word])
            frames = re.search(r"(\d+) frames", shows)
            assert frames is None or recipe.model.frames == int(frames[1]), (place, shows)
            assert [str(recipe.data.classes)] == [DATA_SETS[name] for name in named], (place, shows)
            found |= set(named)
    assert found == set(DATA_SETS)


@pytest.mark.parametrize("words", sorted({tuple(shlex.split(row[2])[1:]) for row in ROWS}))
def test_a_command_is_known(words):
    """tests/recipes/test_papers_page_runs.py runs them all."""
    command = get_command(app)
    words = iter(words)
    while isinstance(command, TyperGroup):
        name = next(words)
        assert name in command.commands, name
        command = command.commands[name]
    known = {option for param in command.params for option in param.opts}
    assert {word for word in words if word.startswith("--")} <= known
