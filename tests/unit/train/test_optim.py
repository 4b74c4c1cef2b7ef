"""Parameter groups, schedules and partial BatchNorm."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kinema.errors import OptionError
from kinema.models.network import VideoNetwork
from kinema.models.saved import save
from kinema.models.zoo import create_model
from kinema.train.optim import (
    build_ema,
    build_optimizer,
    build_schedule,
    effective_lr,
    ema_decay,
    frozen_norm_layers,
    parameter_groups,
    rate_factor,
)
from kinema.train.settings import (
    AdamWSettings,
    ConstantSettings,
    CosineSettings,
    MultistepSettings,
    ScheduleSettings,
    SGDSettings,
)


@pytest.fixture(scope="module")
def net() -> VideoNetwork:
    return create_model("resnet10t", temporal="tim", classes=3, frames=2, stages=(4,))


def test_every_parameter_is_in_one_group(net: VideoNetwork) -> None:
    groups = parameter_groups(net, SGDSettings(), lr=0.1)
    counted = [id(p) for group in groups for p in group["params"]]
    assert sorted(counted) == sorted(id(p) for p in net.parameters())
    assert [group["name"] for group in groups] == [
        "body_weights",
        "body_norm_and_bias",
        "classifier_weights",
        "classifier_norm_and_bias",
    ]


def test_classifier_has_its_own_rate_and_decay(net: VideoNetwork) -> None:
    settings = SGDSettings(weight_decay=1e-3, classifier_lr_mult=5.0, classifier_decay_mult=4.0)
    groups = {g["name"]: g for g in parameter_groups(net, settings, lr=0.1)}
    head = {id(p) for p in net.head.parameters()}
    for name, group in groups.items():
        is_head = name.startswith("classifier")
        assert all((id(p) in head) == is_head for p in group["params"])
        assert group["lr"] == pytest.approx(0.5 if is_head else 0.1)
        assert group["weight_decay"] == pytest.approx(4e-3 if is_head else 1e-3)


def test_norm_and_bias_can_go_without_decay(net: VideoNetwork) -> None:
    settings = AdamWSettings(decay_norm_and_bias=False)
    for group in parameter_groups(net, settings, lr=0.1):
        vectors = group["name"].endswith("norm_and_bias")
        assert all((p.ndim <= 1) == vectors for p in group["params"])
        assert group["weight_decay"] == (0.0 if vectors else 0.05)


def test_temporal_convolution_counts_as_a_weight(net: VideoNetwork) -> None:
    groups = {g["name"]: g for g in parameter_groups(net, SGDSettings(), lr=0.1)}
    weights = {id(p) for p in groups["body_weights"]["params"]}
    for _, module in net.temporal_modules():
        assert all(id(p) in weights for p in module.parameters() if p.ndim > 1)


def test_temporal_modules_can_have_their_own_rate(net: VideoNetwork) -> None:
    groups = parameter_groups(net, SGDSettings(temporal_lr_mult=5.0), lr=0.1)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    temporal = {id(p) for _, module in net.temporal_modules() for p in module.parameters()}
    assert temporal
    assert {rates[key] for key in temporal} == {0.5}
    assert {rate for key, rate in rates.items() if key not in temporal} == {0.1}


def test_what_a_module_took_over_from_the_backbone_keeps_its_rate() -> None:
    net = create_model("gte_test_resnet", classes=3, frames=4)
    groups = parameter_groups(net, SGDSettings(temporal_lr_mult=5.0), lr=0.1)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    for _, module in net.temporal_modules():
        for name, parameter in module.named_parameters():
            assert rates[id(parameter)] == (0.1 if name.startswith(("spatial", "conv2d")) else 0.5)


@pytest.mark.parametrize("weights", ["none", "imagenet", "trained"])
def test_only_new_weights_of_temporal_modules_have_their_own_rate(
    weights: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = "tam_test_resnet"
    source = {
        "none": None,
        "imagenet": imagenet_of(name, tmp_path),
        "trained": save(started(name, None), tmp_path / "trained", labels="abc"),
    }[weights]
    net = started(name, source)
    with caplog.at_level("INFO", logger="kinema"):
        groups = parameter_groups(net, SGDSettings(temporal_lr_mult=5.0), lr=0.1)
    temporal = [p for _, module in net.temporal_modules() for p in module.parameters()]
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert {rates[id(p)] for p in temporal} == {0.1 if weights == "trained" else 0.5}
    said = "optimizer.temporal_lr_mult = 5 changes nothing: no weight in a temporal module of"
    assert (said in caplog.text) == (weights == "trained")


def test_rate_scales_linearly_with_the_batch() -> None:
    assert effective_lr(SGDSettings(lr=0.01), batch_size=256) == 0.01
    scaled = SGDSettings(lr=0.01, scale_lr_for_batch=64)
    assert effective_lr(scaled, batch_size=128) == pytest.approx(0.02)
    assert effective_lr(scaled, batch_size=8) == pytest.approx(0.00125)


def test_optimizer_kinds(net: VideoNetwork) -> None:
    sgd = build_optimizer(net, SGDSettings(momentum=0.8, nesterov=True), batch_size=4)
    assert isinstance(sgd, torch.optim.SGD)
    assert all(g["momentum"] == 0.8 and g["nesterov"] for g in sgd.param_groups)
    adamw = build_optimizer(net, AdamWSettings(betas=(0.8, 0.9)), batch_size=4)
    assert isinstance(adamw, torch.optim.AdamW)
    assert all(g["betas"] == (0.8, 0.9) for g in adamw.param_groups)


@pytest.mark.parametrize(
    "settings",
    [SGDSettings(lr=0.1, nesterov=True), AdamWSettings(lr=0.01)],
    ids=lambda settings: settings.name,
)
@pytest.mark.parametrize("channels_last", [False, True])
def test_fused_optimizers_differ_by_rounding_only(
    settings: SGDSettings | AdamWSettings, channels_last: bool
) -> None:
    trained = []
    for fused in (False, True):
        torch.manual_seed(0)
        net = create_model("resnet10t", temporal="tim", classes=3, frames=2)
        if channels_last:
            net.lay_out_weights()
        optimizer = build_optimizer(net, settings, batch_size=2, fused=fused)
        assert all(bool(group["fused"]) == fused for group in optimizer.param_groups)
        for _ in range(3):
            optimizer.zero_grad()
            # Gradients that do not depend on the weights, so that no rounding grows.
            for number, parameter in enumerate(net.parameters()):
                values = torch.sin(torch.arange(parameter.numel()) + number)
                parameter.grad = torch.empty_like(parameter).copy_(values.view_as(parameter))
            optimizer.step()
        trained.append(net.state_dict())
    for key, value in trained[0].items():
        torch.testing.assert_close(trained[1][key], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", ["tim_resnet10t", "tam_resnet10t", "tsm_mobilenetv2_050"])
def test_gradients_lie_in_memory_as_their_weights_do(
    name: str, channels_last: bool, precision: torch.dtype
) -> None:
    # Fused optimizers on the CPU go through memory and compute nonsense where this is not so.
    temporal, _, backbone = name.partition("_")
    net = create_model(backbone, temporal=temporal, classes=3, frames=2)
    net.channels_last = channels_last
    if channels_last:
        net.lay_out_weights()
    for _ in range(2):
        with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
            scores = net(torch.rand(1, 2, 3, 32, 32))
        scores.float().square().sum().backward()
    for parameter in net.parameters():
        assert parameter.grad is not None
        long = [axis for axis, size in enumerate(parameter.shape) if size > 1]
        strides = [[t.stride(axis) for axis in long] for t in (parameter, parameter.grad)]
        assert strides[0] == strides[1]


def factors(settings: ScheduleSettings, *, epochs: int, steps_per_epoch: int) -> list[float]:
    return [
        rate_factor(s, settings=settings, epochs=epochs, steps_per_epoch=steps_per_epoch)
        for s in range(epochs * steps_per_epoch)
    ]


def test_multistep_drops_at_its_milestones() -> None:
    settings = MultistepSettings(milestones=(2, 3), gamma=0.1)
    expected = [1.0] * 4 + [0.1] * 2 + [0.01] * 2
    assert factors(settings, epochs=4, steps_per_epoch=2) == pytest.approx(expected)


def test_cosine_ends_near_its_floor() -> None:
    values = factors(CosineSettings(), epochs=10, steps_per_epoch=10)
    assert values[0] == 1.0
    assert values[50] == pytest.approx(0.5)
    assert values[-1] < 0.001
    end = rate_factor(100, settings=CosineSettings(), epochs=10, steps_per_epoch=10, floor=0.2)
    assert end == pytest.approx(0.2)


def test_warmup_rises_step_by_step_and_joins_the_schedule() -> None:
    values = factors(CosineSettings(warmup_epochs=2), epochs=10, steps_per_epoch=5)
    assert values[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert values[10] == pytest.approx(1.0)
    assert values[-1] < 0.01
    half = factors(ConstantSettings(warmup_epochs=0.5), epochs=1, steps_per_epoch=4)
    assert half == pytest.approx([0.5, 1.0, 1.0, 1.0])


def test_schedule_moves_all_groups_in_proportion(net: VideoNetwork) -> None:
    settings = SGDSettings(lr=0.1, classifier_lr_mult=5.0)
    optimizer = build_optimizer(net, settings, batch_size=4)
    schedule = build_schedule(
        optimizer,
        MultistepSettings(milestones=(1,)),
        epochs=2,
        steps_per_epoch=1,
        lr=0.1,
    )
    optimizer.step()
    schedule.step()
    assert sorted({g["lr"] for g in optimizer.param_groups}) == pytest.approx([0.01, 0.05])


def test_impossible_schedules_are_named(net: VideoNetwork) -> None:
    optimizer = build_optimizer(net, SGDSettings(), batch_size=4)
    with pytest.raises(OptionError, match=r"warmup_epochs \(5\) is longer than the run \(3"):
        build_schedule(
            optimizer, ConstantSettings(warmup_epochs=5), epochs=3, steps_per_epoch=1, lr=0.1
        )
    with pytest.raises(OptionError, match="min_lr must be at most the learning rate 0.1"):
        build_schedule(optimizer, CosineSettings(min_lr=1.0), epochs=3, steps_per_epoch=1, lr=0.1)


# Norms that are frozen: those of the backbone, of which a module may have taken over some (MTA has
# Res2Net's), and after a transfer those that are new in modules (ME, TSI and TAM have such) too.
FROZEN = {
    "tsn_test_resnet": (14, 14),
    "tsm_test_resnet": (14, 14),
    "tei_test_resnet": (14, 14),
    "gst_test_resnet": (14, 14),
    "gte_test_resnet": (14, 14),
    "tsi_test_resnet": (14, 16),
    "tam_test_resnet": (14, 22),
    "mta_res2net26_26w_4s": (44, 44),
    "tea_res2net26_26w_4s": (44, 60),
}
FROZEN_OF_THE_PAPERS = {
    "tsn_resnet50": (52, 52),
    "tsm_resnet50": (52, 52),
    "tei_resnet50": (52, 52),
    "gst_resnet50": (52, 52),
    "gte_resnet50": (52, 52),
    "tsi_resnet50": (52, 84),
    "tam_resnet50": (52, 84),
    "mta_res2net50_26w_4s": (84, 84),
    "tea_res2net50_26w_4s": (84, 116),
}


def started(name: str, weights: Path | None) -> VideoNetwork:
    return create_model(name, classes=3, frames=4, weights=weights)


def imagenet_of(name: str, folder: Path) -> Path:
    """A file with the weights of the network's backbone alone."""
    file = folder / "imagenet.pth"
    torch.save(started(f"tsn_{name.partition('_')[2]}", None).backbone.state_dict(), file)
    return file


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        *FROZEN.items(),
        *(pytest.param(*row, marks=pytest.mark.slow) for row in FROZEN_OF_THE_PAPERS.items()),
    ],
)
def test_partial_batch_norm_freezes_what_came_from_a_file_but_the_first(
    name: str, counts: tuple[int, int], tmp_path: Path
) -> None:
    trained = save(started(name, None), tmp_path / "trained", labels="abc")
    for weights, count in zip((imagenet_of(name, tmp_path), trained), counts, strict=True):
        net = started(name, weights)
        norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        frozen = frozen_norm_layers(net)
        assert len(frozen) == count
        assert frozen == [norm for norm in norms if norm in set(frozen)]
        assert norms[0] not in set(frozen)
        trains = [norm for norm in norms if all(p.requires_grad for p in norm.parameters())]
        assert len(trains) == len(norms) - count
        groups = parameter_groups(net, SGDSettings(), lr=0.1)
        grouped = {id(p) for group in groups for p in group["params"]}
        assert grouped.isdisjoint(id(p) for layer in frozen for p in layer.parameters())
        assert grouped >= {id(p) for layer in trains for p in layer.parameters()}


def test_norms_from_a_file_without_their_counters_came_from_it_too(tmp_path: Path) -> None:
    tensors = started("tam_test_resnet", None).state_dict()
    file = tmp_path / "model.safetensors"
    save_file({name: t for name, t in tensors.items() if not name.endswith("_tracked")}, file)
    assert len(frozen_norm_layers(started("tam_test_resnet", file))) == 22


def test_partial_batch_norm_of_a_new_network_freezes_that_of_its_backbone() -> None:
    net = create_model("tam_test_resnet", classes=3, frames=2)
    norms = [m for m in net.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert frozen_norm_layers(net) == norms[1:]


def test_partial_batch_norm_needs_batch_norm() -> None:
    net = create_model("convnext_atto", temporal="tsn", classes=3, frames=2)
    with pytest.raises(OptionError, match="freeze_all_but_first.*tsn_convnext_atto has 0"):
        frozen_norm_layers(net)


def test_weight_average_warms_up_and_follows(net: VideoNetwork) -> None:
    assert ema_decay(0.9, 0) == pytest.approx(0.1)
    assert ema_decay(0.9, 10_000) == 0.9
    ema = build_ema(net, 0.9)
    weight, average = net.head.classifier.weight, ema.module.head.classifier.weight
    ema.update_parameters(net)
    start = weight.detach().clone()
    with torch.no_grad():
        weight.add_(1.0)
    ema.update_parameters(net)
    with torch.no_grad():
        weight.sub_(1.0)
    torch.testing.assert_close(average, start + 1 - ema_decay(0.9, 1), rtol=1e-5, atol=1e-6)
