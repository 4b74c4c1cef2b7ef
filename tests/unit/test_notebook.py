"""Results as they appear in a notebook."""

import re

import numpy as np
import pytest

import kinema
from kinema.notebook import MOST_ROWS, bar, html_table
from kinema.values import ClassProb, ClassResult, Prediction, Report, Skipped, Views


def cells(page: str) -> list[list[str]]:
    """Texts of the cells, row by row, the header first."""
    rows = re.findall(r"<tr>(.*?)</tr>", page)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


def test_a_prediction():
    top = (ClassProb(1, "<b>wave", 0.75), ClassProb(0, "jump", 0.25))
    page = Prediction("a & b.mp4", top, np.zeros(2, np.float32))._repr_html_()
    assert "a &amp; b.mp4</caption>" in page
    header, first, second = cells(page)
    assert header == ["class", "probability", ""]
    assert first[:2] == ["&lt;b&gt;wave", "75.00 %"]
    assert second == ["jump", "25.00 %", bar(0, 0.25)]
    assert "margin-left:0.0%;width:25.0%" in second[2]


def test_a_report():
    per_class = (ClassResult(0, "jump", 4, 3), ClassResult(1, "run", 0, 0))
    report = Report(
        top1=0.75,
        top5=1.0,
        mean_class=None,
        views=Views(),
        skipped=(Skipped("x", "gone"),),
        per_class=per_class,
        confusion=np.zeros((2, 2), np.int64),
        scores=np.zeros((4, 2), np.float32),
        labels=np.zeros(4, np.int64),
        paths=("a", "b", "c", "d"),
        class_names=("jump", "run"),
    )
    page = report._repr_html_()
    assert "top-1 75.00 %, top-5 100.00 %, mean class - of 4 videos, 1 skipped</caption>" in page
    assert [row[:3] for row in cells(page)[1:]] == [
        ["jump", "3 of 4", "75.00 %"],
        ["run", "0 of 0", "-"],
    ]


def test_a_timeline(checkpoint, color_set):
    timeline = kinema.Recognizer.load(checkpoint, device="cpu").timeline(
        color_set / "red" / "0.mp4"
    )
    (segment,) = timeline.segments
    page = timeline._repr_html_()
    assert f"red/0.mp4, {timeline.duration_s:.2f} s.</caption>" in page
    assert cells(page)[1][:3] == ["0.00", f"{segment.end_s:.2f}", segment.name]
    assert "margin-left:0.0%;width:100.0%" in page


def test_long_tables_are_cut():
    page = html_table("", ("n",), [(str(n),) for n in range(MOST_ROWS + 7)])
    assert len(cells(page)) == 1 + MOST_ROWS + 1
    assert cells(page)[-1] == ["... and 7 more"]


@pytest.mark.parametrize(
    ("ends", "style"),
    [((0.25, 0.5), "margin-left:25.0%;width:25.0%"), ((-1, 2), "margin-left:0.0%;width:100.0%")],
)
def test_bars(ends: tuple[float, float], style: str):
    assert style in bar(*ends)
