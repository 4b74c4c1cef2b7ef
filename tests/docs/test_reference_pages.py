"""Hand-written pages of the reference: programs, tables, and the example of a model card."""

import re
from pathlib import Path

import pytest

import kinema
from kinema.models import card
from kinema.temporal import POSITIONS

from .pages import REPOSITORY, Page, small_recipe, videos_in_class_folders

PAGES = sorted(p.name for p in (REPOSITORY / "docs/reference").glob("*.md"))


def test_the_programs_about_sites_and_errors_run(capsys):
    Page("docs/reference/python_sites.md").run_python(0)
    before, after = capsys.readouterr().out.splitlines()
    assert "res5.1 before_conv1" in before
    assert after == "['res4.0 before_conv1', 'res5.0 before_conv1']"
    Page("docs/reference/python_errors.md").run_python(0)
    assert "Did you mean" in capsys.readouterr().out


def test_every_position_is_in_the_table():
    rows = re.findall(r"^\| (`.*?) \|", Page("docs/reference/python_sites.md").text, flags=re.M)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(POSITIONS)


@pytest.mark.slow
def test_the_program_that_trains_runs(tmp_path, monkeypatch):
    videos_in_class_folders(tmp_path)
    small_recipe(tmp_path)
    monkeypatch.chdir(tmp_path)
    result = Page("docs/reference/python_train.md").run_python(0)["result"]
    assert (result.run / "best/README.md").is_file()


def test_the_example_card_is_up_to_date(tmp_path, monkeypatch):
    page = Page("docs/reference/model_card.md")
    monkeypatch.chdir(tmp_path)
    page.run_python(0)
    (shown,) = re.findall(r"^````markdown\n(.*?)^````$", page.text, flags=re.S | re.M)
    assert shown == Path("gestures/README.md").read_text(encoding="utf-8")
    for name in (*card.DATA, *card.RECIPE, *card.RESULTS, *card.LICENSE):
        assert f"`{name}`" in page.text


def test_every_public_name_is_in_the_reference():
    text = "\n".join(Page(f"docs/reference/{name}").text for name in PAGES)
    shown = set(re.findall(r"^::: (\S+)$|heading: (\S+)$", text, flags=re.M))
    names = {name for pair in shown for name in pair if name}
    for name in kinema.__all__:
        wanted = "kinema.train.loop.train" if name == "train" else f"kinema.{name}"
        assert wanted in names or (name == "KinemaError" and "kinema.errors" in names), name
