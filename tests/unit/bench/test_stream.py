"""The benchmark of streams times the work it says it times."""

import torch

from kinema.bench import stream
from kinema.bench.stream import Streams, measure_streams


def test_every_form_of_every_network_is_measured_against_the_plain_backbone():
    measurement = measure_streams(
        ("test_resnet",), families=("tsm",), batches=(1, 2), frames=2, size=32, rounds=2
    )
    assert {(row["model"], row["cameras"], row["form"]) for row in measurement.rows} == {
        (model, cameras, form)
        for model in ("tsn_test_resnet", "tsm_test_resnet")
        for cameras in (1, 2)
        for form in ("plain", "optimised fp32", "optimised bf16")
    }
    for row in measurement.rows:
        assert row["p99_ms"] >= row["p50_ms"] > 0
        assert row["model"] != "tsn_test_resnet" or row["ratio"] == 1


def test_the_optimised_step_gives_the_scores_of_the_plain_one():
    torch.manual_seed(0)
    net = stream.create_model("tsm_test_resnet", classes=5, frames=4, causal=True).eval()
    for name, weight in net.named_parameters():
        if "bn" in name:
            torch.nn.init.normal_(weight, mean=1, std=0.2)
    scores = []
    for form in ("plain", "optimised fp32"):
        torch.manual_seed(1)  # the same frames
        step = stream._step(net, form, Streams(batch=2, frames=4, size=32))
        scores.append(torch.stack([step() for _ in range(3)]))
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-4, atol=1e-4)
    assert (scores[0][0] - scores[0][1]).abs().max() > 1e-3  # it remembers
