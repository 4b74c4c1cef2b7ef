"""Sites: where modules can go, what placements reach, what they refuse."""

import pytest
import torch
from torch import nn

from kinema.errors import OptionError, SiteError, UnknownNameError
from kinema.models.network import VideoNetwork
from kinema.models.zoo import create_model
from kinema.temporal import TemporalModule, register, temporal_named
from kinema.temporal.base import _REGISTRY


@pytest.fixture
def plain() -> VideoNetwork:
    return VideoNetwork("plain", "resnet18", classes=3, frames=4).eval()


@pytest.fixture
def conv_swap():
    """A module for the replace positions: the convolution itself, halved."""

    @register("conv_swap", at="replace_conv2")
    class ConvSwap(TemporalModule):
        def __init__(self, conv: nn.Conv2d, *, frames: int, scale: float = 0.5) -> None:
            super().__init__(frames=frames, look_back=0, look_ahead=0)
            self.conv, self.scale = conv, scale

        @classmethod
        def from_conv(cls, conv: nn.Module, *, frames: int, **options: float) -> "ConvSwap":
            return cls(conv, frames=frames, **options)

        def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
            return self.conv(x_NCHW) * self.scale

    yield
    del _REGISTRY["conv_swap"]


def placed(net: VideoNetwork) -> list[str]:
    return [str(site) for site in net.sites() if site.modules]


def clips(frames: int = 4) -> torch.Tensor:
    return torch.randn(2, frames, 3, 32, 32)


def test_a_bottleneck_offers_every_position_with_its_width():
    net = VideoNetwork("plain", "resnet50", classes=3, frames=4)
    first = {site.at: site.channels for site in net.sites() if (site.stage, site.block) == (3, 0)}
    assert first == {
        "block": 256,
        "before_conv1": 256,
        "replace_conv1": 256,
        "after_conv1": 128,
        "replace_conv2": 128,
        "after_conv2": 128,
        "replace_conv3": 128,
        "before_addition": 512,
        "after_block": 512,
    }


@pytest.mark.parametrize(
    ("placement", "reached"),
    [
        ({}, 8),
        ({"stages": (5,)}, 2),
        ({"stages": (4, 5), "blocks": "first"}, 2),
        ({"blocks": [1]}, 4),
        ({"blocks": {2: [0, 1], 5: [1]}}, 3),
        ({"at": "b"}, 8),
        ({"at": "before_addition", "stages": [2]}, 2),
        ({"at": "block"}, 8),
        ({"blocks": "all_or_even"}, 8),
        ({"blocks": "even"}, 4),
        ({"blocks": "odd"}, 4),
        ({"blocks": 3}, 3),
        ({"at": ("after_conv2", "after_conv1"), "stages": (3,)}, 2),
    ],
)
def test_placements_reach_the_sites_they_name(plain, placement, reached):
    plain.insert("tim", **placement)
    assert len(placed(plain)) == reached == len(plain.temporal_modules())


def test_every_second_block_in_a_deep_network():
    net = create_model("tsm_resnet101", classes=3)
    blocks = [site.block for site in net.sites() if site.modules]
    assert len(blocks) == 2 + 2 + 12 + 2
    assert all(block % 2 == 0 for block in blocks)
    # The depth of the network counts, not that of the chosen stages.
    last = create_model("tsm_resnet101", classes=3, stages=(5,))
    assert [site.block for site in last.sites() if site.modules] == [0, 2]


@pytest.mark.parametrize(
    ("placement", "error", "message"),
    [
        ({"stages": (6,)}, SiteError, "no site 'before_conv1' in stage 6. .*: 2, 3, 4, 5"),
        ({"blocks": [7]}, SiteError, "no site in block 7 of stage 2. .*: \\[0, 1\\]"),
        ({"blocks": {2: [3]}}, SiteError, "no site in block 3 of stage 2"),
        ({"blocks": []}, SiteError, "matches no site 'before_conv1'"),
        ({"stages": ()}, SiteError, "matches no site"),
        ({"at": "after_conv2"}, SiteError, "resnet18 has no site 'after_conv2'. It offers: block"),
        ({"at": "before_conv"}, UnknownNameError, "Did you mean 'before_conv1'"),
        ({"blocks": "last"}, OptionError, "blocks must be one of all, first"),
        ({"blocks": 9}, OptionError, "counted from the output, must be between 1 and 8"),
        ({"divisr": 4}, UnknownNameError, "no option 'divisr'. Did you mean 'divisor'"),
    ],
)
def test_wrong_placements_are_errors(plain, placement, error, message):
    with pytest.raises(error, match=message):
        plain.insert("tim", **placement)
    assert placed(plain) == []


def test_the_same_module_twice_at_a_site_is_an_error(plain):
    plain.insert("tim", stages=(5,))
    with pytest.raises(SiteError, match="'tim' is already inserted at res5.0 before_conv1"):
        plain.insert("tim", stages=(5,))


def test_two_modules_at_one_site_run_in_order_of_insertion(plain):
    plain.insert("tsm", stages=(2,)).insert("tim", stages=(2,))
    assert [s.modules for s in plain.sites() if s.modules] == [("tsm", "tim")] * 2


def test_removing_restores_the_plain_network(plain):
    x, keys = clips(), list(plain.state_dict())
    plain.head.classifier.weight.data.normal_()
    for norm in (m for m in plain.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    before = plain(x)
    plain.insert("tim").insert("tsm", at="after_conv1")
    assert not torch.allclose(plain(x), before)
    plain.remove("tim")
    assert {m for s in plain.sites() for m in s.modules} == {"tsm"}
    plain.remove()
    assert list(plain.state_dict()) == keys
    assert torch.equal(plain(x), before)
    assert plain.spec.insertions == ()


def test_norms_that_a_module_takes_over_stay_frozen():
    net = VideoNetwork("mta", "res2net26_26w_4s", classes=3, frames=2)
    frozen = [norm.eval() for norm in net.modules() if isinstance(norm, nn.BatchNorm2d)]
    net.insert("mta")
    inside = [part for _, module in net.temporal_modules() for part in module.modules()]
    assert len(set(frozen) & set(inside)) == 24
    assert not any(norm.training for norm in frozen)
    assert all(part.training for part in inside if part not in set(frozen))
    net.remove("mta")
    assert not any(norm.training for norm in frozen)


def test_a_module_takes_the_norm_behind_its_convolution_and_gives_it_back(plain):
    x, keys = clips(), list(plain.state_dict())
    block, other = plain.backbone.layer1[0], plain.backbone.layer1[1]
    norm = block.bn2.train()  # the mode that norm has stays
    plain.insert("tim", at="before_addition", stages=(2,))
    plain.insert("bigview", at="replace_conv2", stages=(2,), blocks="first")
    assert block.conv2.layer.small_norm is norm
    assert norm.training
    assert not block.conv2.layer.big_norm.training
    assert not list(block.bn2.layer.parameters())
    assert isinstance(other.bn2.layer, nn.BatchNorm2d)
    plain.double().remove("bigview")
    assert block.bn2.layer is norm
    assert [s.modules for s in plain.sites() if s.modules] == [("tim",)] * 2
    plain.remove("tim")
    assert block.bn2 is norm
    assert norm.training
    assert list(plain.state_dict()) == keys
    assert plain(x.double()).dtype == torch.float64


def test_a_norm_that_is_left_out_comes_back_in_the_type_of_the_network(plain):
    keys, norm = list(plain.state_dict()), plain.backbone.layer1[1].bn2
    plain.insert("ctnet", stages=(2,), blocks="odd")
    assert not any(module.training for module in plain.modules())
    plain.double().train()
    assert norm.weight.dtype == torch.float32
    plain.remove()
    assert plain.backbone.layer1[1].bn2 is norm
    assert norm.weight.dtype == torch.float64
    assert norm.training
    assert list(plain.state_dict()) == keys


def test_a_block_whose_norm_no_row_names_takes_no_module_that_replaces_one():
    net = VideoNetwork("plain", "mobilenetv2_100", classes=3, frames=4)
    message = (
        "'bigview' replaces a convolution and the norm behind it, but the block table names no "
        "norm behind blocks.2.0.conv_pw. Use a backbone such as resnet50"
    )
    with pytest.raises(SiteError, match=message):
        net.insert("bigview", stages=(3,))


def test_removing_what_is_not_there_is_an_error(plain):
    with pytest.raises(SiteError, match="no temporal module 'tsm' to remove. It has: tim"):
        plain.insert("tim").remove("tsm")


def test_the_identity_path_is_shifted_only_by_the_block_placement(plain):
    frames = torch.randn(4, 64, 8, 8)
    block = plain.backbone.layer1[0]
    nn.init.zeros_(block.bn2.weight)  # silences the residual branch
    assert torch.equal(block(frames), frames.relu())
    plain.insert("tsm", at="residual", stages=(2,))
    assert torch.equal(plain.backbone.layer1[0](frames), frames.relu())
    plain.remove().insert("tsm", at="block", stages=(2,))
    shifted = temporal_named("tsm").module(64, frames=4)(frames)
    assert torch.equal(plain.backbone.layer1[0](frames), shifted.relu())


@pytest.mark.usefixtures("conv_swap")
def test_a_replacement_takes_the_convolution_and_gives_it_back(plain):
    conv = plain.backbone.layer1[0].conv2
    params = sum(p.numel() for p in plain.parameters())
    plain.insert("conv_swap", stages=(2,), scale=0.25)
    plain.insert("tim", at="after_conv1", stages=(2,))
    host = plain.backbone.layer1[0].conv2
    assert host.layer.conv is conv
    assert sum(p.numel() for p in plain.parameters()) == params + 2 * 3 * 64
    with pytest.raises(SiteError, match="'conv_swap' is already inserted"):
        plain.insert("conv_swap")
    plain.remove("conv_swap")
    assert plain.backbone.layer1[0].conv2.layer is conv
    plain.remove("tim")
    assert plain.backbone.layer1[0].conv2 is conv


@pytest.mark.usefixtures("conv_swap")
def test_modules_come_in_the_mode_and_type_of_the_network(plain):
    plain.double().eval()
    plain.insert("conv_swap").insert("tam").insert("se")
    assert not any(module.training for module in plain.modules())
    assert plain(clips().double()).dtype == torch.float64
    plain.float().remove("conv_swap")
    assert plain(clips()).dtype == torch.float32


def test_a_fusion_by_a_convolution_needs_one(plain):
    with pytest.raises(OptionError, match="'tsi' replaces a convolution: put it at"):
        plain.insert("tsi", fusion="concat", at="after_conv1")


def test_an_insertion_that_fails_leaves_the_network_as_it_was(plain):
    keys = list(plain.state_dict())
    with pytest.raises(OptionError, match="groups must be at least 2 and divide the 64"):
        plain.insert("cti", groups=5)
    net = VideoNetwork("plain", "shufflenet_v2_x1_0", classes=3, frames=4)
    with pytest.raises(OptionError, match="GSM needs a multiple of 4 channels, got 58"):
        net.insert("gsm")  # the first block has 24 channels
    assert list(plain.state_dict()) == keys
    assert not placed(plain)
    assert not placed(net)


def test_a_number_of_blocks_counts_from_the_output(plain):
    assert placed(plain.insert("tam", blocks=3)) == [
        "res4.1 after_conv1",
        "res5.0 after_conv1",
        "res5.1 after_conv1",
    ]


def test_basic_blocks_have_a_place_for_what_sits_behind_conv2(plain):
    plain.insert("tsi", stages=(5,))
    assert placed(plain) == ["res5.0 after_conv1", "res5.1 after_conv1"]
    plain.remove().insert("tsi", stages=(5,), fusion="concat")
    assert placed(plain) == ["res5.0 replace_conv2", "res5.1 replace_conv2"]
    assert plain(clips()).shape == (2, 3)


def test_a_module_without_a_replacing_form_says_so(plain):
    with pytest.raises(OptionError, match="TIM cannot replace a convolution"):
        plain.insert("tim", at="replace_conv1")


@pytest.mark.parametrize(
    ("backbone", "reason"),
    [
        ("test_vit", r"timm.models.vision_transformer.Block [(]6x[)].*register_blocks .*--plugin"),
        ("vgg11", r"layers lie in timm.models.vgg.VGG without blocks, .*register_blocks"),
        ("hrnet_w18_small", r"stages are not layers of the network \('stem' is not one\)"),
    ],
)
def test_a_backbone_without_known_blocks_names_the_reason_and_the_remedy(backbone, reason):
    with torch.device("meta"):
        net = VideoNetwork("plain", backbone, classes=3, frames=2)
    assert net.sites() == ()
    with pytest.raises(SiteError, match=reason):
        net.insert("tsm")
