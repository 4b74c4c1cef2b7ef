"""CONTRIBUTING shows every room of the package, and texts keep to the house's words."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .pages import REPOSITORY

PACKAGE = REPOSITORY / "src" / "kinema"
# A docstring is a statement; one that begins with such a word asks the reader to guess.
RIDDLES = ("What", "Which", "Who", "Whom", "Whose", "How", "Whether", "Where", "When", "Why")
# Stems of British spellings; the text around a match is not a word that Americans write so too.
BRITISH = re.compile(
    r"(?:recogn|quant|optim|normal|initial|random|standard|summar|memor|serial|synchron|visual"
    r"|minim|maxim|real|organ|general|local|parallel|token|util|special|categor|penal)is(?:e|ing|ation)"
    r"|colou?r(?<=our)|behaviour|favour|honour|neighbour|centre(?!_rel)|centring|\bgrey|licence"
    r"|label(?:led|ling)(?!by)|modell(?:ed|ing)|misspelt|learnt|artefact|catalogue|analys(?:e|ing)\b",
    re.IGNORECASE,
)
# Words of others: a data format's own name, an attribute of HTML, names of published files.
ALLOWED = re.compile(r"labelledby|parallelise|realise\b", re.IGNORECASE)
TEXTS = (".py", ".md", ".toml", ".html", ".js", ".css", ".yml", ".ipynb", ".c", ".h")
# The log quotes what was written at the time; class names are those of the data sets.
NOT_OURS = ("docs/log.md", "tests/parity/reference/", "src/kinema/data/class_lists/")


def rooms_of_the_picture() -> set[str]:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    picture = re.search(r"```\nsrc/kinema/\n(.*?)```", text, re.DOTALL)
    assert picture, "CONTRIBUTING.md has no picture that begins with src/kinema/"
    names: set[str] = set()
    for line in picture[1].splitlines():
        if re.match(r"  \S", line):  # lines that go on are indented further
            names |= set(re.findall(r"\b[a-z_]+(?:/|\.py)", re.split(r" {2,}", line.strip())[0]))
    return names


def test_the_picture_shows_every_room_and_no_other():
    folders = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    folders |= {f"{path.parent.name}/" for path in PACKAGE.glob("*/*.toml")}
    files = {path.name for path in PACKAGE.glob("*.py")} - {"__main__.py"}
    assert rooms_of_the_picture() == folders | files - {"__init__.py"}


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield getattr(node, "lineno", 1), text


@pytest.mark.parametrize("folder", ["src", "scripts", "benchmarks", "examples"])
def test_docstrings_are_statements(folder: str):
    riddles = [
        f"{path.relative_to(REPOSITORY)}:{line}: {text.splitlines()[0]}"
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
        for line, text in docstrings(path)
        if text.split()[0].strip(",.:'").removesuffix("'s") in RIDDLES
    ]
    assert not riddles, "\n".join(riddles)


def test_spelling_is_american():
    listed = ["git", "ls-files", "-z"]
    names = subprocess.run(
        listed, cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    found = []
    for name in filter(None, names.split("\0")):
        path = REPOSITORY / name
        if name.startswith(NOT_OURS) or not name.endswith(TEXTS) or path == Path(__file__):
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        found += [
            f"{name}:{number}: {match[0]}"
            for number, line in enumerate([name, *lines])
            for match in BRITISH.finditer(ALLOWED.sub("", line))
        ]
    assert not found, "\n".join(found)
