"""The README's table of networks agrees with the committed measurements."""

import runpy

import pytest

from .pages import REPOSITORY


@pytest.mark.slow
def test_the_table_is_up_to_date():
    script = runpy.run_path(str(REPOSITORY / "scripts/readme_table.py"))
    text = script["TARGET"].read_text(encoding="utf-8")
    assert script["BEGIN"] in text
    assert script["written"](text) == text, "run python scripts/readme_table.py"
