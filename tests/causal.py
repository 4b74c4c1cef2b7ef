"""A saved causal network with random weights, for the tests of streams."""

from pathlib import Path

import torch

import kinema
from kinema.types import Preprocessing

LABELS = ("red", "green", "blue")


def save_causal(folder: Path, *, causal: bool = True, how: Preprocessing | None = None) -> Path:
    torch.manual_seed(3)
    net = kinema.create_model("tsm_test_resnet", classes=len(LABELS), frames=4, causal=causal)
    for name, weight in net.named_parameters():
        if "bn" in name or "classifier" in name:
            torch.nn.init.normal_(weight)
    how = how or Preprocessing(frames=4, short_side_px=40, crop_px=32)
    return kinema.save(net, folder, labels=LABELS, preprocessing=how)
