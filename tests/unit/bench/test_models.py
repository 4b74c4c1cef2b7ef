"""Networks in all forms give the same scores, and are timed against the plain backbone."""

import pytest
import torch

from kinema import create_model
from kinema.bench.forms import FORMS, build_form
from kinema.bench.models import measure_models
from kinema.bench.timing import alternate
from kinema.bench.video import measure_video
from kinema.errors import OptionError

SLOW = ("compiled", "aoti", "onnx", "openvino")


@pytest.mark.slow
def test_every_network_is_compared_with_the_plain_one():
    measurement = measure_models(
        ["tsn_resnet18", "tsm_resnet18"],
        forms=["authors", "fused-32"],
        batches=(1,),
        frames=2,
        size=32,
        rounds=2,
    )
    rows = {(row["model"], row["form"]): row for row in measurement.rows}
    assert len(rows) == 4
    assert rows["tsn_resnet18", "fused-32"]["ratio"] == 1
    assert rows["tsm_resnet18", "authors"]["speedup"] == 1
    plain, shifted = (rows[name, "fused-32"] for name in ("tsn_resnet18", "tsm_resnet18"))
    assert shifted["ratio"] == pytest.approx(shifted["ms"] / plain["ms"], rel=0.1)
    document = measurement.document()
    assert document["settings"]["matrix_gmacs_per_s"]["32"] > 0
    assert document["machine"]["cores"] >= 1


@pytest.mark.slow
def test_latency_throughput_and_differences():
    tea, others = "tea_res2net50_26w_4s", ["me_resnet50", "mta_res2net50_26w_4s"]
    measurement = measure_models(
        [tea, *others],
        forms=["eager-32"],
        batches=(1, 3),
        frames=2,
        size=32,
        rounds=3,
        difference_from=tea,
    )
    rows = {(row["model"], row["batch"]): row for row in measurement.rows}
    assert list(rows) == [(name, batch) for batch in (1, 3) for name in (tea, *others)]
    for (_, batch), row in rows.items():
        assert row["videos_per_s"] == pytest.approx(1e3 * batch / row["ms"], rel=0.05)
        per_video = [1e3 / r["videos_per_s"] for r in (rows[tea, batch], row)]
        wanted = per_video[0] - per_video[1]
        assert row["difference_ms"] == pytest.approx(wanted, abs=0.02 * max(per_video))
    assert rows[tea, 3]["difference_ms"] == 0
    assert any(
        note.startswith("difference_ms: time per video of tea_") for note in measurement.notes
    )


def test_a_difference_needs_its_network():
    with pytest.raises(OptionError, match="difference_from 'tea_resnet5' is not measured. Did you"):
        measure_models(["tea_resnet50"], difference_from="tea_resnet5")
    with pytest.raises(OptionError, match="batch must be at least 1, got 0"):
        measure_models(["tea_resnet50"], batches=(0,))


# The two have all operators along time; one of them is enough for what takes long.
@pytest.mark.parametrize(
    ("model", "form"),
    [
        pytest.param(
            ("tei_test_resnet", "tanet_test_resnet")[number % 2], name, marks=[pytest.mark.slow]
        )
        for number, name in enumerate(n for n in FORMS if n.startswith(SLOW))
    ]
    + [
        (model, name)
        for name in FORMS
        if not name.startswith(SLOW)
        for model in ("tei_test_resnet", "tanet_test_resnet")
    ],
)
def test_every_form_gives_the_scores(form, model):
    torch.manual_seed(0)
    net = create_model(model, classes=5, frames=4)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
    clips = torch.randn(3, 4, 3, 32, 32)
    with torch.no_grad():
        net.train()(clips)
    net.eval()
    with torch.inference_mode():
        wanted = net(clips)
    exact = form.endswith("32") or form == "authors"
    tolerance = (1e-4 if exact else 0.2) * float(wanted.abs().max())
    torch.testing.assert_close(build_form(form, net, clips)(clips), wanted, rtol=0, atol=tolerance)


def test_an_unknown_form_is_named():
    with pytest.raises(OptionError, match="Unknown form 'fused'. Did you mean 'fused-32'"):
        build_form("fused", create_model("tsn_resnet18", classes=2, frames=2), torch.empty(0))


@pytest.mark.slow
def test_a_video_is_compared_with_the_model_alone(color_set, tmp_path, monkeypatch):
    monkeypatch.setenv("KINEMA_CACHE", str(tmp_path))
    rows = measure_video(color_set / "red" / "0.mp4", model="tsm_resnet18", rounds=1).rows
    assert [row["form"] for row in rows] == ["plain", "fast"]
    assert all(row["ratio"] > 0.5 for row in rows)


def test_forms_are_timed_in_turns():
    order = []
    alternate(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")},
        rounds=3,
        warmup=1,
        setup=lambda name: order.append(f"set up {name}"),
    )
    assert order == ["set up a", "a", "set up b", "b"] * 4
