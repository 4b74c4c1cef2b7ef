"""Networks against stored outputs of the authors' code.

The files in `reference/` were made by running the official code with weights filled by the
deterministic rule they state (no weights are stored): one generator per tensor, seeded with the
CRC-32 of its official name.
"""

import json
import math
import zlib
from pathlib import Path

import pytest
import torch

from kinema.models.network import VideoNetwork
from kinema.models.zoo import create_model

REFERENCE = Path(__file__).parent / "reference"
FRAMES = 8


def filled(name: str, shape: list[int]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        return 0.5 + torch.rand(shape, generator=generator)
    values = torch.randn(shape, generator=generator)
    if name.endswith(("running_mean", "bias")):
        return 0.1 * values
    return values / math.sqrt(math.prod(shape[1:]))


def load_in_order(net: VideoNetwork, reference: dict) -> None:
    """Both networks list the same tensors in the same order; shapes prove it."""
    named = [(n, s) for n, s, _ in reference["state_dict"] if not n.endswith("num_batches_tracked")]
    ours = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert [list(v.shape) for v in ours.values()] == [shape for _, shape in named]
    for (name, shape), tensor in zip(named, ours.values(), strict=True):
        tensor.copy_(filled(name, shape))


def clips(kind: str) -> torch.Tensor:
    if kind == "A":
        x = torch.randn(2 * FRAMES, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    else:
        generator = torch.Generator().manual_seed(1)
        blocks = torch.randn(2 * FRAMES, 3, 7, 7, generator=generator)
        offset = torch.randn(2 * FRAMES, 3, 1, 1, generator=generator)
        x = blocks.repeat_interleave(32, 2).repeat_interleave(32, 3) + offset
    return x.unflatten(0, (2, FRAMES))


def assert_near(got: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    difference = (got - expected).abs().max() / expected.abs().max()
    assert difference <= tolerance, f"relative difference {difference:.1e}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("tsn_r50_8f", "tsn_resnet50"),
        ("tsm_r50_8f", "tsm_resnet50"),
        ("tsm_mobilenetv2_8f", "tsm_mobilenetv2_100"),
    ],
)
def test_scores_equal_the_authors(file, name):
    reference = json.loads((REFERENCE / f"{file}.json").read_text())
    net = create_model(name, classes=174, frames=FRAMES).eval()
    load_in_order(net, reference)
    with torch.inference_mode():
        for kind in ("A", "B"):
            expected = torch.tensor(reference["inputs"][kind]["expected_logits"])
            got = net(clips(kind))
            assert_near(got, expected, 1e-5)
        assert_near(got[0] - got[1], expected[0] - expected[1], 1e-4)
        backwards = torch.tensor(reference["inputs"]["B"]["expected_logits_time_reversed"])
        assert_near(net(clips("B").flip(1)), backwards, 1e-5)
