"""The documentation site builds without warnings, and its pages load nothing from other sites."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from .pages import REPOSITORY

# Attributes that make a browser fetch something; links to click do not.
FETCHED = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "object": ("data",),
    "embed": ("src",),
    "video": ("src", "poster"),
    "audio": ("src",),
}
# Relations of <link> that a browser does not fetch.
NAMED_ONLY = {"canonical", "next", "prev", "alternate"}
OUTSIDE = re.compile(r"^\s*(?:[a-z]+:)?//", re.IGNORECASE)


class Fetches(HTMLParser):
    """Collects the addresses that a page fetches, and the classes of its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.classes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.classes |= set(given.get("class", "").split())
        if tag != "link" or given.get("rel") not in NAMED_ONLY:
            self.addresses += [given[name] for name in FETCHED.get(tag, ()) if name in given]
        self.addresses += imported(given.get("style", ""))


def read(html: str) -> Fetches:
    page = Fetches()
    page.feed(html)
    return page


def outside(html: str) -> list[str]:
    """Addresses on other sites that a page fetches."""
    inline = "\n".join(re.findall(r"<style.*?>(.*?)</style>", html, flags=re.DOTALL))
    return [a for a in (*read(html).addresses, *imported(inline)) if OUTSIDE.match(a)]


def imported(css: str) -> list[str]:
    """Addresses that a style sheet fetches."""
    return re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')]+)", css)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Site built as by `make docs`; a warning of the builder is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    answer = subprocess.run(
        command, capture_output=True, text=True, cwd=REPOSITORY, env=os.environ, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return folder


def pages(site: Path) -> Iterator[Path]:
    yield from sorted(site.rglob("*.html"))


@pytest.mark.slow
def test_every_page_is_built(site):
    sources = {p.relative_to(REPOSITORY / "docs") for p in (REPOSITORY / "docs").rglob("*.md")}
    for source in sources:
        assert (site / source).with_suffix(".html").is_file(), source
    assert (site / "search/search_index.json").is_file()


@pytest.mark.slow
def test_no_page_fetches_from_other_sites(site):
    for page in pages(site):
        html = page.read_text(encoding="utf-8")
        assert outside(html) == [], page
        # The theme would fetch a program for diagrams, and the page would lack them.
        assert "mermaid" not in read(html).classes, page
    for sheet in site.rglob("*.css"):
        found = imported(sheet.read_text(encoding="utf-8"))
        assert not [address for address in found if OUTSIDE.match(address)], sheet


@pytest.mark.slow
def test_the_reference_shows_signatures_and_texts(site):
    html = (site / "reference/python_networks.html").read_text(encoding="utf-8")
    assert 'id="kinema.create_model"' in html
    assert "classes" in html


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/css">',
        '<img srcset="https://pictures.example/a.png 2x">',
        "<style>@import 'https://fonts.example/css';</style>",
        '<p style="background: url(https://pictures.example/b.png)">',
    ],
)
def test_fetches_from_other_sites_are_found(html):
    assert len(outside(html)) == 1


def test_links_to_click_are_allowed():
    assert outside('<a href="https://arxiv.example/abs/1">a paper</a><img src="a.png">') == []
