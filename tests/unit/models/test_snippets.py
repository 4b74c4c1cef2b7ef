"""TDN's short-term branch: networks that take snippets of neighboring frames."""

import copy
import json

import pytest
import torch
import torch.nn.functional as F

from kinema import create_model
from kinema.errors import CheckpointError, InputShapeError, OptionError, SiteError
from kinema.inference.fold import fold_batch_norms
from kinema.inference.fuse import can_fuse, fuse_convolutions
from kinema.models.convert.importer import import_checkpoint
from kinema.models.network import VideoNetwork
from kinema.models.saved import load_saved, save
from kinema.models.zoo import list_models
from kinema.values import Preprocessing

from ...random_weights import randomized, tiny_network

LABELS = ("a", "b", "c")


def clips(net: VideoNetwork, count: int = 2, size: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, net.clip_frames, 3, size, size, generator=generator)


@torch.no_grad()
@pytest.mark.parametrize(("frames", "share"), [(8, 0.5), (4, 0.25), (16, 0.25)])
def test_features_are_those_of_the_authors_code(frames, share):
    net = tiny_network("tdn").set_frames(frames)
    net.remove()
    x = clips(net, 1)
    b, snippets = net.backbone, x[0].unflatten(0, (frames, 5))
    motion = F.avg_pool2d((snippets[:, 1:] - snippets[:, :-1]).flatten(1, 2), 2)
    motion = b.difference_stem(motion)
    features = b.maxpool(b.act1(b.bn1(b.conv1(snippets[:, 2]))))
    features = (1 - share) * features + share * F.interpolate(motion, features.shape[2:])
    features, motion = b.layer1(features), b.difference_layer1(motion)
    features = (1 - share) * features + share * F.interpolate(motion, features.shape[2:])
    features = b.global_pool(b.layer4(b.layer3(b.layer2(features))))
    wanted = net.head(features, frames)
    torch.testing.assert_close(net.frame_scores(x), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net(x), wanted.mean(1), rtol=1e-4, atol=1e-5)


def test_the_branch_counts_as_temporal():
    with torch.device("meta"):
        cost = create_model("tdn_resnet50", classes=174).cost()
        plain = create_model("tsn_resnet50", classes=174).cost()
    assert cost.temporal_macs == cost.macs - plain.macs
    biases = 26_560  # of the ResNet's own convolutions
    assert cost.temporal_params == cost.params - plain.params - biases
    parts = {site.site: site.params for site in cost.sites if site.module == "SnippetResNet"}
    assert parts == {"difference_stem": 37_760, "difference_layer1": 217_216}


@torch.no_grad()
def test_other_numbers_of_snippets_need_no_new_network():
    net = tiny_network("tdn")
    x = clips(net, 1)
    wanted = copy.deepcopy(net).set_frames(2)(x[:, :10])
    torch.testing.assert_close(net.frame_scores(x[:, :10]).mean(1), wanted)
    assert net.frames == 4


@torch.no_grad()
def test_the_branch_starts_from_the_weights_of_the_backbone(tmp_path):
    file = tmp_path / "resnet18.pth"
    plain = randomized(create_model("tsn_resnet18", classes=3))
    torch.save(plain.backbone.state_dict(), file)
    net = create_model("tdn_resnet18", classes=3, weights=file)
    kernel = plain.backbone.conv1.weight.mean(1, keepdim=True)
    assert torch.equal(net.backbone.difference_stem[0].weight, kernel.repeat(1, 12, 1, 1))
    assert torch.equal(net.backbone.difference_stem[1].weight, torch.ones(64))
    for layer in (net.backbone.layer1, net.backbone.difference_layer1):
        assert torch.equal(layer[0].conv1.weight, plain.backbone.layer1[0].conv1.weight)
    biases = net.backbone.layer1[0].conv1.bias, net.backbone.difference_layer1[0].conv1.bias
    assert not torch.equal(*biases)
    bound = (64 * 9) ** -0.5
    assert all(0.9 * bound < bias.abs().max() <= bound for bias in biases)
    report = net.weights_report
    assert "backbone.layer1.0.conv1.weight" in report.copied
    assert "backbone.difference_layer1.0.conv1.weight" in report.derived
    assert "backbone.difference_stem.0.weight" in report.derived
    assert {"backbone.layer1.0.conv1.bias", "backbone.difference_stem.1.weight"} < set(report.new)
    assert not any(name.startswith("backbone.difference_stem.0") for name in report.new)


@torch.no_grad()
def test_a_saved_network_knows_its_snippets(tmp_path):
    net = tiny_network("tdn")
    folder = save(net, tmp_path / "tdn", labels=LABELS)
    config = json.loads((folder / "config.json").read_text())
    assert (config["network"]["snippet"], config["preprocessing"]["snippet"]) == (5, 5)
    saved = load_saved(folder)
    assert (saved.preprocessing.frames, saved.preprocessing.snippet) == (4, 5)
    assert torch.equal(saved.net(clips(net)), net(clips(net)))
    assert "4 snippets of 5 frames (segments)" in (folder / "README.md").read_text()
    plain = save(tiny_network("tsm"), tmp_path / "tsm", labels=LABELS)
    assert "snippet" not in (plain / "config.json").read_text()


@pytest.mark.parametrize(
    ("part", "snippet", "message"),
    [
        ("preprocessing", 3, "takes snippets of 5 frames, but the preprocessing samples 3"),
        ("preprocessing", 4, "snippet must be odd.* got 4"),
        ("preprocessing", 5.0, "snippet must be a whole number, got 5.0"),
        ("network", 1, "takes snippets of 1 frames, but the preprocessing samples 5"),
        ("network", 9999, "snippet = 9999 is beyond any network"),
    ],
)
def test_a_wrong_snippet_in_a_config_is_named(tmp_path, part, snippet, message):
    folder = save(tiny_network("tdn"), tmp_path / "tdn", labels=LABELS)
    config = json.loads((folder / "config.json").read_text())
    config[part]["snippet"] = snippet
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=f"config.json: .*{message}"):
        load_saved(folder)


def test_preprocessing_of_another_snippet_is_refused(tmp_path):
    how = Preprocessing(frames=4, snippet=5)
    with pytest.raises(CheckpointError, match="snippets of 1 frames.* samples 5"):
        save(tiny_network("tsm"), tmp_path / "tsm", labels=LABELS, preprocessing=how)


def test_clips_without_the_neighbors_are_named():
    net = tiny_network("tdn")
    message = "takes 5 neighboring frames for each of its 4, 20 in all, got 4"
    with pytest.raises(InputShapeError, match=message):
        net(torch.zeros(1, 4, 3, 32, 32))
    message = "built for clips of 4 snippets of 5 frames, got 2 .*Sample 4 snippets of 5 frames"
    with pytest.raises(InputShapeError, match=message):
        net(torch.zeros(1, 10, 3, 32, 32))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (
            lambda: create_model("tdn_mobilenetv2_100", classes=3),
            SiteError,
            "belongs to a ResNet of timm, such as resnet50, but this backbone is EfficientNet",
        ),
        (
            lambda: create_model("tdn_resnet18", classes=3, causal=True),
            OptionError,
            "tdn_resnet18 has no causal form, because its snippets of 5 frames go 2 frames beyond",
        ),
        (lambda: tiny_network("tdn").take_snippets(5), OptionError, "already takes snippets of 5"),
        (lambda: tiny_network("tsm").take_snippets(2), OptionError, "snippet must be odd"),
        (lambda: tiny_network("tsm").take_snippets(1), OptionError, "at least 3 frames, got 1"),
    ],
)
def test_networks_that_cannot_take_snippets_say_why(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_it_is_listed_for_resnets_only():
    named = {name.removeprefix("tdn_") for name in list_models("tdn_*")}
    assert {"resnet18", "resnet50", "resnet101"} <= named
    assert not any("mobilenet" in name or "slowfast" in name for name in named)


@torch.no_grad()
@pytest.mark.parametrize("fused", [False, True])
def test_faster_forms_give_the_same_scores(fused):
    net = tiny_network("tdn")
    x = clips(net)
    faster = fold_batch_norms(net)
    if fused:
        if not can_fuse(x):
            pytest.skip("this PyTorch has no fused convolutions")
        faster = fuse_convolutions(faster, x)
    wanted = net(x)
    torch.testing.assert_close(faster(x), wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))


@torch.no_grad()
def test_a_branch_in_front_of_a_temporal_pool():
    net = randomized(create_model("tdn_test_resnet", classes=3, frames=4, temporal_pool=True))
    assert net.frame_scores(clips(net)).shape == (2, 4, 3)
    assert net.reach.look_ahead > 2


def test_a_file_of_the_authors_may_hold_the_stem_that_they_never_use(tmp_path):
    net = create_model("tdn_resnet18", classes=3)
    file = tmp_path / "tdn.pth"
    torch.save(net.state_dict() | {"base_model.conv1_temp.bias": torch.zeros(64)}, file)
    assert import_checkpoint(file, model="tdn_resnet18").net.snippet == 5
