"""The fastest form of a step: equal to the plain network, measured once and remembered."""

import json
from pathlib import Path

import pytest
import torch

import kinema
from kinema.errors import InputShapeError, OptionError
from kinema.inference.candidates import TOLERANCE
from kinema.inference.optimize import optimize_stream
from kinema.inference.runtime import Form, build_step
from kinema.models.network import VideoNetwork

from ...random_weights import with_random_norms

FUSED = (Form("fused", "32"), Form("eager", "32"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("KINEMA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def network(name: str, *, causal: bool = True) -> VideoNetwork:
    net = kinema.create_model(name, classes=5, frames=4, causal=causal)
    with_random_norms(net)
    return net.eval()


def stepped(step, video_BTCHW: torch.Tensor) -> torch.Tensor:
    scores, state = [], ()
    with torch.inference_mode():
        for frame in video_BTCHW.unbind(1):
            scores_BK, state = step.advance(frame, state)
            scores.append(scores_BK)
    return torch.stack(scores, 1)


def test_the_choice_is_measured_once_and_remembered(cache, caplog):
    net, example = network("tsm_test_resnet"), torch.zeros(1, 3, 32, 32)
    with caplog.at_level("INFO"):
        fast = optimize_stream(net, example=example, forms=FUSED)
    assert not fast.choice.remembered
    assert fast.choice.max_difference < 1e-4
    assert "Streams as" in caplog.text
    (file,) = cache.glob("choice-*.json")
    assert json.loads(file.read_text())["form"]["precision"] == "32"
    assert optimize_stream(net, example=example, forms=FUSED).choice.remembered


def test_a_remembered_form_that_does_not_suit_these_weights_is_left(cache, monkeypatch):
    example = torch.zeros(1, 3, 32, 32)
    forms = (Form("eager", "bf16"), Form("eager", "32"))
    monkeypatch.setattr("kinema.inference.candidates.GAIN", 1e9)  # the first form wins
    first = optimize_stream(network("tsm_test_resnet"), example=example, forms=forms)
    assert first.choice.form == forms[0]
    monkeypatch.setitem(TOLERANCE, "bf16", 0.0)  # as if it were of other weights
    other = optimize_stream(network("tsm_test_resnet"), example=example, forms=forms)
    assert (other.choice.form, other.choice.remembered) == (forms[1], False)


@pytest.mark.parametrize("name", ["tsm_resnet18", "tim_resnet18", "tei_resnet18", "tam_resnet18"])
@pytest.mark.parametrize(
    "form",
    [
        Form("eager", "32"),
        Form("fused", "32"),
        pytest.param(Form("openvino", "32"), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_every_form_of_a_step_equals_the_network_on_the_whole_video(name, form):
    net = network(name)
    video = torch.randn(2, 7, 3, 32, 32)
    with torch.inference_mode():
        wanted = net.frame_scores(video)
    got = stepped(build_step(net, form, video[:, 0]), video)
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_wrong_use_is_named():
    net, example = network("tsm_test_resnet"), torch.zeros(1, 3, 32, 32)
    with pytest.raises(OptionError, match="eager, fused or openvino, not compiled"):
        build_step(net, Form("compiled", "32"), example)
    with pytest.raises(OptionError, match="expects square frames, got 32 x 48"):
        build_step(net, Form("openvino", "32"), torch.zeros(1, 3, 32, 48))
    with pytest.raises(OptionError, match="causal"):
        optimize_stream(network("tsm_test_resnet", causal=False), example=example)


@pytest.mark.slow
def test_an_openvino_step_says_which_frames_it_takes():
    step = build_step(network("tsm_test_resnet"), Form("openvino", "32"), torch.zeros(1, 3, 32, 32))
    with pytest.raises(InputShapeError, match=r"made for frames of shape \(1, 3, 32, 32\), got"):
        step.advance(torch.zeros(2, 3, 32, 32))
