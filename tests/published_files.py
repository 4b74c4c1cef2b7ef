"""Files as their publishers serve them: official tensor names, and weights from the one rule."""

import functools
import io
import json
import re

import timm
import torch
from torchvision.models import get_model

from .parity.test_reference_outputs import REFERENCE, official_state

# An entry of the catalog without a hash, so that a file made here can be served in its place.
ONLINE = "tsm_mobilenetv2_100:jester-online"
ONLINE_FILE = "/mobilenetv2_jester_online.pth.tar"


@functools.lru_cache(maxsize=2)
def official_file(golden: str, classes: int) -> bytes:
    """The publisher's file of a golden; its classes are repeated or cut to another number."""
    state = official_state(json.loads((REFERENCE / f"{golden}.json").read_text()))
    for name in state:
        if re.search(r"(?:new_fc|fc|classifier|fc_cls)\.(?:weight|bias)$", name):
            state[name] = state[name][torch.arange(classes) % len(state[name])].clone()
    buffer = io.BytesIO()
    torch.save({"state_dict": state, "epoch": 50}, buffer)
    return buffer.getvalue()


@functools.lru_cache(maxsize=1)
def online_file() -> bytes:
    """The file of `ONLINE`."""
    return official_file("tsm_mobilenetv2_online", 27)


GOLDENS = {
    "tsn_r50_8f": "tsn_resnet50:kinetics400-5s-50e-authors",
    "tsm_r50_8f": "tsm_resnet50:something_v2-8f-authors",
    "tsm_nl_r50_8f": "tsm_nl_resnet50:kinetics400-dense-8f",
    "tsm_mobilenetv2_8f": "tsm_mobilenetv2_100:kinetics400-dense-8f-100e-authors",
    "tsm_mobilenetv2_online": ONLINE,
    "tanet50_8f": "tam_resnet50:something_v1-8f-authors",
    "gst_r50_8f_a4_b2": "gst_resnet50:something_v2",
    "gst_r50_8f_a4_b1": "gst_large_resnet50:something_v1",
    "gsf100_r50_8f": "gsf_resnet50:something_v1",
    "mmaction2_tsn_r50_8f": "tsn_resnet50:something_v1",
    "mmaction2_tsm_r50_8f": "tsm_resnet50:something_v2",
    "mmaction2_tsm_nl_r50_8f": "tsm_nl_resnet50:kinetics400",
    "mmaction2_tsm_nl_dot_r50_8f": "tsm_nl_resnet50:kinetics400-8f-50e-dot",
    "mmaction2_tsm_nl_gauss_r50_8f": "tsm_nl_resnet50:kinetics400-8f-50e-gaussian",
    "mmaction2_tin_r50_8f": "tin_resnet50:something_v2",
    "mmaction2_tanet_r50_8f": "tam_resnet50:kinetics400-dense-8f",
    "mmaction2_tsm_mobilenetv2_8f": "tsm_mobilenetv2_100:kinetics400",
}


def deeper(golden: str) -> dict[str, torch.Tensor]:
    """Names and shapes of ResNet-101 after a golden of ResNet-50: more blocks like the last."""
    reference = json.loads((REFERENCE / f"{golden}.json").read_text())
    state = {f"module.{name}": torch.zeros(shape) for name, shape, _ in reference["state_dict"]}
    for name in [name for name in state if re.search(r"layer3\.(?:net\.)?5\.", name)]:
        for block in range(6, 23):
            state[re.sub(r"(?<=layer3\.)(net\.)?5(?=\.)", rf"\g<1>{block}", name)] = state[name]
    return state


def dense_net() -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        theirs = get_model("densenet161").features.state_dict()
    state = {f"backbone.features.{name}": torch.zeros(t.shape) for name, t in theirs.items()}
    head = {"weight": torch.zeros(400, 2208), "bias": torch.zeros(400)}
    return state | {f"cls_head.fc_cls.{name}": tensor for name, tensor in head.items()}


def resnext() -> dict[str, torch.Tensor]:
    """ResNeXt of MMClassification, which has timm's names."""
    with torch.device("meta"):
        theirs = timm.create_model("resnext101_32x4d", num_classes=400).state_dict()
    state = {name: torch.zeros(t.shape) for name, t in theirs.items()}
    head = {f"cls_head.fc_cls.{part}": state.pop(f"fc.{part}") for part in ("weight", "bias")}
    return head | {f"backbone.{name}": tensor for name, tensor in state.items()}


# What the goldens leave: every other backbone of the catalog, in each publisher's names.
OTHER_BACKBONES = {
    "tsn_resnet101:kinetics400": functools.partial(deeper, "mmaction2_tsn_r50_8f"),
    "tsm_resnet101:something_v2": functools.partial(deeper, "mmaction2_tsm_r50_8f"),
    "tsm_resnet101:something_v2-8f-authors": functools.partial(deeper, "tsm_r50_8f"),
    "tsn_densenet161:kinetics400": dense_net,
    "tsn_resnext101_32x4d:kinetics400": resnext,
}


def official_shapes(golden: str) -> dict[str, torch.Tensor]:
    """Names and shapes of a golden, without values."""
    reference = json.loads((REFERENCE / f"{golden}.json").read_text())
    return {
        f"module.{name}": torch.empty(shape, device="meta")
        for name, shape, _ in reference["state_dict"]
    }
