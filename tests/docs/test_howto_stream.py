"""The how-to "frame-by-frame recognition and long videos"."""

from pathlib import Path

import pytest
import torch

import kinema
from kinema.temporal import base as registry
from kinema.values import Preprocessing

from .pages import Page, run_kinema

PAGE = Page("docs/howto/stream_a_camera.md")
# Without cameras and training, which have their own tests.
ELSEWHERE = ("rtsp://", "best 0", "kinema train")


@pytest.fixture
def workplace(tmp_path, monkeypatch, checkpoint, color_set) -> None:
    """Folder with the checkpoints and the video of the page."""
    monkeypatch.chdir(tmp_path)
    net = kinema.create_model("tsm_test_resnet", classes=3, frames=4, causal=True).eval()
    how = Preprocessing(frames=4, short_side_px=40, crop_px=32)
    kinema.save(net, Path("runs/live/best"), labels=("a", "b", "c"), preprocessing=how)
    Path("runs/first").mkdir()
    Path("runs/first/best").symlink_to(checkpoint)
    Path("video.mp4").symlink_to(color_set / "red" / "0.mp4")


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    "command", [line for line in PAGE.commands if not any(w in line for w in ELSEWHERE)]
)
def test_every_command_runs(command):
    run_kinema(command)


@pytest.mark.usefixtures("workplace")
def test_the_streams_of_the_page_run(capsys):
    PAGE.run_python(0)
    assert len(capsys.readouterr().out.splitlines()) == 12
    names = PAGE.run_python(1)
    assert names["scores"].shape == (2, 3)
    assert names["saved"]


def test_the_module_of_the_page_streams(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    PAGE.run_python(2)
    net = kinema.create_model(
        "test_resnet", temporal="past_mean", classes=3, frames=5, causal=True
    ).eval()
    for name, weight in net.named_parameters():
        if "bn" in name:
            torch.nn.init.uniform_(weight, 0.5, 1)
    clips = torch.randn(2, 5, 3, 32, 32)
    step = net.streaming(batch=2)
    got = torch.stack([step(frames) for frames in clips.unbind(1)], 1)
    with torch.no_grad():
        torch.testing.assert_close(got, net.frame_scores(clips), rtol=1e-4, atol=1e-5)
