"""The quick start's page is one file that needs nothing else."""

import runpy
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from kinema.errors import MissingExtraError
from kinema.report import html_page
from kinema.report.plots import draw_frames
from kinema.values import ClassProb, Prediction


class Sources(HTMLParser):
    """Collects what the page would load, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        if tag == "img":
            self.images.append(named["src"])
            assert named["alt"]
        if tag in ("link", "script", "iframe"):
            self.links.append(tag)

    def handle_data(self, data):
        self.text += data


def run(name: str, top1: float) -> dict[str, object]:
    facts = {"about": "does this", "pair_top1": 0.9, "train_s": 61.2, "epochs": 3}
    return {"name": name, "top1": top1, "params": 1234567, **facts}


def test_the_page_is_self_contained_and_complete(tmp_path):
    png = draw_frames(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
    top = (ClassProb(0, "move_left", 0.873),)
    values = {
        "runs": [run("tsn_x", 0.4711), run("tsm_x", 0.9123)],
        "pairs": [[("move_left", png), ("move_right", png)]],
        "curves": {"tsn_x": png, "tsm_x": png},
        "confusions": {"tsn_x": png, "tsm_x": png},
        "bars_png": png,
        "prediction": Prediction("v/<a>.mp4", top, np.zeros(1, np.float32)),
        "prediction_png": png,
        "network": "tsm_x",
        "truth": "move_left",
        "facts": {"Processor": "a & b"},
        "commands": ["kinema predict runs/x <video>"],
    }
    out = html_page.write_page("report.html", values, tmp_path / "report.html")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    sources = Sources()
    sources.feed(out.read_text(encoding="utf-8"))
    assert len(sources.images) == 8
    assert all(src.startswith("data:image/png;base64,") for src in sources.images)
    assert sources.links == []
    for part in (
        "47.11 %",
        "91.23 %",
        "1,234,567 parameters",
        "61 s",
        "move_right",
        "v/<a>.mp4",
        "87.3 %",
        "a & b",
        "kinema predict runs/x <video>",
    ):
        assert part in sources.text


def test_without_jinja_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r'pip install "\.\[train\]"'):
        runpy.run_path(html_page.__file__)
