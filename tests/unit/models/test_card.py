"""The model card of a saved network: its sections, and that it makes nothing up."""

import re

import pytest

from kinema.models import card
from kinema.models.card import model_card
from kinema.models.zoo import create_model
from kinema.values import Preprocessing

SECTIONS = ["Intended use", "Data", "Recipe", "Results", "Limits", "License of the weights"]


def text_of(name="tsm_test_resnet", *, classes=2, notes=None, **options) -> str:
    net = create_model(name, classes=classes, frames=4, **options)
    labels = [f"class {k}" for k in range(classes)]
    how = Preprocessing(frames=4, sampling="dense", window_frames=16, short_side_px=40, crop_px=32)
    return model_card(net, labels, how, notes or {})


def section(text: str, title: str) -> str:
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", text, flags=re.DOTALL | re.MULTILINE)
    return found


def test_a_card_without_notes_says_what_is_missing():
    text = text_of()
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == SECTIONS
    assert text.startswith("---\nlibrary_name: kinema\npipeline_tag: video-classification\n")
    assert "- **Input**: 4 frames (dense from 16 consecutive ones), short side 40" in text
    assert "Class names: class 0, class 1." in text
    assert "always answers with one of its 2 classes" in section(text, "Limits")
    for title in ("Intended use", "Data", "Recipe", "Results", "License of the weights"):
        assert re.search(r"\*.*not stated", section(text, title), flags=re.IGNORECASE), title


@pytest.mark.parametrize(
    ("names", "title"),
    [
        (card.DATA, "Data"),
        (card.RECIPE, "Recipe"),
        (card.RESULTS, "Results"),
        (card.LICENSE, "License of the weights"),
    ],
)
def test_every_known_line_goes_to_its_section(names, title):
    text = text_of(notes={name: f"<{name}>" for name in names})
    for name in names:
        assert f"- **{name}**: <{name}>" in section(text, title)
        assert text.count(f"<{name}>") == 1


def test_other_lines_go_to_the_facts():
    facts, _, _ = text_of(notes={"Camera": "left corridor"}).partition("## ")
    assert "- **Camera**: left corridor" in facts


def test_what_the_network_cannot_do_follows_from_the_network():
    assert "cannot distinguish a motion from its reverse" in text_of("tsn_test_resnet")
    assert "reverse" not in text_of()
    assert "kinema timeline" in section(text_of(), "Intended use")
    assert "kinema stream" in section(text_of(causal=True), "Intended use")


def test_many_class_names_are_cut():
    text = text_of(classes=card.NAMES_SHOWN + 1)
    assert "class 49, ... (all are in config.json)." in text
    assert "class 50" not in text
