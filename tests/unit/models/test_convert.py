"""Published names to ours, and what an import refuses. (The numbers are in tests/parity.)"""

import argparse
import os
import re
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from kinema.errors import CheckpointError, TensorMismatchError
from kinema.models.convert import import_checkpoint
from kinema.models.convert.names import common_names
from kinema.models.weights import read_tensors
from kinema.models.zoo import create_model


@pytest.mark.parametrize(
    ("published", "common"),
    [
        ("module.base_model.layer1.0.conv1.net.weight", "layer1.0.conv1.weight"),
        ("base_model.layer2.0.block.bn1.bias", "layer2.0.bn1.bias"),
        # With TSM's --temporal_pool.
        ("module.base_model.layer2.net.0.conv1.net.weight", "layer2.0.conv1.weight"),
        ("module.base_model.layer1.0.net.downsample.0.weight", "layer1.0.downsample.0.weight"),
        ("module.base_model.layer1.0.self_conv.conv_f.0.weight", "layer1.0.tam.G.0.weight"),
        ("module.base_model.layer1.0.shifts.2.conv.weight", "layer1.0.shifts.2.weight"),
        ("base_model.layer3.1.Tconv.weight", "layer3.1.Tconv"),
        ("backbone.layer1.0.conv1.conv.net.weight", "layer1.0.conv1.weight"),
        ("backbone.layer1.0.conv2.bn.running_var", "layer1.0.bn2.running_var"),
        ("backbone.layer1.0.downsample.bn.weight", "layer1.0.downsample.1.weight"),
        ("backbone.layer2.0.non_local_block.conv_out.bn.bias", "layer2.0.nl.W.1.bias"),
        ("module.base_model.layer2.1.conv1.0.weight", "layer2.1.conv1.weight"),
        ("module.base_model.layer2.1.conv3.1.bias", "layer2.1.bn3.bias"),
        (
            "module.base_model.layer2.1.conv2.ty_attention.fc2.0.weight",
            "layer2.1.conv2.columns.temporal_attention.3.weight",
        ),
        ("module.new_fc.weight", "head.weight"),
        ("cls_head.fc_cls.bias", "head.bias"),
        ("fc.weight", "head.weight"),
    ],
)
def test_residual_networks_have_one_common_form(published, common):
    assert common_names([published]) == {published: common}


def test_mobilenets_have_one_common_form():
    official = ["features.0.1.bias", "features.1.conv.3.weight", "features.17.conv.6.net.weight"]
    assert list(common_names(official).values()) == [
        "bn1.bias",
        "blocks.0.0.conv_pw.weight",
        "blocks.6.0.conv_pwl.weight",
    ]
    mmaction = [
        "backbone.layer1.0.conv.0.conv.weight",
        "backbone.layer3.1.conv.0.net.bn.weight",
        "backbone.conv2.conv.weight",
    ]
    assert list(common_names(mmaction).values()) == [
        "blocks.0.0.conv_dw.weight",
        "blocks.2.1.bn1.weight",
        "conv_head.weight",
    ]


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A checkpoint as TAM's code would write it, on a small network."""
    net = create_model("tam_resnet18", classes=5, frames=4)
    state = {}
    for name, tensor in net.state_dict().items():
        theirs = name
        for ours, words in (
            ("backbone.", "base_model."),
            ("head.classifier", "new_fc"),
            (".conv2.before.tam.global_branch.", ".tam.G."),
            (".conv2.before.tam.local_branch.", ".tam.L."),
            (".layer.", "."),
        ):
            theirs = theirs.replace(ours, words)
        state[f"module.{theirs}"] = tensor
    return net.eval(), state, tmp_path_factory.mktemp("official")


def saved(official, change=None):
    _, state, folder = official
    state = dict(state)
    if change is not None:
        change(state)
    file = folder / "checkpoint.pth.tar"
    torch.save({"state_dict": state, "arch": "resnet18", "epoch": 3}, file)
    return file


def test_the_file_says_the_classes_and_the_frames(official):
    imported = import_checkpoint(saved(official), model="tam_resnet18")
    assert (imported.net.classes, imported.net.frames) == (5, 4)
    x = torch.randn(2, 4, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(imported.net(x), official[0](x))
    assert len(imported.matched) == len(
        [n for n in imported.net.state_dict() if not n.endswith("num_batches_tracked")]
    )


def test_other_frames_resample_the_weights(official):
    net = import_checkpoint(saved(official), model="tam_resnet18", frames=8).net
    assert net(torch.randn(1, 8, 3, 32, 32)).shape == (1, 5)


@pytest.mark.parametrize(
    ("meta", "frames"),
    [
        ({"cfg": "backbone=dict(num_segments=16), cls_head=dict(num_segments=16)"}, 16),
        ({"config": "backbone = dict(num_segments = 4)"}, 4),
        ({"cfg": "backbone=dict(num_segments=16), cls_head=dict(num_segments=8)"}, None),
        ({}, None),
    ],
)
def test_frames_that_a_file_does_not_say_are_no_silent_guess(tmp_path, caplog, meta, frames):
    state = create_model("tsn_test_resnet", classes=5).state_dict()
    file = tmp_path / "tsn.pth"
    torch.save({"state_dict": state, "meta": meta}, file)
    assert import_checkpoint(file, model="tsm_test_resnet").net.frames == (frames or 8)
    warning = (
        f"{file} does not say how many frames its clips had, so 8 are taken. If its name or page "
        "says otherwise (segment16, 1x1x16), or that its clips were dense, import it again with "
        "frames=16 (kinema import --frames 16), or --dense."
    )
    assert caplog.messages == ([] if frames else [warning])
    caplog.clear()
    assert import_checkpoint(file, model="tsm_test_resnet", frames=16).net.frames == 16
    assert caplog.messages == []


def test_left_over_tensors_are_listed(official):
    with pytest.raises(TensorMismatchError, match="have no place: .*tam.G.0.weight") as caught:
        import_checkpoint(saved(official), model="tsm_resnet18")
    assert len(caught.value.unused) == 8 * 12
    assert caught.value.missing == ()


def test_unfilled_tensors_are_listed(official):
    file = saved(official, lambda state: state.pop("module.base_model.layer4.1.conv2.weight"))
    with pytest.raises(TensorMismatchError, match="not filled: backbone.layer4.1.conv2.layer"):
        import_checkpoint(file, model="tam_resnet18")


def nonlocal_file(folder, mode, config):
    """A file in mmaction2's names: its configuration is a text beside the weights."""
    net = create_model("nl_resnet18", classes=5, frames=4, mode=mode, out_bias=False)
    rules = (
        (r"^head\.classifier", "cls_head.fc_cls"),
        (r"\.layer\.", "."),
        (r"(\.conv2)?\.after\.nl\.", ".non_local_block."),
        (r"block\.(g|phi)\.", r"block.\1.0.conv."),
        (r"block\.theta\.", "block.theta.conv."),
        (r"block\.out\.0\.", "block.conv_out.conv."),
        (r"block\.out\.1\.", "block.conv_out.bn."),
    )
    state = net.state_dict()
    for ours, theirs in rules:
        state = {re.sub(ours, theirs, name): tensor for name, tensor in state.items()}
    file = folder / "official.pth"
    torch.save({"state_dict": state, "meta": {"cfg": config}}, file)
    return net.eval(), file


@pytest.mark.parametrize("mode", ["embedded_gaussian", "dot_product", "gaussian"])
def test_the_mode_of_nonlocal_blocks_is_that_of_the_file(tmp_path, mode):
    config = f"backbone=dict(non_local_cfg=dict(sub_sample=True, mode='{mode}'))"
    net, file = nonlocal_file(tmp_path, mode, config)
    imported = import_checkpoint(file, model="nl_resnet18", frames=4).net
    x = torch.randn(1, 4, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(imported(x), net(x))


def test_a_mode_that_the_file_does_not_say_must_be_given(tmp_path):
    _, file = nonlocal_file(tmp_path, "dot_product", "")
    with pytest.raises(CheckpointError, match="does not say how its non-local blocks compare"):
        import_checkpoint(file, model="nl_resnet18")
    net = import_checkpoint(file, model="nl_resnet18", mode="dot_product").net
    assert {module.mode for _, module in net.temporal_modules()} == {"dot_product"}


def test_a_wrong_shape_is_named(official):
    def shorten(state):
        state["module.base_model.conv1.weight"] = torch.zeros(64, 3, 3, 3)

    with pytest.raises(CheckpointError, match=r"conv1.weight has shape \(64, 3, 3, 3\)"):
        import_checkpoint(saved(official, shorten), model="tam_resnet18")


def test_a_file_without_a_classifier_is_no_recognition_network(official):
    def behead(state):
        del state["module.new_fc.weight"], state["module.new_fc.bias"]

    with pytest.raises(CheckpointError, match="holds no classifier"):
        import_checkpoint(saved(official, behead), model="tam_resnet18")


class Trap:
    """Creates a file when it is loaded with code."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (open, (str(self.file), "w"))


class History:
    """Like the logs that mmengine keeps beside the weights."""

    def __init__(self):
        self.values = np.arange(3.0)
        self.statistics = {"mean": max}


def test_code_in_a_file_is_not_run(tmp_path):
    file, trapped = tmp_path / "trap.pth", tmp_path / "trapped"
    torch.save({"state_dict": {"fc.weight": Trap(trapped)}}, file)
    with pytest.raises(CheckpointError, match="holds no named tensors"):
        import_checkpoint(file, model="tsn_resnet18")
    assert not trapped.exists()


def test_modules_of_the_system_are_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.system, ("true",))

    file = tmp_path / "trap.pth"
    torch.save({"state_dict": {"fc.weight": torch.zeros(2)}, "more": Trap()}, file)
    with pytest.raises(CheckpointError, match="without running code in it"):
        read_tensors(file)


def test_objects_beside_the_weights_are_left_out(tmp_path, caplog):
    tensors = {"module.fc.weight": torch.randn(3, 4), "module.fc.bias": torch.randn(3)}
    file, trapped = tmp_path / "official.pth", tmp_path / "trapped"
    torch.save(
        {
            "state_dict": tensors,
            "best": np.float64(71.5),
            "args": argparse.Namespace(lr=0.1, gpus=[0, 1]),
            "when": datetime(2020, 1, 2, tzinfo=UTC),
            "history": {"loss": History()},
            "trap": Trap(trapped),
        },
        file,
    )
    with caplog.at_level("INFO", "kinema"):
        found = read_tensors(file)
    assert {name: value.tolist() for name, value in found.items()} == {
        "fc.weight": tensors["module.fc.weight"].tolist(),
        "fc.bias": tensors["module.fc.bias"].tolist(),
    }
    assert "argparse.Namespace" in caplog.text
    assert "History" in caplog.text
    assert not trapped.exists()
