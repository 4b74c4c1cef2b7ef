"""Accuracies that recipes, pages and figures quote are rows of the ledger, one table at a time."""

import re
import runpy

import pytest

from kinema.report.accuracies import printed_accuracies
from kinema.sweep.spec import load_sweep

from .pages import REPOSITORY

SWEEPS = sorted((REPOSITORY / "src/kinema/recipes/sweeps").glob("*.toml"))


def places(source: str) -> set[str]:
    """Tables of one paper that a source names, as in the ledger.

    Example: "TEINet, tables 1b and 1c; Kinetics-400" names "TEINet, table 1b" and its neighbor.
    """
    paper, _, place = source.partition(";")[0].partition(", ")
    kind, found = "", set()
    for word in re.split(r" and | ", place):
        if word.isalpha():
            kind = word.removesuffix("s")
        else:
            found.add(f"{paper}, {kind} {word}")
    return found


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_a_sweep_quotes_one_paper(file, tmp_path):
    quoted = load_sweep(file, out=tmp_path).spec.quoted
    if quoted is None:
        return
    named = places(quoted.source)
    rows = [
        row
        for row in printed_accuracies()
        # "TAM, table 2, section 4.3" is in both places.
        for paper, *parts in [row.source.split(", ")]
        if named & {f"{paper}, {part}" for part in parts}
    ]
    assert rows, f"{quoted.source} is no table of the ledger"
    printed = {row.top1 for row in rows}
    assert set(quoted.top1.values()) <= printed


def test_the_figure_of_the_benchmarks_quotes_one_table():
    points = runpy.run_path(str(REPOSITORY / "scripts/benchmark_tables.py"))["_figure_points"]()
    assert [(p["source"], p["row"], p["quoted top-1"]) for p in points] == [
        ("TSI, table 8", "TSN", 19.7),
        ("TSI, table 8", "TSM", 43.4),
        ("TSI, table 8", "TEINet", 47.4),
        ("TSI, table 8", "Res50 + CTI", 48.4),
        ("TSI, table 8", "TSI", 50.2),
    ]


def test_the_row_to_reproduce_is_printed():
    text = (REPOSITORY / "docs/howto/reproduce_a_paper_row.md").read_text(encoding="utf-8")
    quoted = [float(n) for n in re.findall(r"\| ([\d.]+) % \|$", text, flags=re.MULTILINE)]
    rows = printed_accuracies(paper="tei", dataset="something_v1")
    table3 = [row for row in rows if (row.source, row.split) == ("TEINet, table 3", "val")]
    own = [row for row in table3 if row.method.startswith("TEINet")]
    printed = {row.frames: row.top1 for row in own if (row.clips or 1, row.crops or 1) == (1, 1)}
    assert quoted == [printed["8"], printed["16"], printed["16+8"]]


@pytest.mark.parametrize(
    ("page", "text", "question"),
    [
        ("cost", "46.7 % with these 9 blocks and 47.4 %", ("TEINet, table 1c", [46.7, 47.4])),
        (
            "protocols",
            "47.4 % for one view and 48.8 % for thirty",
            ("TEINet, table 3", [47.4, 48.8]),
        ),
        (
            "papers_and_code",
            "43.4 % (TEA, TEINet, TSI's table 8), 45.6 %",
            ("TSI, table 1", [45.6]),
        ),
        ("papers_and_code", "prints 46.1 %, TEA's supplement 46.0 %", ("TEINet, table 1a", [46.1])),
    ],
)
def test_numbers_in_the_explanations_are_printed(page, text, question):
    words = (REPOSITORY / f"docs/explain/{page}.md").read_text(encoding="utf-8").split()
    assert text in " ".join(words)
    source, expected = question
    printed = {row.top1 for row in printed_accuracies() if row.source == source}
    assert set(expected) <= printed
