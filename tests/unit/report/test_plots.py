"""Figures are PNGs of sensible size with the right content."""

import io
import json
import runpy
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image

from kinema.errors import MissingExtraError
from kinema.evaluation.evaluate import report_scores
from kinema.report import plots
from kinema.report.plots import draw_class_bars, draw_confusion, draw_curves, draw_frames
from kinema.values import Report, Views


def picture(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


def diagonal(classes: int) -> Report:
    return report_scores(
        scores=np.eye(classes, dtype=np.float32),
        labels=np.arange(classes),
        paths=tuple(f"{i}.mp4" for i in range(classes)),
        class_names=tuple(f"a class with a rather long name {i}" for i in range(classes)),
        views=Views(),
    )


def test_curves_show_a_run_that_is_only_partly_validated(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    lines = [{"kind": "train", "epoch": 1, "step": 2, "loss": 1.5, "top1": 0.2, "lr": 0.1}]
    for epoch in (1, 2, 3):
        line = {"kind": "epoch", "epoch": epoch, "loss": 1 / epoch, "top1": 0.3 * epoch, "lr": 0.1}
        lines.append(line if epoch == 2 else {**line, "val_top1": 0.25 * epoch})
    metrics.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    png = draw_curves(metrics, tmp_path / "curves.png", title="a run")
    width, height = picture(png).size
    assert width > 2 * height
    assert (tmp_path / "curves.png").read_bytes() == png
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".part"] == []


@pytest.mark.parametrize("classes", [2, 30, 300])
def test_confusion_of_few_and_many_classes(classes):
    image = picture(draw_confusion(diagonal(classes)))
    assert 300 < image.width < 1800
    assert 300 < image.height < 1800
    dark = (np.asarray(image.convert("L")) < 90).mean()
    assert dark > 0.001  # the diagonal is there


def test_confusion_of_classes_without_videos(report):
    assert picture(draw_confusion(report)).width > 300


def test_long_names_that_differ_at_their_end_stay_apart():
    names = [f"Pushing something so that it {end}" for end in ("falls", "moves", "spins")]
    shortened = [plots.shortened(name) for name in names]
    assert len(set(shortened)) == 3
    assert max(map(len, shortened)) <= 28
    assert plots.shortened("jump") == "jump"


def test_names_are_no_formulas(tmp_path):
    report = report_scores(
        scores=np.eye(2, dtype=np.float32),
        labels=np.arange(2),
        paths=("a.mp4", "b.mp4"),
        class_names=("pay $5 or $\\nothing", "_hidden"),
        views=Views(),
    )
    assert picture(draw_confusion(report)).width > 300
    assert picture(draw_class_bars({"a": report})).width > 300


def test_curves_of_a_run_without_a_finished_epoch(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"kind": "train", "epoch": 1, "step": 2, "loss": 1.5}\n', encoding="utf-8")
    assert picture(draw_curves(metrics)).width > 300


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r'pip install "\.\[train\]"'):
        runpy.run_path(plots.__file__)


def test_class_bars_compare_runs(report):
    one, two = (
        picture(draw_class_bars(runs)) for runs in ({"a": report}, {"a": report, "b": report})
    )
    assert one.width == two.width


def test_frames_stand_side_by_side_unchanged():
    frames = torch.randint(0, 256, (4, 3, 10, 12), dtype=torch.uint8)
    strip = np.asarray(picture(draw_frames(frames, gap_px=2)))
    assert strip.shape == (10, 4 * 12 + 3 * 2, 3)
    for number, frame in enumerate(frames.permute(0, 2, 3, 1).numpy()):
        left = number * 14
        assert_array_equal(strip[:, left : left + 12], frame)
    assert (strip[:, 12:14] == 255).all()
    assert draw_frames(frames.permute(0, 2, 3, 1).numpy(), gap_px=2) == draw_frames(
        frames, gap_px=2
    )


def test_one_frame_without_gap():
    frame = np.full((1, 8, 8, 3), 7, np.uint8)
    assert_array_equal(np.asarray(picture(draw_frames(frame, gap_px=0))), frame[0])
