"""A saved network with random weights, causal by default, for the classes of the color set."""

from pathlib import Path

import torch

import kinema
from kinema.values import Preprocessing

from .random_weights import with_random_norms

LABELS = ("red", "green", "blue")


def save_causal(folder: Path, *, causal: bool = True, how: Preprocessing | None = None) -> Path:
    torch.manual_seed(3)
    net = kinema.create_model("tsm_test_resnet", classes=len(LABELS), frames=4, causal=causal)
    with_random_norms(net)
    how = how or Preprocessing(frames=4, short_side_px=40, crop_px=32)
    return kinema.save(net, folder, labels=LABELS, preprocessing=how)
