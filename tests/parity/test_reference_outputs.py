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

from kinema import import_checkpoint

REFERENCE = Path(__file__).parent / "reference"
FRAMES = 8


def filled(name: str, shape: list[int]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        return 0.5 + torch.rand(shape, generator=generator)
    values = torch.randn(shape, generator=generator)
    if name.endswith(("running_mean", "bias")):
        return 0.1 * values
    # As the files state it: a division rounds otherwise, which networks that saturate amplify.
    return values * math.sqrt(1 / math.prod(shape[1:]))


def clips(kind: str, snippet: int = 1) -> torch.Tensor:
    rows = 2 * FRAMES * snippet
    if kind == "A":
        x = torch.randn(rows, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    else:
        generator = torch.Generator().manual_seed(1)
        blocks = torch.randn(rows, 3, 7, 7, generator=generator)
        offset = torch.randn(rows, 3, 1, 1, generator=generator)
        x = blocks.repeat_interleave(32, 2).repeat_interleave(32, 3) + offset
    return x.unflatten(0, (2, FRAMES * snippet))


def assert_near(got: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    difference = (got - expected).abs().max() / expected.abs().max()
    assert difference <= tolerance, f"relative difference {difference:.1e}"


def official_state(reference: dict) -> dict[str, torch.Tensor]:
    """The tensors that the authors' code would have saved with these weights."""
    state = {}
    for name, shape, _ in reference["state_dict"]:
        if name.endswith("num_batches_tracked"):
            tensor = torch.zeros(shape, dtype=torch.long)
        else:
            tensor = filled(name, shape)
        for end, scale in reference.get("fill_scale", {}).items():
            tensor = tensor * scale if name.endswith(end) else tensor
        # Unscaled, these would saturate the softmax of the non-local blocks.
        if ".theta." in name or ".phi." in name:
            unscaled = name.endswith("bias") and reference["name"] in BIAS_UNSCALED
            tensor = tensor if unscaled else tensor * 0.02
        state[f"module.{name}"] = tensor
    total = sum(tensor.double().sum().item() for tensor in state.values())
    assert total == pytest.approx(reference["probes"]["state_sum"], rel=1e-7)
    return state


def written(reference: dict, folder: Path) -> Path:
    """Their checkpoint file."""
    file = folder / "official.pth"
    torch.save({"state_dict": official_state(reference), "epoch": 50}, file)
    return file


REFERENCES = {
    "tsn_r50_8f": "tsn_resnet50",
    "tsm_r50_8f": "tsm_resnet50",
    "tsm_nl_r50_8f": "tsm_nl_resnet50",
    "tsm_mobilenetv2_8f": "tsm_mobilenetv2_100",
    "tsm_mobilenetv2_online": "tsm_mobilenetv2_100",
    "tea50_8f": "tea_res2net50_26w_4s",
    "tanet50_8f": "tanet_resnet50",
    "gst_r50_8f_a4_b2": "gst_resnet50",
    "gst_r50_8f_a4_b1": "gst_large_resnet50",
    "ctnet_r50_8f": "ctnet_resnet50",
    "smallbig_r50_8f": "smallbig_resnet50",
    "smallbig_extra_r50_8f": "smallbig_extra_resnet50",
    "gsf100_r50_8f": "gsf_resnet50",
    "gsf25_r50_8f": "gsf_resnet50",
    "action_r50_8f": "action_resnet50",
    "action_r50_8f_plainfill": "action_resnet50",
    "msnet_r50_8f": "msnet_resnet50",
    "tdn_r50_8f": "tdn_resnet50",
    "mmaction2_tsn_r50_8f": "tsn_resnet50",
    "mmaction2_tsm_r50_8f": "tsm_resnet50",
    "mmaction2_tsm_nl_r50_8f": "tsm_nl_resnet50",
    "mmaction2_tsm_nl_dot_r50_8f": "tsm_nl_resnet50",
    "mmaction2_tsm_nl_gauss_r50_8f": "tsm_nl_resnet50",
    "mmaction2_tin_r50_8f": "tin_resnet50",
    "mmaction2_trn_r50_8f": "trn_resnet50",
    "mmaction2_tanet_r50_8f": "tanet_resnet50",
    "mmaction2_tsm_mobilenetv2_8f": "tsm_mobilenetv2_100",
}

OPTIONS = {
    "gsf25_r50_8f": {"ratio": 25},
    "mmaction2_tsm_nl_r50_8f": {"mode": "embedded_gaussian"},
    "mmaction2_tsm_nl_dot_r50_8f": {"mode": "dot_product"},
}

# By the sums in the file, whose rule scales the biases too.
BIAS_UNSCALED = ("mmaction2_tsm_nl_dot_r50_8f",)


def test_every_stored_reference_is_used():
    assert set(REFERENCES) == {file.stem for file in REFERENCE.glob("*.json")}


@pytest.mark.slow
@pytest.mark.parametrize(("file", "model"), REFERENCES.items())
def test_imported_checkpoints_score_as_the_authors_code(file, model, tmp_path):
    reference = json.loads((REFERENCE / f"{file}.json").read_text())
    online = file.endswith("online")
    official = written(reference, tmp_path)
    options = OPTIONS.get(file, {})
    if "relations_used" in reference:  # the subsets of frames that their head drew
        options = {"relations": reference["relations_used"]}
    imported = import_checkpoint(official, model=model, causal=online, **options)
    # Float32 is too coarse where a softmax or the gates of 16 blocks saturate.
    dtype = torch.float64 if "logits_computed_in" in reference else torch.float32
    net, inputs = imported.net.to(dtype), reference["inputs"]
    unused = reference.get("unused_in_forward", [])  # saved by their code, and left out here
    idle = sum(math.prod(shape) for name, shape, _ in reference["state_dict"] if name in unused)
    assert sum(p.numel() for p in net.parameters()) == reference["parameters"] - idle
    with torch.inference_mode():
        for kind in ("A", "B"):
            expected = torch.tensor(inputs[kind]["expected_logits"], dtype=dtype)
            frame_scores = net.frame_scores(clips(kind, net.snippet).to(dtype))
            got = frame_scores.mean(1)
            assert_near(got, expected, 1e-5)
            if online:
                frames = torch.tensor(inputs[kind]["expected_frame_logits"])
                assert_near(frame_scores, frames, 1e-5)
                step, video = net.streaming(batch=2), clips(kind)
                stream = torch.stack([step(video[:, t]) for t in range(FRAMES)], 1)
                assert_near(stream, frames, 1e-5)
        assert_near(got[0] - got[1], expected[0] - expected[1], 1e-4)
        backwards = inputs["B"].get("expected_logits_time_reversed")
        if backwards is not None:
            backwards = torch.tensor(backwards, dtype=dtype)
            reversed_clips = clips("B", net.snippet).flip(1).to(dtype)
            assert_near(net(reversed_clips), backwards, 1e-5)
