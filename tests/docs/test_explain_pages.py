"""Figures and tables of the explanations are up to date, and the protocols exist."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

from kinema.evaluation.protocols import protocols
from kinema.temporal import list_temporal

from .pages import REPOSITORY, Page

MODULES = Page("docs/explain/modules.md")
PROTOCOL_PAGE = Page("docs/explain/protocols.md")
FIGURES = REPOSITORY / "docs/figures"
SMALL_BYTES = 100_000


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """Folder with the figures as the script draws them."""
    folder = tmp_path_factory.mktemp("figures")
    script = str(REPOSITORY / "scripts/module_diagrams.py")
    subprocess.run([sys.executable, script, "--out", str(folder)], check=True, timeout=120)
    return folder


@pytest.mark.slow
def test_the_figures_are_up_to_date(drawn):
    made = f"Matplotlib v{matplotlib.__version__},"
    for figure in drawn.iterdir():
        committed = (FIGURES / figure.name).read_text(encoding="utf-8")
        assert len(committed) < SMALL_BYTES, figure.name
        if made in committed:  # other versions draw other outlines
            assert committed == figure.read_text(encoding="utf-8"), (
                "run python scripts/module_diagrams.py"
            )


@pytest.mark.slow
def test_the_page_shows_every_figure_once(drawn):
    shown = re.findall(r"!\[[^\]]+\]\(\.\./figures/(module_\w+\.svg)\)", MODULES.text)
    assert sorted(shown) == sorted(path.name for path in drawn.iterdir())
    assert sorted(shown) == sorted(path.name for path in FIGURES.glob("module_*"))


@pytest.fixture(scope="module")
def tables() -> dict:
    return runpy.run_path(str(REPOSITORY / "scripts/module_tables.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["docs/explain/modules.md", "docs/explain/cost.md"])
def test_the_tables_are_up_to_date(name, tables):
    assert "<!-- module_tables.py: " in Page(name).text
    assert tables["filled"](Page(name).text) == Page(name).text, (
        "run python scripts/module_tables.py"
    )


def test_the_operators_have_the_weights_of_the_printed_formulas(tables):
    """TEINet, section 3.2, and GTE, table 1, with 128 channels, 3 taps and t = 1/4."""
    found = {row.name: row for row in tables["operator_rows"]()}
    square = 128 * 128
    assert {name: row.printed for name, row in found.items()} == {
        "2D convolution": 9 * square,
        "3D convolution": 27 * square,
        "GST": int(9 * 1.5 * square / 2),
        "GTE": int((9 + 0.75) * square / 2),
        "dense temporal convolution": 3 * square,
        "TIM": 3 * 128,
        "CTI": None,  # TSI prints no formula
    }
    pixels = 8 * 28 * 28
    for name, row in found.items():
        if name == "CTI":
            # Three groups of 32 with two layers each on pooled values, and three taps per channel.
            layers = 3 * 8 * 2 * 32 * 32
            assert (row.params, row.macs) == (3 * (2 * 32 * 32 + 5 * 32), 3 * 96 * pixels + layers)
            continue
        assert row.macs == row.params * pixels, name
        if name != "GTE":
            assert row.params == row.printed, name
    # Printed widths of GTE's shift and convolution contradict each other (papers_and_code.md).
    assert found["GTE"].params == int((9 * 3 / 8 + 3 / 8 + 9 / 16) * square) < found["GTE"].printed


@pytest.mark.slow
def test_an_operator_alone_costs_what_it_costs_in_a_network(tables):
    found = {row.name: row for row in tables["operator_rows"]()}
    for name, network in {
        "3D convolution": "c3d",
        "GST": "gst",
        "GTE": "gte",
        "dense temporal convolution": "c2d_tconv",
        "TIM": "r2plus1d_shift",
        "CTI": "cti",
    }.items():
        sites = tables["_cost"](f"{network}_resnet50").sites
        (site,) = [site for site in sites if site.place.startswith("res3.1 ")]
        assert (site.params, site.macs) == (found[name].params, found[name].macs), name


def test_every_module_is_explained():
    named = set(re.findall(r"`(\w+)`", MODULES.text))
    assert set(list_temporal()) <= named


def test_the_protocols_are_those_of_the_program():
    rows = re.findall(r"^\| `([^`]+)` \| (\d+) x (\d+) \| ([^|]+) \|", PROTOCOL_PAGE.text, re.M)
    assert [row[0] for row in rows] == list(protocols())
    for name, clips, crops, size in rows:
        protocol = protocols()[name]
        assert (protocol.views.clips, protocol.views.crops) == (int(clips), int(crops))
        side = protocol.short_side_px if protocol.views.full_resolution else protocol.crop_px
        resized = protocol.views.resize_px
        assert size == (f"{side}, resized to {resized}" if resized else str(side))


def test_the_drawing_of_segments_is_right():
    from kinema.data.sampling import SegmentSampling

    one, three = _drawn_clips("24 frames")
    sampling = SegmentSampling(4)
    assert one == sampling.test(24, 1).tolist()
    assert three == sampling.test(24, 3).tolist()
    (two,) = _drawn_clips("with twice_sample")
    assert two == SegmentSampling(4, "twice").test(24, 2).tolist()
    two, three = _drawn_clips("with uniform_sample")
    assert two == SegmentSampling(4, "uniform").test(24, 2).tolist()
    assert three == SegmentSampling(4, "uniform").test(24, 3).tolist()


def _drawn_clips(title: str) -> list[list[list[int]]]:
    """Frame numbers of the clips in each line of a drawing, in the order of their letters."""
    (block,) = [b for b in PROTOCOL_PAGE.blocks("text") if title in b]
    drawn = []
    for line in block.splitlines()[2:]:
        marks = [mark for mark in line.split("clip")[1].lstrip("s").split() if mark != "|"]
        letters = sorted(set(marks) - {"."})
        drawn.append([[n for n, m in enumerate(marks) if m == letter] for letter in letters])
    return drawn
