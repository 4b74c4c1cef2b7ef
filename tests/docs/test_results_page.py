"""docs/results.md agrees with the committed studies."""

import runpy
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> dict:
    return runpy.run_path(str(REPOSITORY / "scripts/results_page.py"))


def test_the_page_is_up_to_date(script):
    text = script["TARGET"].read_text(encoding="utf-8")
    assert script["page"]() == text, "run python scripts/results_page.py"


def test_classes_that_differ_in_direction_only_are_one_group(script):
    _, groups = script["_groups"](["pan_left", "zoom_in", "pan_right", "zoom_out"])
    assert groups == [0, 1, 0, 3]
    title, groups = script["_groups"](script["MOTION_CLASSES"])
    assert "time direction" in title
    assert sorted(groups) == sorted([*range(7), *range(7)])
    assert script["_groups"](["run", "jump"]) is None
