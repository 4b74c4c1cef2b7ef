"""One tester over every network of the zoo on every backbone that fits the time."""

import copy
import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from kinema.errors import OptionError, SiteError
from kinema.models.backbones import list_backbones
from kinema.models.families import FAMILIES
from kinema.models.saved import load_saved, save
from kinema.models.shapes_only import shapes_only
from kinema.models.zoo import create_model, list_models

from ..random_weights import NOT_CAUSAL, OTHER_BACKBONES

# Quick: every family on a tiny backbone, and on each quick backbone a module without weights and
# one that depends on the number of frames.
TINY = "test_resnet"
QUICK_BACKBONES = ("mobilenetv2_100", "shufflenet_v2_x1_0")
QUICK_FAMILIES = ("tsm", "tam")
QUICK_ON_RES2NET = ("mta", "tea")
# Backbones with every family that fits. Of the others some have the same blocks, and on the rest a
# few families are tried: a shift, a module that depends on the number of frames, one between a
# convolution and its norm, and one behind the block.
WITH_ALL = ("mobilenetv2_100", "res2net50_26w_4s", "resnet18", "resnet50")
SAME_BLOCKS = ("resnet34", "resnet101", "res2net101_26w_4s")
FEW_FAMILIES = ("tsm", "tam", "gsf", "nl")
ALL = list_backbones()
FRAMES, CLASSES = 4, 3
KEYS = Path(__file__).parent / "state_dict_keys.json"
# Scores that do not depend on the order of the frames: no module mixes them, or one that knows no
# order does.
ORDER_BLIND = ("tsn", "nl")


def _split(name: str) -> tuple[str, str]:
    backbone = max((b for b in (*ALL, TINY) if name.endswith(f"_{b}")), key=len)
    return name.removesuffix(f"_{backbone}"), backbone


def _is_quick(name: str) -> bool:
    family, backbone = _split(name)
    return (
        backbone == TINY
        or (backbone in QUICK_BACKBONES and family in QUICK_FAMILIES)
        or (backbone == "res2net50_26w_4s" and family in QUICK_ON_RES2NET)
    )


def _frames(name: str) -> int:
    return 16 if "slowfast" in name else FRAMES  # two of them in the slow pathway


def _is_tried(name: str) -> bool:
    family, backbone = _split(name)
    return backbone in WITH_ALL or (backbone not in SAME_BLOCKS and family in FEW_FAMILIES)


ON_TINY = [f"{family}_{TINY}" for family in FAMILIES if family not in OTHER_BACKBONES]
NAMES = ON_TINY + [name for name in list_models() if _is_tried(name)]
PARAMS = [n if _is_quick(n) else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]


def made(name: str, **options) -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    net = create_model(name, classes=CLASSES, frames=_frames(name), dropout=0, **options)
    torch.nn.init.normal_(net.head.classifier.weight)
    for module in net.modules():  # backbones start with silent residual branches
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    for _, module in net.temporal_modules():  # and some modules as the identity
        for key, parameter in module.named_parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
            # A softmax or a tanh far out of its slope's range amplifies rounding.
            if key.startswith(("theta", "phi", "gate_weight")):
                parameter.data *= 0.1
    # Small pictures, whose last stage is as large (1 x 1, 2 x 2) as that of 96 and 64 pixels.
    size = 80 if "inception" in name else 48
    x = torch.randn(2, net.clip_frames, 3, size, size)
    _calibrate(net, x)
    return net, x


def _calibrate(net: torch.nn.Module, x: torch.Tensor) -> None:
    """Gives the norms the statistics of this input, as training would."""
    norms = [m for m in net.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.inference_mode():
        net.train()(x)
    for norm in norms:
        norm.momentum = 0.1


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference, relative to the largest score."""
    return float((a - b).abs().max() / a.abs().max())


@dataclass(frozen=True)
class Prepared:
    """A network of the zoo, a batch for it, and its scores."""

    name: str
    net: torch.nn.Module
    x: torch.Tensor
    scores: torch.Tensor

    @property
    def family(self) -> str:
        return _split(self.name)[0]


@pytest.fixture(scope="module", params=PARAMS)
def prepared(request: pytest.FixtureRequest) -> Prepared:
    """Built once for all tests of a network, which pytest runs one after the other."""
    net, x = made(request.param)
    with torch.inference_mode():
        return Prepared(request.param, net, x, net.eval()(x))


@pytest.fixture
def network(prepared: Prepared) -> Prepared:
    """A copy that a test may change."""
    return replace(prepared, net=copy.deepcopy(prepared.net))


def test_forward_and_backward_reach_every_parameter(network):
    network.net.train()(network.x).square().sum().backward()
    for key, parameter in network.net.named_parameters():
        if not parameter.requires_grad:  # MSNet's norm that never runs
            assert "unused" in key
            continue
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    for _, module in network.net.temporal_modules():
        for key, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            # The few units of TIN's offset net, and of SE on SlowFast's 8 channels, may all rest.
            assert parameter.grad.any() or key.startswith(("offset", "frame_branch")), key


def test_a_clip_does_not_depend_on_the_others_of_its_batch(prepared):
    with torch.inference_mode():
        assert difference(prepared.scores[:1], prepared.net(prepared.x[:1])) < 2e-3


def test_the_order_of_the_frames_matters_where_it_should(prepared):
    with torch.inference_mode():
        order = [2, 0, 3, 1, *range(4, prepared.net.clip_frames)]
        mixed = prepared.net(prepared.x[:, order])
    if prepared.family in ORDER_BLIND and "slowfast" not in prepared.name:
        assert difference(prepared.scores, mixed) < 2e-3
    else:
        assert difference(prepared.scores, mixed) > 5e-3


def test_memory_layout_does_not_change_the_scores(network):
    network.net.channels_last = False
    with torch.inference_mode():
        assert difference(network.net(network.x), network.scores) < 2e-3


def test_saved_and_loaded_it_is_the_same(prepared, tmp_path):
    net = prepared.net
    loaded = load_saved(save(net, tmp_path / "model", labels=["a", "b", "c"])).net
    assert list(loaded.state_dict()) == list(net.state_dict())
    with torch.inference_mode():
        assert torch.equal(loaded(prepared.x), prepared.scores)


def test_taking_the_modules_out_leaves_the_plain_backbone(network):
    if not FAMILIES[network.family]:
        with pytest.raises(SiteError, match="has no temporal module"):
            network.net.remove()
        return
    _, backbone = _split(network.name)
    with shapes_only():  # only its shapes are asked for
        plain = create_model(f"tsn_{backbone}", classes=CLASSES, frames=network.net.frames)
        if network.net.snippet > 1:  # its short-term branch is part of the backbone
            plain.take_snippets(network.net.snippet)
    removed, expected = network.net.remove().state_dict(), plain.state_dict()
    # A module that took a convolution's place has taken over its weights, not its numbers.
    assert list(removed) == list(expected)
    assert [t.shape for t in removed.values()] == [t.shape for t in expected.values()]


def fingerprint(net: torch.nn.Module) -> str:
    """A short hash of the names and shapes of all tensors."""
    state = sorted(net.state_dict().items())
    text = "".join(f"{key}{tuple(value.shape)}\n" for key, value in state)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def planned(name: str) -> torch.nn.Module:
    """The network without weights."""
    with shapes_only():
        return create_model(name, classes=CLASSES, frames=_frames(name))


@pytest.mark.parametrize(
    "backbone", [b if b == "resnet18" else pytest.param(b, marks=pytest.mark.slow) for b in ALL]
)
def test_every_listed_network_can_be_built_and_loads_checkpoints_of_today(backbone):
    known = json.loads(KEYS.read_text())
    for name in (f"{family}_{backbone}" for family in FAMILIES):
        if name not in list_models():
            with pytest.raises((OptionError, SiteError)):
                planned(name)
            assert name not in known
        else:
            assert fingerprint(planned(name)) == known.get(name), (
                f"The tensors of {name} have other names or shapes than before, so older "
                "checkpoints no longer load. If that is intended, run "
                "`python -m tests.model.test_every_network`."
            )


@pytest.mark.parametrize("name", ON_TINY)
def test_a_causal_network_never_looks_ahead(name):
    family, _ = _split(name)
    if family in NOT_CAUSAL:
        with pytest.raises(OptionError, match="has no causal form"):
            made(name, causal=True)
        return
    net, x = made(name, causal=True)
    later = x.clone()
    later[:, 2:] = torch.randn_like(later[:, 2:])
    with torch.inference_mode():
        before, after = net.eval().frame_scores(x), net.frame_scores(later)
    torch.testing.assert_close(before[:, :2], after[:, :2], rtol=1e-4, atol=1e-4)
    assert family == "tsn" or not torch.allclose(before[:, 3], after[:, 3], atol=1e-3)


if __name__ == "__main__":
    PRINTS = {name: fingerprint(planned(name)) for name in list_models()}
    KEYS.write_text(json.dumps(PRINTS, indent=1) + "\n")
