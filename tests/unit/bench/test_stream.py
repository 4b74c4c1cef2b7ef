"""The benchmark of streams times the work it says it times."""

import pytest
import torch

from kinema.bench import stream
from kinema.bench.stream import FORMS, Streams, measure_streams
from kinema.errors import OptionError


def test_every_form_of_every_network_is_measured_against_the_plain_backbone():
    measurement = measure_streams(
        ("test_resnet",),
        families=("tsm",),
        batches=(1, 2),
        forms=("fused-32", "fused-bf16"),
        frames=2,
        size=32,
        rounds=2,
    )
    assert {(row["model"], row["cameras"], row["form"]) for row in measurement.rows} == {
        (model, cameras, form)
        for model in ("tsn_test_resnet", "tsm_test_resnet")
        for cameras in (1, 2)
        for form in ("plain", "fused-32", "fused-bf16")
    }
    for row in measurement.rows:
        assert row["p99_ms"] >= row["p50_ms"] > 0
        assert row["model"] != "tsn_test_resnet" or row["ratio"] == 1


@pytest.mark.parametrize(
    "form",
    [pytest.param(f, marks=[pytest.mark.slow] if "openvino" in f else []) for f in FORMS],
)
def test_every_form_of_a_step_gives_the_scores_of_the_plain_one(form):
    torch.manual_seed(0)
    net = stream.create_model("tsm_test_resnet", classes=5, frames=4, causal=True).eval()
    for name, weight in net.named_parameters():
        if "bn" in name:
            torch.nn.init.normal_(weight, mean=1, std=0.2)
    scores = []
    for kind in ("plain", form):
        torch.manual_seed(1)  # the same frames
        step = stream._step(net, kind, Streams(batch=2, frames=4, size=32))
        scores.append(torch.stack([step() for _ in range(3)]).float())
    tolerance = 1e-4 if form.endswith("32") else 5e-2 * float(scores[0].abs().max())
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-4, atol=tolerance)
    assert (scores[0][0] - scores[0][1]).abs().max() > 1e-3  # it remembers


def test_an_unknown_form_is_named():
    with pytest.raises(OptionError, match="Unknown form 'fused'. Did you mean 'fused-32'"):
        measure_streams(("test_resnet",), forms=("fused",))
