"""The how-to "import a published checkpoint" on files with the authors' tensor names."""

import re
import shlex
from pathlib import Path

import pytest
import timm
import torch
from typer.testing import CliRunner

from kinema.cli.main import app
from kinema.data.synthetic import MotionSettings, render_motion_set
from kinema.models.zoo import create_model

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "docs/howto/import_a_checkpoint.md").read_text(encoding="utf-8")


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """The two files that the page names, with random weights, and a video."""
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
    (block,) = re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)
    for command in block.replace("\\\n", " ").splitlines():
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, (command, result.output, result.exception)
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    exec(compile(block, "how-to", "exec"), {})
    assert capsys.readouterr().out == "tsm_resnet50 267\n"


def test_every_network_of_the_table_exists():
    for name in re.findall(r"`((?:tsm|tea|tam|gst)_\w+)`", TEXT):
        create_model(name, classes=2)
