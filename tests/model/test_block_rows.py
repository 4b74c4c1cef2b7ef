"""Every row of the block table on the smallest timm network that has its blocks."""

import pytest
import torch
from torch import nn

from kinema.errors import OptionError, SiteError
from kinema.models.backbones import list_backbones
from kinema.models.blocks import registered_blocks, row_of
from kinema.models.network import VideoNetwork
from kinema.models.zoo import create_model
from kinema.temporal import POSITIONS

from ..random_weights import randomized

FRAMES, SIZE_PX = 4, 64
ALL = {*POSITIONS}
NO_CONV3 = ALL - {"after_conv2", "replace_conv3"}
ONE_CONV = NO_CONV3 - {"after_conv1", "replace_conv2"}
AROUND = {"block", "after_block"}

# The positions of each network, and the class of its blocks where others share its sites.
NETWORKS = {
    "resnetv2_18": NO_CONV3,
    "resnetv2_50": ALL,
    "darknet17": NO_CONV3,
    "cspdarknet53": NO_CONV3,
    "cspresnet50": ALL,
    "ghostnet_050": ALL,
    "ghostnetv2_100": ALL,
    "ghostnetv3_050": NO_CONV3,
    "densenet121": NO_CONV3 - AROUND,
    "mobileone_s0": AROUND,
    "repvgg_a0": AROUND,
    "mobilenetv4_conv_small_035": ALL,
    "fastvit_t8": ALL,
    "fastvit_sa12": ALL,
    "repvit_m0_9": NO_CONV3,
    "hgnetv2_b0": ALL - {"before_addition"},
    "ese_vovnet19b_slim": ALL - {"before_addition"},
    "ese_vovnet19b_slim_dw": ALL - {"before_addition"},
    "starnet_s050": ONE_CONV,
}
# A ghost module or a group of layers is no convolution that another could take the place of.
NO_CONV2D = ("ghostnet", "hgnetv2")
QUICK = (
    "resnetv2_18",
    "darknet17",
    "ghostnet_050",
    "mobilenetv4_conv_small_035",
    "ese_vovnet19b_slim_dw",
    "starnet_s050",
)
networks = pytest.mark.parametrize(
    "backbone",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS],
)


def built(backbone: str) -> VideoNetwork:
    torch.manual_seed(0)
    net = randomized(VideoNetwork("plain", backbone, classes=3, frames=FRAMES, dropout=0))
    # Statistics of real activations: constants would hide what a module changes.
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        net.train()(torch.randn(2, FRAMES, 3, SIZE_PX, SIZE_PX))
    return net.eval()


def place_of(net: VideoNetwork) -> tuple[str, int]:
    """A position that every network has, or the one in front of a whole block."""
    at = "before_conv1" if any(s.at == "before_conv1" for s in net.sites()) else "block"
    return at, sum(site.at == at for site in net.sites())


@networks
def test_sites_have_the_width_and_the_resolution_that_they_state(backbone):
    net = built(backbone)
    sites = net.sites()
    assert {site.at for site in sites} == NETWORKS[backbone]
    # The first stages of MobileNetV4 are plain convolutions.
    first = 4 if backbone.startswith("mobilenetv4") else 2
    assert {*range(first, 6)} <= {site.stage for site in sites}
    layers = dict(net.backbone.named_modules())
    seen: dict[str, tuple[torch.Size, torch.Size]] = {}

    def record(path):
        return lambda _, inputs, output: seen.update({path: (inputs[0].shape, output.shape)})

    for site in sites:
        layers[site.path].register_forward_hook(record(site.path))
    with torch.inference_mode():
        net(torch.randn(1, FRAMES, 3, SIZE_PX, SIZE_PX))
    for site in sites:
        entered, left = seen[site.path]
        behind = site.at in ("before_addition", "after_block")
        assert (left if behind else entered)[1] == site.channels, str(site)
        if behind:  # GhostNet's first block is in front of the one that makes its stage smaller
            sizes = (SIZE_PX >> site.stage, SIZE_PX >> site.stage - 1)
            assert left[2] in sizes[: 2 if "ghost" in backbone else 1], str(site)


@networks
def test_a_module_in_every_site_changes_the_scores_and_gets_gradients(backbone):
    net = built(backbone)
    x = torch.randn(1, FRAMES, 3, SIZE_PX, SIZE_PX)
    at, count = place_of(net)
    with torch.inference_mode():
        before = net.frame_scores(x)
    macs = net.cost(SIZE_PX).macs
    net.insert("tim", at=at, init="random")
    assert len(net.temporal_modules()) == count
    with torch.inference_mode():
        assert (net.frame_scores(x) - before).abs().max() > 1e-2 * before.abs().max()
    cost = net.cost(SIZE_PX)
    assert cost.macs == macs + cost.temporal_macs
    assert cost.temporal_macs > 0
    net(x).square().sum().backward()
    for name, module in net.temporal_modules():
        assert all(p.grad is not None and p.grad.any() for p in module.parameters()), name


@networks
@pytest.mark.parametrize("module", ["tsm", "tim"])
def test_frame_by_frame_equals_the_whole_video(backbone, module):
    net = built(backbone)
    net.insert(module, at=place_of(net)[0], causal=True)
    video = torch.randn(2, 6, 3, SIZE_PX, SIZE_PX)
    step = net.streaming(batch=2)
    with torch.inference_mode():
        wanted = net.frame_scores(video)
        got = torch.stack([step(frames) for frames in video.unbind(1)], 1)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "at"),
    [(name, at) for name in NETWORKS for at in POSITIONS if at in NETWORKS[name]],
)
def test_a_module_trains_at_every_position_that_is_offered(backbone, at):
    net = built(backbone).train()
    if at.startswith("replace") and backbone.startswith(NO_CONV2D):
        with pytest.raises(OptionError, match="replaces a Conv2d, but this backbone has"):
            net.insert("i3d", at=at)
        return
    net.insert("i3d" if at.startswith("replace") else "mem", at=at)
    net(torch.randn(2, FRAMES, 3, SIZE_PX, SIZE_PX)).square().sum().backward()
    for name, module in net.temporal_modules():
        assert any(p.grad is not None and p.grad.any() for p in module.parameters()), name


def test_every_timm_row_names_a_class_that_timm_has():
    for name in registered_blocks():
        module, _, kind = name.rpartition(".")
        if module.startswith(("timm.", "torchvision.", "kinema.")):
            assert hasattr(__import__(module, fromlist=[kind]), kind), name


@pytest.mark.slow
def test_every_row_is_of_a_network_that_the_tests_build():
    others = ("efficientnet_b0", "tf_efficientnetv2_b0", "regnetx_002", "test_convnext")
    found = set()
    for backbone in (*NETWORKS, *others, *list_backbones(), "cs3edgenet_x"):
        with torch.device("meta"):  # only its modules are looked at
            net = VideoNetwork("plain", backbone, classes=3, frames=8)  # SlowFast's smallest clip
        found |= {row.block for m in net.backbone.modules() if (row := row_of(m)) is not None}
    own = {name for name in registered_blocks() if name.startswith(("timm.", "torchvision."))}
    assert own <= found


def test_a_position_that_a_family_lacks_names_those_it_has():
    with pytest.raises(SiteError, match="mobileone_s0 has no site 'before_conv1'. It offers: blo"):
        create_model("tsm_mobileone_s0", classes=3)
