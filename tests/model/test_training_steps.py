"""Two training steps of every network in float32 (8 frames) and bfloat16 (16), without NaN.

The networks start from a backbone whose norms hold the statistics of natural-looking input, as an
ImageNet backbone's do.
"""

import pytest
import torch
from torch import nn

from kinema.models.families import FAMILIES
from kinema.models.zoo import create_model

from ..random_weights import OTHER_BACKBONES

SIZE_PX = 48


def smooth_clips(frames: int) -> torch.Tensor:
    """Moving, smooth, normalized pictures."""
    coarse = torch.randn(2 * frames, 3, 6, 6)
    for t in range(1, 2 * frames):
        coarse[t] = 0.7 * coarse[t - 1].roll(1, 2) + 0.3 * coarse[t]
    size = (SIZE_PX, SIZE_PX)
    fine = nn.functional.interpolate(coarse, size, mode="bilinear") + 0.1 * torch.randn(3, *size)
    return fine.unflatten(0, (2, frames))


@pytest.fixture(scope="module")
def backbone_weights(tmp_path_factory):
    """Weight files of backbones with the statistics of such pictures in their norms."""
    folder, files = tmp_path_factory.mktemp("weights"), {}
    for backbone in sorted({"resnet18", *OTHER_BACKBONES.values()}):
        torch.manual_seed(0)
        net = create_model(f"tsn_{backbone}", classes=2)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                module.momentum = None
        with torch.inference_mode():
            for _ in range(3):
                net.train()(smooth_clips(8))
        files[backbone] = folder / f"{backbone}.pth"
        torch.save(net.backbone.state_dict(), files[backbone])
    return files


NETWORKS = [(family, {}) for family in FAMILIES] + [
    ("sme", {"channel_attention": False}),
    ("tsi", {"channel_attention": False}),
    ("tsi", {"fusion": "concat"}),
    ("me", {"transform": "both", "gate_scale": 2.0}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "frames"), [("float32", 8), ("bfloat16", 16)])
@pytest.mark.parametrize(("family", "options"), NETWORKS)
def test_two_steps_stay_finite(family, options, precision, frames, backbone_weights):
    torch.manual_seed(1)
    backbone = OTHER_BACKBONES.get(family, "resnet18")
    net = create_model(
        f"{family}_{backbone}",
        classes=4,
        frames=frames,
        weights=backbone_weights[backbone],
        **options,
    ).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    clips, labels = smooth_clips(net.clip_frames), torch.tensor([0, 3])
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = nn.functional.cross_entropy(net(clips), labels)
        optimizer.zero_grad()
        loss.backward()
        for key, parameter in net.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, key
                assert parameter.grad.isfinite().all(), key
        optimizer.step()
        assert loss.isfinite()
    assert all(parameter.isfinite().all() for parameter in net.parameters())
