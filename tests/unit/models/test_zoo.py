"""Named networks: mixes, presets, placements, options, and SlowFast."""

import re

import pytest
import torch

from kinema.errors import CheckpointError, OptionError, SiteError, UnknownNameError
from kinema.models import blocks
from kinema.models.convert.names import common_name
from kinema.models.families import families
from kinema.models.placement import Part
from kinema.models.zoo import create_model, list_models
from kinema.temporal import MTA, TemporalModule, base, list_temporal


def placed(net) -> dict[str, list[str]]:
    return {str(site): list(site.modules) for site in net.sites() if site.modules}


def small(name: str, **options):
    return create_model(name, classes=3, frames=4, **options)


def test_a_mix_runs_its_modules_in_the_order_of_its_name():
    net = small("mem+tsm_resnet18", stages=(5,))
    assert net.name == "mem+tsm_resnet18"
    assert placed(net) == {f"res5.{b} before_conv1": ["mem", "tsm"] for b in (0, 1)}
    same = small("resnet18", temporal="mem+tsm", stages=(5,))
    assert same.spec == net.spec


def test_a_mix_contains_what_its_words_say():
    """TSI's tables 4 and 5: the baseline Res50 + TIM, and ME or SME added to it."""
    at_c = "after_conv1"  # the last position before the end in blocks of two convolutions
    for module in ("me", "sme"):
        assert placed(small(f"{module}_resnet18", stages=(5,), blocks="first")) == {
            f"res5.0 {at_c}": [module]
        }
        assert placed(small(f"tim+{module}_resnet18", stages=(5,), blocks="first")) == {
            "res5.0 before_conv1": ["tim"],
            f"res5.0 {at_c}": [module],
        }
        # The partial networks of the papers have TIM behind the module, at its position.
        assert placed(small(f"{module}_tim_resnet18", stages=(5,), blocks="first")) == {
            f"res5.0 {at_c}": [module, "tim"]
        }
    net = small("tim+sme_resnet50")
    assert len(placed(net)) == 32
    assert {(s.at, s.modules) for s in net.sites() if s.modules} == {
        ("before_conv1", ("tim",)),
        ("after_conv2", ("sme",)),
    }


def test_a_family_with_the_name_of_a_module_is_this_module_alone():
    for name in set(list_temporal()) & set(families()):
        assert [part.module for part in families()[name]] == [name]


@pytest.mark.parametrize(
    ("mix", "having"),
    [("tim+sme_tim", "tim and sme_tim"), ("tim+tim", "tim and tim"), ("tea+me", "tea and me")],
)
def test_a_module_twice_in_a_mix_is_an_error(mix, having):
    module = "me" if "tea" in mix else "tim"
    message = re.escape(f"{mix} has the temporal module {module!r} twice: in {having}. Leave one")
    with pytest.raises(OptionError, match=message):
        small("res2net50_26w_4s" if "tea" in mix else "resnet18", temporal=mix)


def test_each_part_has_its_own_placement_and_options():
    parts = [
        Part("tim", at="after_conv1", stages=(4,), options={"init": "random"}),
        Part("tim", at="before_conv1", stages=(5,), blocks="first"),
        Part("gst_large", stages="efficient", blocks=[1]),
    ]
    net = small("resnet50", parts=parts)
    assert net.name == "tim+tim+gst_large_resnet50"
    found = [(i.module, i.at, i.blocks, dict(i.options)) for i in net.spec.insertions]
    assert found == [
        ("tim", "after_conv1", tuple((4, b) for b in range(6)), {"init": "random"}),
        ("tim", "before_conv1", ((5, 0),), {}),
        ("gst", "replace_conv2", ((4, 1), (5, 1)), {"beta": 1}),
    ]


def test_a_part_takes_from_the_shared_arguments_then_from_its_paper_what_it_does_not_say():
    parts = [Part("r2plus1d_cw"), Part("sme", stages=(4,), options={"pyramid": 2})]
    net = small("resnet50", parts=parts, stages=(5,), blocks="first", reduction=8)
    found = [(i.module, i.at, i.blocks, dict(i.options)) for i in net.spec.insertions]
    assert found == [
        ("tim", "after_conv1", ((5, 0),), {"init": "random"}),
        ("sme", "after_conv2", ((4, 0),), {"pyramid": 2, "reduction": 8}),
    ]
    same = small("resnet18", parts=[Part("tsm")])
    assert same.spec == small("tsm_resnet18").spec
    assert small("resnet101", parts=[Part("tsm")]).spec == small("tsm_resnet101").spec


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"parts": []}, OptionError, "parts is empty: list a module"),
        ({"parts": [Part("tim")], "temporal": "me"}, OptionError, "either parts or temporal='me'"),
        ({"parts": [Part("tei")]}, OptionError, "one module, but tei has mem and tim. List each"),
        ({"parts": [Part("tsn")]}, OptionError, "but tsn has no temporal module"),
        ({"parts": [Part("timm")]}, UnknownNameError, "Unknown temporal module 'timm'.*'tim'"),
        ({"parts": [Part("tim", at="befor_conv1")]}, UnknownNameError, "befor_conv1"),
        (
            {"parts": [Part("tim", options={"initt": "random"})]},
            UnknownNameError,
            "'tim' has no option 'initt'.*'init'",
        ),
        ({"parts": [Part("tim"), Part("tim")]}, SiteError, "'tim' is already inserted at res2.0"),
        (
            {"parts": [Part("tim", at="a"), Part("me", at="b")], "at": "c"},
            OptionError,
            r"at has no effect: every part of tim\+me has its own",
        ),
        (
            {"parts": [Part("tim", options={"init": "random"}), Part("me")], "init": "identity"},
            OptionError,
            "init has no effect",
        ),
    ],
)
def test_wrong_parts_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        small("resnet18", **arguments)


def test_other_names_of_the_literature_build_the_same():
    assert small("tanet_resnet18").spec == small("tam_resnet18").spec
    assert small("teinet_resnet18").name == "tei_resnet18"


class ReadsWeights(TemporalModule):
    """A user's module that reads its weights while it is built."""

    def __init__(self, channels: int, *, frames: int) -> None:
        super().__init__(frames=frames, look_back=0, look_ahead=0)
        self.weight = torch.nn.Parameter(torch.ones(channels))
        self.first = float(self.weight[0])

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        return x_NCHW * self.weight[:, None, None]


@pytest.mark.parametrize("own", [False, True])
def test_a_module_that_reads_weights_is_listed_unless_it_is_ours(monkeypatch, own):
    monkeypatch.setattr(base, "_REGISTRY", dict(base._REGISTRY))
    kind = type("Reading", (ReadsWeights,), {"__module__": f"kinema{'.' if own else '_plugin_'}x"})
    base.register("reading", at="before_conv1")(kind)
    if own:
        with pytest.raises(RuntimeError, match="meta"):
            list_models("reading_resnet18")
    else:
        assert list_models("reading_resnet18") == ["reading_resnet18"]
        assert placed(small("reading_resnet18", stages=(5,), blocks="first"))


def test_a_backbone_that_reads_weights_is_listed(monkeypatch):
    def build() -> torch.nn.Module:
        raise NotImplementedError("Cannot copy out of meta tensor; no data!")

    monkeypatch.setattr(blocks, "_ROWS", dict(blocks._ROWS))
    monkeypatch.setattr(blocks, "_BACKBONES", dict(blocks._BACKBONES))
    blocks.register_blocks("my.Block", convs=("conv",), backbones={"reading": build})
    assert list_models("tsm_reading") == ["tsm_reading"]


def test_stage_presets():
    stages = {s.stage for s in small("tei_resnet18", stages="efficient").sites() if s.modules}
    assert stages == {4, 5}
    assert small("tei_resnet18", stages="default").spec == small("tei_resnet18").spec
    with pytest.raises(UnknownNameError, match="Unknown stages 'eficient'. .*'efficient'"):
        small("tei_resnet18", stages="eficient")


@pytest.mark.parametrize("style", "abcd")
def test_styles_of_the_ta_block_are_positions(style):
    position = {"a": "before_conv1", "b": "after_conv1", "c": "after_conv2", "d": "before_addition"}
    net = create_model("tam_resnet50", classes=3, at=style, stages=(5,))
    assert {s.at for s in net.sites() if s.modules} == {position[style]}


def test_non_local_blocks_sit_behind_every_second_block_of_res3_and_res4():
    net = create_model("tsm_nl_resnet50", classes=3)
    found = [(s.stage, s.block) for s in net.sites() if "nl" in s.modules]
    assert found == [(3, 0), (3, 2), (4, 0), (4, 2), (4, 4)]


def test_smallbig_has_a_big_view_of_every_convolution_from_res3_on():
    net = small("smallbig_extra_resnet50")
    found = [(i.module, i.at, len(i.blocks), dict(i.options)) for i in net.spec.insertions]
    assert found == [
        ("maxgate", "block", 13, {}),
        ("bigview", "replace_conv1", 13, {}),
        ("bigview", "replace_conv2", 13, {}),
        ("bigview", "replace_conv3", 13, {"window": "clip"}),
    ]
    assert {stage for i in net.spec.insertions for stage, _ in i.blocks} == {3, 4, 5}


def test_smallbig_starts_as_its_backbone_and_does_not_see_the_direction_of_time():
    torch.manual_seed(0)
    plain = create_model("tsn_resnet14t", classes=3, frames=4).eval()
    net = create_model("smallbig_extra_resnet14t", classes=3, frames=4).eval()
    names = {common_name(name): name for name in net.state_dict()}
    state = {names[common_name(name)]: value for name, value in plain.state_dict().items()}
    net.load_state_dict(state, strict=False)
    clips = torch.randn(1, 4, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(net(clips), plain(clips))
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.weight, 0.5, 1)
        scores = net(clips)
        torch.testing.assert_close(net(clips.flip(1)), scores, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(net(clips[:, [2, 0, 3, 1]]), scores, rtol=1e-3)


def test_ctnet_replaces_seven_blocks_of_resnet50():
    assert list(placed(small("ctnet_resnet50"))) == [
        f"res{stage}.{block} replace_conv2"
        for stage, block in [(2, 1), (3, 1), (3, 3), (4, 1), (4, 3), (4, 5), (5, 1)]
    ]


def test_tsm_of_mobilenet_shifts_its_ten_blocks():
    assert len(placed(small("tsm_mobilenetv2_100"))) == 10


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("tea_resnet18", OptionError, "needs the group of convolutions of a Res2Net block"),
        ("gst_mobilenetv2_100", OptionError, "splits the channels of an ordinary convolution"),
        ("gst_res2net50_26w_4s", OptionError, "replaces a Conv2d, but .* ScaleConv"),
        ("nl_inception_v3", SiteError, "inception_v3 has no site 'after_block'"),
        ("tsmm+tim_resnet18", UnknownNameError, "Unknown network"),
        ("tin_resnet18", OptionError, "TIN has no causal form"),
    ],
)
def test_what_has_no_meaning_is_a_clear_error(name, error, message):
    with pytest.raises(error, match=message):
        small(name, causal=name.startswith("tin"))


def test_options_go_to_the_modules_that_know_them():
    net = small("sme_tim_resnet18", pyramid=1, init="random", stages=(5,))
    options = {i.module: dict(i.options) for i in net.spec.insertions}
    assert options == {"sme": {"pyramid": 1}, "tim": {"init": "random"}}


def test_networks_whose_weights_know_no_frame_count_run_any():
    net = small("tim_resnet18").eval()
    assert net.frame_scores(torch.randn(1, 6, 3, 32, 32)).shape == (1, 6, 3)
    assert net.frames == 4
    assert net.set_frames(6)(torch.randn(2, 6, 3, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize("name", ["tam_resnet18", "tin_resnet18"])
def test_networks_whose_weights_depend_on_the_frames_refuse_others_and_can_be_resampled(name):
    net = small(name).eval()
    x = torch.randn(1, 6, 3, 32, 32)
    with pytest.raises(OptionError, match="built for 4 frames .* cannot run 6.*--frames 6"):
        net.frame_scores(x)
    with pytest.raises(ValueError, match="clips of 4 frames, got 6 .*kinema import --frames 6"):
        net(x)
    assert net.frames == 4
    assert net.interpolate_frames(6)(x).shape == (1, 3)
    assert net.spec.frames == 6


def test_resampled_kernels_of_a_still_clip_stay_what_they_were():
    module = small("tam_resnet18", stages=(5,), blocks="first").temporal_modules()[0][1].eval()
    still_BC = torch.rand(2, 512)
    module.global_branch[1].weight.data.fill_(1.3)
    # Rows of equal weights: the sums over frames are all that a still clip shows.
    module.global_branch[0].weight.data.copy_(torch.full((8, 4), 0.25))
    module.global_branch[3].weight.data.copy_(torch.randn(3, 1).expand(3, 8))
    before = module.weights(still_BC.unsqueeze(2).expand(-1, -1, 4))[1]
    module.interpolate_frames(8)
    after = module.weights(still_BC.unsqueeze(2).expand(-1, -1, 8))[1]
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)


def test_slowfast_is_built_from_two_pathways():
    net = create_model("i3d_slowfast_resnet50", classes=3, frames=16).eval()
    slow = [s for s in net.sites() if s.modules and s.path.startswith("slow.")]
    fast = [s for s in net.sites() if s.modules and s.path.startswith("fast.")]
    assert {s.stage for s in slow} == {4, 5}
    assert (len(slow), len(fast)) == (9, 16)
    with torch.inference_mode():
        assert net(torch.randn(1, 16, 3, 32, 32)).shape == (1, 3)
    frames = {m.frames for n, m in net.temporal_modules() if n.startswith("backbone.slow.")}
    assert frames == {2}
    with pytest.raises(OptionError, match="needs a multiple of 8 frames, got 12"):
        net.set_frames(12)
    with pytest.raises(OptionError, match=r"needs a multiple of 8 frames .*, got 4"):
        create_model("tam_slowfast_resnet50", classes=3, frames=4)


@pytest.mark.slow
def test_slowfast_has_no_causal_form():
    with pytest.raises(OptionError, match="slowfast_resnet50 itself looks ahead, so i3d_slowfast"):
        create_model("i3d_slowfast_resnet50", classes=3, frames=16, causal=True)


@pytest.mark.slow
def test_slowfast_costs_what_its_paper_prints():
    cost = create_model("i3d_slowfast_resnet50", classes=400, frames=32).cost(256)
    assert cost.macs / 1e9 == pytest.approx(36.1, abs=0.05)
    assert cost.params / 1e6 == pytest.approx(34.5, abs=0.05)
    tam = create_model("tam_slowfast_resnet50", classes=400, frames=32).cost(256)
    assert tam.macs < cost.macs


@pytest.mark.parametrize("options", [{}, {"init": "part_shift"}])
def test_tea_starts_as_in_the_code_or_as_in_the_supplement(options):
    net = small("tea_res2net26_26w_4s", **options)
    for _, module in net.temporal_modules():
        if isinstance(module, MTA):
            kernels = [shift.weight.detach()[:, 0, :, 0].tolist() for shift in module.shifts]
            ahead = [group.count([0, 0, 1]) for group in kernels]
            behind = [group.count([1, 0, 0]) for group in kernels]
            width = module.width
            moved = [width // 8] * 4 if options else [0, 0, 0, width // 2]
            assert ahead == behind == moved
            assert sum(map(sum, kernels[0])) == width
    (tea,) = [part for part in net.spec.insertions if part.module == "mta"]
    assert dict(tea.options) == options


def test_a_res2net_of_the_depth_of_resnet26():
    """The same blocks as the Res2Net-50, two in each stage."""
    net = small("tea_res2net26_26w_4s")
    deep = small("tea_res2net50_26w_4s")
    blocks = {(s.stage, s.block) for s in net.sites() if s.modules}
    assert blocks == {(stage, block) for stage in (2, 3, 4, 5) for block in (0, 1)}
    shapes = {name: t.shape for name, t in net.state_dict().items()}
    of_deep = {name: t.shape for name, t in deep.state_dict().items()}
    assert shapes.items() < of_deep.items()  # its weights can start this one
    clip = torch.zeros(1, 4, 3, 32, 32)
    assert net.eval()(clip).shape == (1, 3)


def test_names_of_other_libraries_work_with_a_hint():
    with pytest.warns(UserWarning, match=r"^In kinema num_classes=7 is classes=7\.$") as warned:
        net = create_model("tsm_test_resnet", num_classes=7)
    assert net.classes == 7
    assert warned[0].filename == __file__
    with pytest.warns(UserWarning, match=r"^In kinema pretrained=False is weights=None\.$"):
        net = create_model("tsm_test_resnet", classes=2, pretrained=False)
    assert net.weights_report is None
    with (
        pytest.warns(UserWarning, match="pretrained=True is weights='imagenet'"),
        pytest.raises(CheckpointError, match="test_resnet"),
    ):
        create_model("tsm_test_resnet", classes=2, pretrained=True)
    with pytest.raises(OptionError, match="num_classes is another name of classes: give only"):
        create_model("tsm_test_resnet", classes=2, num_classes=2)
    with pytest.raises(OptionError, match="True or False: give weights='kinetics400'"):
        create_model("tsm_test_resnet", classes=2, pretrained="kinetics400")
    with pytest.raises(OptionError, match="classes is missing, the number of classes of tsm_te"):
        create_model("tsm_test_resnet")
