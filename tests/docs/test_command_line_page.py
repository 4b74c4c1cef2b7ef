"""docs/reference/command_line.md agrees with the help texts."""

import re
import runpy
from pathlib import Path

import pytest

from ..cli.test_help import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> dict:
    return runpy.run_path(str(REPOSITORY / "scripts/command_line_page.py"))


def test_the_page_is_up_to_date(script):
    text = script["TARGET"].read_text(encoding="utf-8")
    assert script["page"]() == text, "run python scripts/command_line_page.py"


def test_the_page_holds_every_command_with_its_example(script):
    page = script["page"]()
    for words in COMMANDS:
        (section,) = re.findall(
            rf"^#+ kinema {' '.join(words)}$(.*?)(?=^#|\Z)", page, flags=re.DOTALL | re.MULTILINE
        )
        assert f"```sh\nkinema {' '.join(words)}" in section
        assert "- `--json`" in section


def test_help_texts_are_escaped(script):
    plain = script["_plain"]
    assert plain("a_b* [default: 8] <x> `tsm_*`") == r"a\_b\* \[default: 8\] &lt;x&gt; `tsm_*`"
    assert plain("[bold]kinema quickstart[/bold]") == "`kinema quickstart`"
