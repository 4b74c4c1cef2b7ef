"""Requirements for all pages, and tests of `pages.py`."""

import re

import pytest

from .pages import REPOSITORY, Page, run_kinema, swapped

PAGES = sorted(p.relative_to(REPOSITORY).as_posix() for p in (REPOSITORY / "docs").rglob("*.md"))
TESTS = "\n".join(p.read_text(encoding="utf-8") for p in (REPOSITORY / "tests").rglob("*.py"))
# Not run: the examples of the help texts, and the log, which records past commands.
NOT_RUN = ("docs/reference/command_line.md", "docs/log.md")


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    assert Page(name).broken_links() == []


@pytest.mark.parametrize("name", [name for name in PAGES if name not in NOT_RUN])
def test_a_page_with_code_has_a_test_that_names_it(name):
    page = Page(name)
    programs = [block for block in page.blocks("python") if not block.startswith("--8<--")]
    if programs or page.commands:
        assert name in TESTS


@pytest.mark.parametrize("name", ["README.md", *PAGES])
def test_pages_name_no_paths_of_a_machine(name):
    assert not re.search(r"(?<![\w.])/(?:home|root|work|Users)/", Page(name).text)


@pytest.fixture
def page(tmp_path):
    """Writes a page and returns it, named by its full path."""

    def write(text: str) -> Page:
        (tmp_path / "page.md").write_text(text, encoding="utf-8")
        return Page(str(tmp_path / "page.md"))

    return write


def test_commands_are_joined_and_lose_their_comments(page):
    made = page("```sh\nkinema a \\\n    b # why\n# only words\ncurl http://x/#part\n```\n")
    assert made.lines == ["kinema a      b", "curl http://x/#part"]
    assert made.commands == ["kinema a      b"]


def test_blocks_are_those_of_the_language(page):
    made = page("```python\nx = 1\n```\n````markdown\n```json\n{}\n```\n````\n```\nnone\n```\n")
    assert made.blocks("python") == ["x = 1\n"]
    assert made.run_python(0)["x"] == 1


def test_broken_links_are_found(page):
    made = page("[a](page.md#top) [b](gone.md) [c](https://x.example/y) [d](#here)")
    assert made.broken_links() == ["gone.md"]


def test_a_command_that_fails_is_an_error():
    with pytest.raises(AssertionError, match="Unknown network"):
        run_kinema("kinema describe tsm_resnet19")
    with pytest.raises(AssertionError, match="not in the text any more"):
        swapped("text", [("word", "other")])
