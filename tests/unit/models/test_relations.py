"""TRN: relations of frames as the head of a network, their subsets, and what refuses it."""

import itertools
import json
import math
import re

import pytest
import torch

from kinema import create_model, import_checkpoint
from kinema.archive.settings import LabelSettings
from kinema.archive.task import label
from kinema.errors import CheckpointError, InputShapeError, OptionError, SiteError, UnknownNameError
from kinema.models.convert.names import common_names
from kinema.models.saved import load_saved, save
from kinema.temporal.trn import TRN, evenly_spaced

from ...random_weights import tiny_network

LABELS = ("a", "b", "c")
# Other subsets of four frames than the evenly spaced ones.
DRAWN = [[[0, 1, 2, 3]], [[0, 1, 3]], [[0, 3], [1, 2]]]


def drawn_network():
    return tiny_network("trn", relations=DRAWN)


def clips(frames: int = 4) -> torch.Tensor:
    return torch.randn(2, frames, 3, 32, 32)


@pytest.mark.parametrize("frames", [2, 3, 4, 8, 16])
def test_subsets_are_spread_over_the_list_of_all(frames):
    scales = evenly_spaced(frames)
    assert [len(group[0]) for group in scales] == list(range(frames, 1, -1))
    for group in scales:
        everything = list(itertools.combinations(range(frames), len(group[0])))
        assert len(everything) == math.comb(frames, len(group[0]))
        count = min(3, len(everything))
        ranks = [(2 * number + 1) * len(everything) // (2 * count) for number in range(count)]
        assert list(group) == [everything[rank] for rank in ranks]


def test_scores_add_the_networks_of_all_subsets():
    torch.manual_seed(0)
    module = TRN(3, frames=4, subsets=DRAWN, width=6)
    x = torch.randn(2, 4, 6)
    wanted = torch.zeros(2, 3)
    for clip in range(2):
        for layers, subsets in zip(module.scales, DRAWN, strict=True):
            for subset in subsets:
                row = torch.cat([x[clip, t] for t in subset])
                hidden = torch.relu(layers[1].weight @ torch.relu(row) + layers[1].bias)
                wanted[clip] += layers[3].weight @ hidden + layers[3].bias
    got = module(x.flatten(0, 1)).unflatten(0, (2, 4))
    torch.testing.assert_close(got, wanted.unsqueeze(1).expand(2, 4, 3), rtol=1e-5, atol=1e-6)


def test_every_frame_has_the_scores_of_its_clip_and_passes_agree():
    net, x = tiny_network("trn"), clips()
    with torch.inference_mode():
        frame_scores, scores = net.frame_scores(x), net(x)
        assert torch.equal(net(x), scores)
        assert not torch.allclose(net(x.flip(1)), scores, rtol=1e-2)
    assert frame_scores.shape == (2, 4, 3)
    torch.testing.assert_close(frame_scores[:, 2], scores, rtol=1e-5, atol=1e-5)


def test_the_subsets_are_saved_with_the_network(tmp_path):
    net, x = drawn_network(), clips()
    folder = save(net, tmp_path / "model", labels=LABELS)
    assert json.loads((folder / "config.json").read_text())["network"]["relations"] == DRAWN
    again = load_saved(folder).net
    assert again.spec == net.spec
    with torch.inference_mode():
        assert torch.equal(again(x), net(x))
        same_weights = tiny_network("trn")
        same_weights.load_state_dict(net.state_dict())
        assert not torch.allclose(same_weights(x), net(x), rtol=1e-3)


def test_damaged_subsets_are_named(tmp_path):
    folder = save(drawn_network(), tmp_path / "model", labels=LABELS)
    config = json.loads((folder / "config.json").read_text())
    config["network"]["relations"][1] = [[0, 3, 1]]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"config.json: TRN subset \[0, 3, 1\]: expected 3"):
        load_saved(folder)


def test_another_network_starts_from_the_backbone(tmp_path):
    folder = save(drawn_network(), tmp_path / "model", labels=LABELS)
    net = create_model("trn_test_resnet", classes=5, frames=4, weights=folder)
    assert all(name.startswith("head.") for name in net.weights_report.new)
    assert len(net.weights_report.new) == 2 + 3 * 4


def test_published_names_are_ours_and_the_file_says_frames_and_classes(tmp_path):
    net = drawn_network()
    theirs = {
        name.replace("head.classifier", "cls_head.fc_cls").replace(
            "head.relations.scales", "cls_head.consensus.fc_fusion_scales"
        ): tensor
        for name, tensor in net.state_dict().items()
    }
    name = "cls_head.consensus.fc_fusion_scales.0.1.weight"
    assert common_names([name]) == {name: "head.relations.scales.0.1.weight"}
    torch.save({"state_dict": theirs}, tmp_path / "trn.pth")
    imported = import_checkpoint(tmp_path / "trn.pth", model="trn_test_resnet", relations=DRAWN).net
    assert (imported.classes, imported.frames) == (3, 4)
    x = clips()
    with torch.inference_mode():
        assert torch.equal(imported(x), net(x))
    with pytest.raises(OptionError, match="TRN has layers for clips of 4 frames and cannot run 8"):
        import_checkpoint(tmp_path / "trn.pth", model="trn_test_resnet", frames=8)


def test_labels_with_features_are_refused_before_any_work(tmp_path):
    folder = save(drawn_network(), tmp_path / "model", labels=LABELS)
    with pytest.raises(
        OptionError, match="features cannot be written beside them. Leave out --fea"
    ):
        label(folder, tmp_path / "no list", tmp_path / "out", settings=LabelSettings(features=True))


def test_relations_stand_behind_temporal_modules():
    net = tiny_network("tsm+trn")
    assert net.name == "tsm+trn_test_resnet"
    assert {site.modules for site in net.sites() if site.modules} == {("tsm",)}
    assert net.reach.frames_in_weights
    net.remove("tsm")
    with pytest.raises(SiteError, match="has no temporal module '' to remove"):
        net.remove()


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda: TRN(3, frames=1), OptionError, "frames of a TRN must be at least 2, got 1"),
        (
            lambda: TRN(3, frames=3, subsets=[[[0, 1, 2]]]),
            OptionError,
            "TRN needs subsets of 2 lengths, from all 3 frames down to 2, got 1",
        ),
        (
            lambda: TRN(3, frames=2, subsets=[[[0, 2]]]),
            OptionError,
            "TRN subset [0, 2]: expected 2 increasing frame numbers between 0 and 1",
        ),
        (
            lambda: TRN(3, frames=2, subsets=[[]]),
            OptionError,
            "TRN needs at least one subset of 2 frames",
        ),
        (
            lambda: create_model("tsm_test_resnet", classes=3, relations=DRAWN),
            OptionError,
            "tsm has no relations: they are for trn",
        ),
        (
            lambda: tiny_network("tsm+trn", causal=True),
            OptionError,
            "tsm+trn has no causal form, because its scores depend on the whole clip",
        ),
        (
            lambda: tiny_network("trn", divisor=4),
            OptionError,
            "trn has no temporal module, so it takes no divisor",
        ),
        (
            lambda: tiny_network("tsm+trn", relation=DRAWN),
            UnknownNameError,
            "has no option 'relation'",
        ),
        (
            lambda: tiny_network("trn", temporal_pool=True),
            OptionError,
            "A network with relations of all its frames takes no temporal_pool",
        ),
        (
            lambda: drawn_network().streaming(),
            OptionError,
            "TRN looks ahead (the whole clip), so it cannot run frame by frame",
        ),
        (
            lambda: drawn_network().set_frames(8),
            OptionError,
            "TRN has layers for clips of 4 frames and cannot run 8. Train a network for this",
        ),
        (
            lambda: drawn_network()(clips(8)),
            InputShapeError,
            "Sample 4 frames, or build the network with frames=8",
        ),
    ],
)
def test_what_relations_cannot_do_is_named(act, error, message):
    with pytest.raises(error, match=re.escape(message)):
        act()
