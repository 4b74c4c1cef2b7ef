"""Folded norms and fused convolutions change no score beyond rounding."""

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kinema import create_model
from kinema.errors import OptionError
from kinema.inference.fold import fold_batch_norms
from kinema.inference.fuse import FusedConv, FusedResidual, can_fuse, fuse_convolutions
from kinema.models.network import VideoNetwork

# One of each kind of block, activation and position.
NETWORKS = [
    "tsn_resnet18",
    "tei_resnet18",
    "tanet_resnet18",
    "tsi_resnet18",
    "gte_resnet18",
    "i3d_resnet18",
    "tea_res2net50_26w_4s",
    "tsm_mobilenetv2_100",
    "tsm_shufflenet_v2_x1_0",
    "tim_efficientnet_b0",
    "tim_regnety_004",
]
SLOW = [
    "tsn_inception_v3",
    "ctnet_resnet18",
    "smallbig_extra_resnet14t",
    "tam_slowfast_resnet50",
    "tsm_convnext_tiny",
    "gst_resnet50",
]
needs_fused = pytest.mark.skipif(
    not can_fuse(torch.empty(1)), reason="this PyTorch has no fused convolutions"
)


def trained_like(name: str) -> VideoNetwork:
    """A network whose norms do something: random scales and statistics of real activations."""
    torch.manual_seed(0)
    net = create_model(name, classes=7, frames=4 if "slowfast" not in name else 32)
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
    with torch.no_grad():
        net.train()(clips_for(net))
    return net.eval()


def clips_for(net: VideoNetwork, count: int = 2) -> torch.Tensor:
    return torch.randn(count, net.frames, 3, 96 if "inception" in net.name else 64, 92)


def assert_same_scores(got: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(got, wanted, rtol=0, atol=2e-5 * float(wanted.abs().max()))


@needs_fused
@pytest.mark.parametrize(
    "name", [*NETWORKS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_folded_and_fused_networks_keep_the_scores(name):
    net = trained_like(name)
    clips = clips_for(net)
    with torch.inference_mode():
        wanted = net(clips)
        folded = fold_batch_norms(net).lay_out_weights()
        assert_same_scores(folded(clips), wanted)
        fused = fuse_convolutions(folded, clips)
        assert_same_scores(fused(clips), wanted)
        # Neither the batch nor the size is fixed, and no result overwrites an input.
        assert_same_scores(fused(clips[:1]), wanted[:1])
        other = clips_for(net)[..., :-8]
        assert_same_scores(fused(other), net(other))


@needs_fused
def test_every_norm_is_folded_and_every_block_fused():
    net = trained_like("tsm_resnet18")
    fused = fuse_convolutions(fold_batch_norms(net), clips_for(net))
    kinds = [type(module) for module in fused.modules()]
    assert kinds.count(FusedConv) == 20
    assert kinds.count(FusedResidual) == 8
    assert not {nn.BatchNorm2d, nn.Conv2d, nn.ReLU} & set(kinds)


def test_a_norm_behind_a_changed_tensor_is_not_folded():
    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.act = nn.ReLU(inplace=True)
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.norm(self.act(self.conv(x)))
            return y

    net = create_model("tsn_resnet18", classes=3, frames=2)
    net.backbone = nn.Sequential(Between(), net.backbone)
    net.backbone[0].norm.running_mean.fill_(1)
    net.eval()
    clips = torch.randn(1, 2, 3, 64, 64)
    with torch.inference_mode():
        assert_same_scores(fold_batch_norms(net)(clips), net(clips))


def test_a_convolution_that_feeds_two_norms_keeps_both():
    net = trained_like("tsn_resnet18").insert("bigview", at="replace_conv1", stages=(2,))
    for _, module in net.temporal_modules():
        nn.init.ones_(module.big_norm.weight)
    clips = clips_for(net)
    with torch.inference_mode():
        folded = fold_batch_norms(net.eval())
        assert_same_scores(folded(clips), net(clips))
    norms = [module for module in folded.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 2 * 2


def test_the_network_itself_is_not_changed():
    net = trained_like("tsm_resnet18")
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    fold_batch_norms(net)
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())


def test_folding_in_training_mode_is_refused():
    net = create_model("tsn_resnet18", classes=3, frames=2)
    with pytest.raises(OptionError, match="eval mode only: call net.eval"):
        fold_batch_norms(net.train())


def test_fusing_what_the_processor_cannot_compute_is_refused():
    net = create_model("tsn_resnet18", classes=3, frames=2).eval()
    with pytest.raises(OptionError, match="cannot be fused for torch.float64 on cpu"):
        fuse_convolutions(net, torch.empty(1, 2, 3, 64, 64, dtype=torch.float64))
