"""The fastest form is equal within its tolerance, remembered, and says what it is."""

import json
import logging
from pathlib import Path

import pytest
import torch

from kinema import create_model, optimize
from kinema.errors import InputShapeError, OptionError
from kinema.inference.candidates import TOLERANCE
from kinema.inference.optimize import optimized_at_first
from kinema.inference.runtime import Form
from kinema.models.network import VideoNetwork

CLIPS = torch.randn(3, 4, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("KINEMA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def net() -> VideoNetwork:
    torch.manual_seed(0)
    return create_model("tsm_resnet18", classes=5, frames=4).eval()


def test_scores_are_those_of_the_plain_network(net):
    fast = optimize(net, example=CLIPS, precision="32")
    with torch.inference_mode():
        torch.testing.assert_close(fast(CLIPS), net(CLIPS), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(fast(CLIPS[:1]), net(CLIPS[:1]), rtol=1e-4, atol=1e-5)
    assert fast.choice.max_difference <= TOLERANCE["32"]
    assert fast.choice.top1_agreement == 1
    assert fast.choice.form.precision == "32"
    assert fast.choice.speedup > 0


def test_bfloat16_is_within_its_tolerance(net):
    fast = optimize(net, example=CLIPS, precision="bf16", runtimes=["eager"], chunks=(1,))
    assert fast.choice.form == Form("eager", "bf16", 1)
    assert 0 < fast.choice.max_difference <= TOLERANCE["bf16"]
    assert fast(CLIPS).dtype == torch.float32


def test_a_chunk_of_all_clips_is_the_whole_batch(net):
    fast = optimize(net, example=CLIPS[:1], precision="32", runtimes=["eager"], chunks=(1,))
    assert fast.choice.form == Form("eager", "32", 0)


def test_the_choice_is_measured_once_and_remembered(net, cache):
    first = optimize(net, example=CLIPS, precision="32").choice
    again = optimize(net, example=CLIPS, precision="32").choice
    assert not first.remembered
    assert again.remembered
    assert (again.form, again.speedup) == (first.form, first.speedup)
    assert not optimize(net, example=CLIPS[:2], precision="32").choice.remembered
    assert not optimize(net, example=CLIPS, precision="32", remember=False).choice.remembered
    assert len(list(cache.glob("choice-*.json"))) == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        *(
            pytest.param(t, marks=pytest.mark.slow)
            for t in ("[1]", '{"form": {"runtime": "none"}}')
        ),
    ],
)
def test_a_damaged_memory_is_measured_anew(net, cache, text):
    optimize(net, example=CLIPS, precision="32")
    (file,) = cache.glob("choice-*.json")
    file.write_text(text, encoding="utf-8")
    assert not optimize(net, example=CLIPS, precision="32").choice.remembered
    assert json.loads(file.read_text(encoding="utf-8"))["form"]["precision"] == "32"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_choice_that_others_may_have_written_is_measured_anew(net, cache, what):
    optimize(net, example=CLIPS, precision="32")
    (file,) = cache.glob("choice-*.json")
    (file if what == "file" else cache).chmod(0o777)
    assert not optimize(net, example=CLIPS, precision="32").choice.remembered


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [{"form": {"runtime": "openvino", "precision": "32"}}, {"speedup": "fast"}]
)
def test_a_memory_of_a_form_that_is_not_tried_is_not_believed(net, cache, change):
    optimize(net, example=CLIPS, precision="32", runtimes=["eager"])
    (file,) = cache.glob("choice-*.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | change), encoding="utf-8")
    again = optimize(net, example=CLIPS, precision="32", runtimes=["eager"]).choice
    assert (again.remembered, again.form.runtime) == (False, "eager")


def test_a_cache_that_cannot_be_written_stops_nothing(net, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("KINEMA_CACHE", str(tmp_path / "file"))
    assert optimize(net, example=CLIPS, precision="32").choice.speedup > 0


def test_what_was_chosen_is_said(net, caplog):
    with caplog.at_level(logging.INFO, logger="kinema"):
        optimize(net, example=CLIPS, precision="32", runtimes=["eager"], chunks=(0,))
    assert "Runs as eager, float32: " in caplog.text
    assert "best class the same in 100% of the clips" in caplog.text


def test_forms_that_change_the_scores_are_refused(net, monkeypatch):
    monkeypatch.setitem(TOLERANCE, "bf16", 1e-9)
    with pytest.raises(OptionError, match="No fast form of tsm_resnet18 preserves its scores"):
        optimize(net, example=CLIPS, precision="bf16")


def test_the_first_clips_decide(net):
    run = optimized_at_first(net, precision="32")
    with torch.inference_mode():
        for clips in (CLIPS, CLIPS[:1]):
            torch.testing.assert_close(run(clips), net(clips), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_compiled_kernels_keep_the_scores():
    net = create_model("tsm_test_resnet", classes=5, frames=4).eval()  # compiling takes long
    fast = optimize(net, example=CLIPS, precision="32", runtimes=["compiled"], chunks=(0,))
    assert fast.choice.form.runtime == "compiled"
    with torch.inference_mode():
        torch.testing.assert_close(fast(CLIPS), net(CLIPS), rtol=1e-4, atol=1e-5)


def test_wrong_use_is_named(net):
    with pytest.raises(OptionError, match="Unknown precision 'fp16'"):
        optimize(net, example=CLIPS, precision="fp16")
    with pytest.raises(OptionError, match="Unknown runtime 'fussed'. Did you mean 'fused'"):
        optimize(net, example=CLIPS, runtimes=["fussed"])
    with pytest.raises(OptionError, match="chunks must be at least 0, got -1"):
        optimize(net, example=CLIPS, chunks=(-1,))
    with pytest.raises(OptionError, match="No runtime was named"):
        optimize(net, example=CLIPS, runtimes=[])
    with pytest.raises(InputShapeError, match=r"shape \(B, T, 3, H, W\), got \(4, 3, 64, 64\)"):
        optimize(net, example=CLIPS[0])
    fast = optimize(net, example=CLIPS, precision="32", runtimes=["eager"])
    with pytest.raises(InputShapeError, match="floating-point frames, got .*uint8"):
        fast(CLIPS.byte())
    with pytest.raises(OptionError, match="eval mode only"):
        optimize(create_model("tsn_resnet18", classes=2, frames=4), example=CLIPS)
