"""The how-to "draw a paper's figures": its commands on tiny networks."""

import pytest

import kinema as library
from kinema.values import Preprocessing

from ..random_weights import tiny_network
from .pages import Page, run_kinema, trained_on_colors

PAGE = Page("docs/howto/draw_figures.md")


@pytest.mark.slow
def test_the_commands_of_the_page_draw(tmp_path, monkeypatch, checkpoint, color_set):
    trained_on_colors(tmp_path, checkpoint, color_set)
    networks = {"tam": "tam", "tam2": "tam", "i3d": "i3d", "tsi": "sme"}
    for name, family in networks.items():
        options = {"reduction": 8} if family == "sme" else {}
        library.save(
            tiny_network(family, **options),
            tmp_path / "runs" / name / "best",
            labels=("red", "green", "blue"),
            preprocessing=Preprocessing(frames=4, short_side_px=40, crop_px=32),
        )
    monkeypatch.chdir(tmp_path)
    commands = PAGE.commands
    assert len(commands) == 6
    for command in commands:
        files = run_kinema(command).split()
        assert all((tmp_path / file).is_file() for file in files)
    assert (tmp_path / "figures/tam/tam_kernels_motion.png").is_file()
