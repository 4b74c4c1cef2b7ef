"""docs/reference/recipe.md agrees with the settings classes."""

import runpy

import pytest

from .pages import REPOSITORY


@pytest.fixture(scope="module")
def script() -> dict:
    return runpy.run_path(str(REPOSITORY / "scripts/recipe_page.py"))


def test_the_page_is_up_to_date(script):
    text = script["TARGET"].read_text(encoding="utf-8")
    assert script["page"]() == text, "run python scripts/recipe_page.py"


def test_every_setting_is_explained(script):
    assert script["page"]().count(script["UNEXPLAINED"]) == 0
