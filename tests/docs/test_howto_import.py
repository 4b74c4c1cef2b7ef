"""The how-to "import a published checkpoint" on files with the authors' tensor names."""

import re

import pytest
import timm
import torch

from kinema.models.zoo import create_model
from kinema.synthetic.motion_set import MotionSettings, render_motion_set

from .pages import Page, run_kinema

PAGE = Page("docs/howto/import_a_checkpoint.md")


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """The two files of the page, with random weights, and a video."""
    state = create_model("tsm_resnet50", classes=400).state_dict()
    official = {}
    for name, tensor in state.items():
        theirs = name.replace("backbone.", "base_model.").replace("head.classifier", "new_fc")
        official[f"module.{theirs.replace('.layer.', '.net.')}"] = tensor
    file = "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50.pth"
    torch.save({"state_dict": official}, tmp_path / file)
    torch.save(timm.create_model("resnet50").state_dict(), tmp_path / "resnet50-11ad3fa6.pth")
    settings = MotionSettings(train_per_class=1, val_per_class=1, size_px=32)
    motion = render_motion_set(tmp_path / "motion", settings=settings, workers=0)
    next(motion.rglob("*.mp4")).rename(tmp_path / "video.mp4")
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("workplace")
def test_the_page_runs(capsys):
    assert len(PAGE.commands) == 2
    for command in PAGE.commands:
        run_kinema(command)
    PAGE.run_python(0)
    assert capsys.readouterr().out == "tsm_resnet50 267\n"


def test_every_network_of_the_table_exists():
    for name in re.findall(r"`((?:tsm|tea|tam|gst)_\w+)`", PAGE.text):
        create_model(name, classes=2)
