"""Tables say what the numbers are, and names are shown as they are."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from kinema.report.tables import (
    per_class_table,
    percent,
    prediction_table,
    summary_table,
    write_confusion_csv,
    write_csv,
    write_per_class_csv,
)
from kinema.values import ClassProb, Prediction


def shown(table) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@pytest.mark.parametrize(
    ("share", "text"), [(None, "-"), (0.0, "0.00 %"), (0.66667, "66.67 %"), (1.0, "100.00 %")]
)
def test_percent(share, text):
    assert percent(share) == text


def test_summary(report):
    text = shown(summary_table(report))
    for part in ("10 x 3", "66.67 %", "75.00 %", "-"):
        assert part in text


def test_per_class(report):
    text = shown(per_class_table(report))
    rows = {line.split("│")[1].strip(): line for line in text.splitlines() if "│" in line}
    assert "50.00 %" in rows["[red] jump"]
    assert "100.00 %" in rows["run, fast"]
    assert "<b>sit</b>" not in rows
    assert "Accuracy by class (2 of 3 have videos)" in text


def test_a_set_of_all_classes_needs_no_remark(report):
    every = replace(report, per_class=report.per_class[:2])
    assert shown(per_class_table(every)).split("\n")[0].strip() == "Accuracy by class"


def test_predictions_and_errors_share_a_table():
    top = (ClassProb(1, "[red] jump", 0.75), ClassProb(0, "run", 0.25))
    prediction = Prediction("a[1].mp4", top, np.zeros(2, np.float32))
    text = shown(prediction_table([("a[1].mp4", prediction), ("b.mp4", "b.mp4 is empty.")]))
    for part in ("a[1].mp4", "[red] jump", "75.0 %", "25.0 %", "cannot be read"):
        assert part in text


def test_csv_files(report, tmp_path):
    write_per_class_csv(report, tmp_path / "per_class.csv")
    with (tmp_path / "per_class.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["label", "name", "videos", "correct", "accuracy"],
            ["0", "[red] jump", "2", "1", "0.500000"],
            ["1", "run, fast", "1", "1", "1.000000"],
            ["2", "<b>sit</b>", "0", "0", ""],
        ]
    write_confusion_csv(report, tmp_path / "confusion.csv")
    with (tmp_path / "confusion.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][1:] == list(report.class_names)
    assert rows[1:] == [
        ["[red] jump", "1", "1", "0"],
        ["run, fast", "0", "1", "0"],
        ["<b>sit</b>", "0", "0", "0"],
    ]


def test_cells_of_a_csv_file_are_no_formulas(tmp_path):
    names = ["=1+1", "+a", "-b", "@c", " =d", "\t=e", "\uff1df", "\x1b[2J", "walking, fast"]
    write_csv(tmp_path / "a.csv", ("=h", "n"), [(name, -1.5) for name in names])
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["'=h", "n"]
    expected = [f"'{name}" for name in names[:7]] + ["\\x1b[2J", "walking, fast"]
    assert rows == [[name, "-1.5"] for name in expected]
