"""Names in other scripts are written with an installed font that has their letters."""

import logging

import numpy as np
import pytest
from matplotlib.ft2font import FT2Font

from kinema.evaluation.evaluate import report_scores
from kinema.live.overlay import with_caption
from kinema.report.plots import draw_confusion
from kinema.system.fonts import fallback_font
from kinema.values import Views

HIRAGANA = "の"  # in STIX General, which comes with matplotlib, and not in its DejaVu Sans
NOWHERE = "\U0010fffd"


@pytest.mark.parametrize("text", ["", "Éclair 61 %", "Ωμέγα, Ёлка", "a ≤ b → c"])
def test_common_letters_need_no_other_font(text):
    assert fallback_font(text) is None


def test_the_font_has_the_letters_and_latin_ones():
    font = fallback_font(f"{HIRAGANA} 61 %")
    assert font is not None
    shapes = FT2Font(font.fname)
    assert all(shapes.get_char_index(ord(letter)) for letter in f"{HIRAGANA}61%")


def test_letters_of_no_font_are_logged_once(caplog):
    letter = "\U0010fff0"
    with caplog.at_level(logging.WARNING):
        assert fallback_font(letter) is None
        assert fallback_font(f"{letter} 61 %") is None
    (line,) = caplog.messages
    assert f"{letter} will show as boxes; install one of that script" in line


def test_captions_show_them():
    black = np.zeros((60, 80, 3), np.uint8)
    assert (with_caption(black, HIRAGANA) != with_caption(black, NOWHERE)).any()


def test_figures_show_them():
    def drawn(name: str) -> bytes:
        report = report_scores(
            scores=np.eye(2, dtype=np.float32),
            labels=np.arange(2),
            paths=("a.mp4", "b.mp4"),
            class_names=("run", name),
            views=Views(),
        )
        return draw_confusion(report)

    assert drawn(HIRAGANA) != drawn(NOWHERE)
