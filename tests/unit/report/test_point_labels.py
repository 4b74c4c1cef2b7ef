"""Labels of points lie on no marker, error bar or other label, and legends lie on no plot."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from kinema.figures import accuracy_cost
from kinema.report import plots, sweeps
from kinema.report.point_labels import MARKER_PT, label_points
from kinema.sweep.summary import read_summary
from kinema.values import Report

from ...sweep_results import write_results


def boxes_of(labels: list[Any]) -> list[Any]:
    return [Text.get_window_extent(label) for label in labels]  # without its line


def mark_boxes(plot: Any, marks: list[tuple[float, float, float]]) -> list[Any]:
    half = MARKER_PT * plot.figure.dpi / 72
    return [
        plot.transData.transform_bbox(Bbox([[x, y - spread], [x, y + spread]])).padded(half)
        for x, y, spread in marks
    ]


@pytest.mark.parametrize("names", [("a", "bb"), ("a rather long name", "another long name")])
def test_labels_of_crowded_points_cover_nothing(names):
    figure = Figure(figsize=(6, 4), layout="constrained")
    plot = figure.subplots()
    crowd = [(170 + 2.5 * i, 47 + 0.8 * (i % 4), 0.5 * (i % 2)) for i in range(10)]
    marks, others = crowd[:8], crowd[8:]
    for x, y, spread in [*crowd, (0, 20, 0), (200, 60, 0)]:
        plot.errorbar([x], [y], yerr=[spread], fmt="o")
    labels = label_points(plot, marks, [names[i % 2] + str(i) for i in range(8)], others=others)
    figure.draw_without_rendering()
    assert sorted(label.get_text()[-1] for label in labels) == list("01234567")
    boxes = boxes_of(labels)
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    assert not [m for m in mark_boxes(plot, crowd) for box in boxes if box.overlaps(m)]
    assert all(plot.bbox.x0 <= box.x0 and box.x1 <= plot.bbox.x1 for box in boxes)
    assert all(plot.bbox.y0 <= box.y0 and box.y1 <= plot.bbox.y1 for box in boxes)


def test_a_label_that_is_near_has_no_line_and_stands_on_the_right():
    figure = Figure(figsize=(4, 4))
    plot = figure.subplots()
    plot.plot([0, 1, 2], [0, 1, 2], "o")
    (label,) = label_points(plot, [(1, 1, 0)], ["one $"])
    figure.draw_without_rendering()
    assert not label.arrow_patch.get_visible()
    assert label.get_position() == pytest.approx((7 + boxes_of([label])[0].width * 0.36, 0), abs=1)


def test_a_label_without_a_free_place_is_drawn_all_the_same():
    figure = Figure(figsize=(1.2, 1.2))
    plot = figure.subplots()
    marks = [(0, 0, 0), (0, 0, 0)]
    plot.plot([0], [0], "o")
    assert len(label_points(plot, marks, ["wider than the plot is"] * 2)) == 2


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures that are saved, kept for a look at where their parts stand."""
    figures: list[Figure] = []

    def keep(figure: Figure, out: Path | None) -> bytes:
        figures.append(figure)
        figure.draw_without_rendering()
        return b""

    for module in (plots, sweeps, accuracy_cost):
        monkeypatch.setattr(module, "save_png", keep)
    return figures


def check_legend(figure: Figure, names: list[str]) -> None:
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == names
    place = legend.get_window_extent()
    assert figure.bbox.x0 <= place.x0
    assert place.x1 <= figure.bbox.x1
    assert not any(place.overlaps(plot.get_tightbbox()) for plot in figure.axes)
    assert not any(plot.get_legend() for plot in figure.axes)


def test_legends_stand_outside_the_plots(tmp_path, drawn, report: Report):
    document = read_summary(write_results(tmp_path / "m", "motion_networks"))
    tests = list(document["rows"][0]["tests"])
    sweeps.draw_sweep(document)
    check_legend(drawn[-1], tests)
    sweeps.draw_sweep({**document, "axis": "GMACs"})
    check_legend(drawn[-1], tests)
    share = read_summary(write_results(tmp_path / "g", "gte_share"))
    points = sweeps.option_points(share, "model.options.ratio", test="val")
    sweeps.draw_option(points, "model.options.ratio", title="t", test="val")
    check_legend(drawn[-1], ["top-1", "parameters"])
    both = accuracy_cost.cost_points([document, share], test="val")
    accuracy_cost.draw_accuracy_cost(both, test="val")
    check_legend(drawn[-1], [document["title"], share["title"]])
    plots.draw_class_bars({"a": report, "b $": report})
    check_legend(drawn[-1], ["a", "b $"])
    metrics = tmp_path / "metrics.jsonl"
    line = {"kind": "epoch", "epoch": 1, "loss": 1, "top1": 0.3, "lr": 0.1, "val_top1": 0.2}
    metrics.write_text(json.dumps(line), encoding="utf-8")
    plots.draw_curves(metrics, title="a run")
    check_legend(drawn[-1], ["training", "validation"])


def test_accuracy_is_in_front_of_parameters(tmp_path, drawn):
    document = read_summary(write_results(tmp_path, "gte_ways"))
    points = sweeps.option_points(document, None, test="val")
    sweeps.draw_option(points, None, title="t", test="val")
    accuracy, params = drawn[-1].axes
    assert accuracy.get_zorder() > params.get_zorder()
    assert params.lines[0].get_markerfacecolor() == "none"


def test_labels_of_sweeps_lie_apart(tmp_path, drawn):
    document = read_summary(write_results(tmp_path, "motion_networks"))
    for row in document["rows"]:  # all at nearly one place
        row["macs"] = 2 * 10**9 + row["macs"] // 1000
        for result in row["tests"].values():
            result["top1"] = 0.9 + result["top1"] / 100
    document["rows"][0]["macs"] = 10**9
    sweeps.draw_sweep({**document, "axis": "GMACs"})
    accuracy_cost.draw_accuracy_cost(accuracy_cost.cost_points([document], test="val"), test="val")
    for figure in drawn:
        boxes = boxes_of([t for t in figure.axes[0].texts if t.get_text()])
        assert len(boxes) == len(document["rows"])
        assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
