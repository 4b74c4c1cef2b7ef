"""What is seen inside a network is what it computes, against plain forms of the equations."""

import numpy as np
import pytest
import torch
from torch import nn

from kinema.errors import InputShapeError, OptionError, SiteError, UnknownNameError
from kinema.figures.adaptive_kernels import ADAPTIVE, SHARED, adaptive_kernels, shared_kernels
from kinema.figures.alignment import ALIGNING, align_frames, similarity_matrix
from kinema.figures.capture import run_watched
from kinema.figures.channel_attention import ATTENTION, channel_attention
from kinema.models.network import VideoNetwork
from kinema.models.zoo import create_model
from kinema.temporal import ME, MEM, SE, SME, TAM, list_temporal

from ...random_weights import randomized, tiny_network

FRAMES = 4


def clip(clips: int = 1) -> torch.Tensor:
    return torch.randn(clips, FRAMES, 3, 32, 32)


def module_of(net: VideoNetwork, block: str, kind: type[nn.Module]) -> nn.Module:
    (found,) = [
        part
        for site, module in net.inserted()
        for part in module.modules()
        if f"res{site.stage}.{site.block}" == block and isinstance(part, kind)
    ]
    return found


def me_attention(me: ME, x_TCHW: torch.Tensor) -> torch.Tensor:
    """TEA, eq. 2-6, frame by frame."""
    reduced = me.reduce(x_TCHW)
    rows = []
    for t in range(FRAMES):
        motion = torch.zeros_like(reduced[:1])
        if t + 1 < FRAMES:
            motion = me.transform(reduced[t + 1 : t + 2]) - reduced[t : t + 1]
        rows.append(me.expand(motion.mean((2, 3), keepdim=True)).flatten())
    return torch.sigmoid(torch.stack(rows)) - 0.5


def mem_attention(mem: MEM, x_TCHW: torch.Tensor) -> torch.Tensor:
    """TEINet, eq. 1-2, frame by frame."""
    pooled = x_TCHW.mean((2, 3))
    rows = [
        torch.sigmoid(mem.restore(mem.reduce_present(pooled[t]) - mem.reduce_other(pooled[t + 1])))
        for t in range(FRAMES - 1)
    ]
    return torch.stack([*rows, torch.ones(pooled.shape[1])])


def sme_attention(sme: SME, x_TCHW: torch.Tensor) -> torch.Tensor:
    """TSI, eq. 3-6, frame by frame."""
    reduced = sme.reduce(x_TCHW)
    rows = []
    for t in range(FRAMES):
        motion = torch.zeros_like(reduced[:1])
        if t + 1 < FRAMES:
            present, following = reduced[t : t + 1], reduced[t + 1 : t + 2]
            following = following * attended(present[0], following[0])
            level = torch.zeros_like(present)
            for conv in sme.pyramid:
                level = conv(level + following)
                motion = motion + level - present
        rows.append(sme.expand(motion.mean((2, 3), keepdim=True)).flatten())
    return torch.sigmoid(torch.stack(rows))


def se_attention(se: SE, x_TCHW: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(se.expand(torch.relu(se.squeeze(x_TCHW.mean((2, 3))))))


def similarity(queries_DHW: torch.Tensor, keys_DHW: torch.Tensor) -> torch.Tensor:
    """The whole matrix softmax(Q K^T / sqrt(D)), a row for each place."""
    queries_SD, keys_SD = queries_DHW.flatten(1).T, keys_DHW.flatten(1).T
    return torch.softmax(queries_SD @ keys_SD.T / queries_SD.shape[1] ** 0.5, dim=1)


def attended(queries_DHW: torch.Tensor, keys_DHW: torch.Tensor) -> torch.Tensor:
    values_SD = similarity(queries_DHW, keys_DHW) @ keys_DHW.flatten(1).T
    return values_SD.T.reshape(keys_DHW.shape)


@pytest.mark.parametrize(
    ("name", "options", "block", "kind", "plain", "residual"),
    [
        ("me", {}, "res2.0", ME, me_attention, True),
        ("tei", {}, "res3.0", MEM, mem_attention, False),
        ("se_tim", {}, "res5.0", SE, se_attention, False),
        ("sme", {"reduction": 8}, "res4.0", SME, sme_attention, True),
        ("tsi", {"reduction": 8}, "res4.0", SME, sme_attention, True),
    ],
)
def test_attention_is_what_the_equations_say_and_what_the_output_has(
    name, options, block, kind, plain, residual
):
    net, x = tiny_network(name, **options), clip()
    before = net(x)
    seen = channel_attention(net, x, block=block)
    assert (seen.block, seen.module, seen.residual) == (block, kind.__name__, residual)
    inputs, attention = torch.from_numpy(seen.inputs), torch.from_numpy(seen.attention)
    with torch.no_grad():
        expected = plain(module_of(net, block, kind), inputs)
    torch.testing.assert_close(attention, expected, rtol=1e-4, atol=1e-5)
    assert attention.std(0).mean() > 1e-4  # frames differ, or the test would be empty
    outputs = inputs * (attention + float(residual))[:, :, None, None]
    torch.testing.assert_close(torch.from_numpy(seen.outputs), outputs, rtol=1e-4, atol=1e-5)
    alone = kind is SE  # compares no frames
    assert seen.compared.tolist() == [True] * (FRAMES - 1) + [alone]
    np.testing.assert_allclose(seen.means, seen.attention[seen.compared].mean(0))
    # Nothing is left in the network.
    assert all(not module._forward_hooks for module in net.modules())
    torch.testing.assert_close(net(x), before, rtol=0, atol=0)


def test_the_first_block_is_the_default_and_a_causal_module_lacks_the_first_neighbor():
    seen = channel_attention(tiny_network("mem", causal=True), clip())
    assert seen.block == "res2.0"
    assert seen.compared.tolist() == [False, True, True, True]
    assert (seen.attention[0] == 1).all()


def test_a_block_with_two_modules_names_them():
    net = tiny_network("mem").insert("se").eval()
    seen = channel_attention(net, clip(), block="res3.0 SE")
    assert seen.module == "SE"
    assert channel_attention(net, clip()).block == "res2.0 MEM"


def test_what_passed_is_kept_before_layers_behind_work_in_place():
    net = randomized(tiny_network("tsn").insert("me", at="before_addition"))
    me = module_of(net, "res2.0", ME)
    (passed,) = run_watched(net, clip(), [me])
    with torch.no_grad():
        torch.testing.assert_close(passed.returned, me(passed.given))


def test_a_network_without_the_module_says_what_it_has_and_who_has_one():
    message = (
        r"runs/x/best \(tsm_test_resnet\) has no channel attention. Its temporal modules: tsm. "
        r"Networks with one: mem, tei, se_tim, me, me_tim, tea, sme, sme_tim, tsi"
    )
    with pytest.raises(SiteError, match=message):
        channel_attention(tiny_network("tsm"), clip(), source="runs/x/best")
    with pytest.raises(SiteError, match="Its temporal modules: none.*Networks with one: tam, "):
        adaptive_kernels(tiny_network("tsn"), clip())
    with pytest.raises(
        SiteError, match="no saliency alignment.*Networks with one: sme, sme_tim, tsi"
    ):
        align_frames(tiny_network("me"), clip())
    with pytest.raises(SiteError, match="no temporal convolution.*i3d"):
        shared_kernels(tiny_network("tsm"), "res2.0")


@pytest.mark.parametrize("kind", [ATTENTION, ADAPTIVE, SHARED, ALIGNING], ids=lambda k: k.what)
def test_the_modules_that_messages_recommend_are_those_that_have_one(kind):
    having = set()
    # MTA needs a Res2Net, CT blocks without a stride.
    for name in set(list_temporal()) - {"mta", "ctnet"}:
        net = VideoNetwork("n", "test_resnet", classes=3, frames=FRAMES).insert(name)
        if any(isinstance(part, kind.classes) for part in net.modules()):
            having.add(name)
    assert having == set(kind.holders) - {"mta"}


@pytest.mark.parametrize(
    ("look", "name", "options", "message"),
    [
        (channel_attention, "sme", {"channel_attention": False}, "channel_attention=False"),
        (align_frames, "sme", {"alignment": False}, "alignment=False"),
        (adaptive_kernels, "tam_local", {}, "branches='local': its TAMs make no kernels"),
    ],
)
def test_a_module_without_the_part_says_so(look, name, options, message):
    with pytest.raises(OptionError, match=message):
        look(tiny_network(name, **options), clip())


def test_wrong_blocks_batches_and_modes_are_refused():
    net = tiny_network("me")
    with pytest.raises(UnknownNameError, match="block 'res2.7'. Blocks that have one: res2.0, res"):
        channel_attention(net, clip(), block="res2.7")
    with pytest.raises(UnknownNameError, match="no temporal convolution in a block 'res9.0'"):
        shared_kernels(tiny_network("i3d"), "res9.0")
    with pytest.raises(InputShapeError, match=r"one clip of shape \(1, 4, 3, H, W\).*\(2, 4"):
        channel_attention(net, clip(2))
    with pytest.raises(OptionError, match="eval mode only"):
        channel_attention(net.train(), clip())


def test_kernels_and_gates_of_tam_give_its_output():
    net, x = tiny_network("tam"), clip()
    made = {one.block: one for one in adaptive_kernels(net, x)}
    assert list(made) == ["res2.0", "res3.0", "res4.0", "res5.0"]
    one = made["res4.0"]
    assert (one.offsets, one.kernels.shape, one.gates.shape) == ((-1, 0, 1), (48, 1, 3), (48, 4))
    np.testing.assert_allclose(one.kernels.sum(-1), 1, rtol=1e-5)
    assert (one.kernels > 0).all()
    assert ((one.gates > 0) & (one.gates < 1)).all()
    assert one.kernels.std(0).min() > 1e-3
    (passed,) = run_watched(net, x, [module_of(net, "res4.0", TAM)])
    gated = passed.given * torch.from_numpy(one.gates).T[:, :, None, None]
    expected = torch.zeros_like(gated)
    for t in range(FRAMES):
        for tap, offset in enumerate(one.offsets):
            if 0 <= t + offset < FRAMES:
                weight_C = torch.from_numpy(one.kernels[:, 0, tap])
                expected[t] += weight_C[:, None, None] * gated[t + offset]
    torch.testing.assert_close(passed.returned, expected, rtol=1e-4, atol=1e-5)


def test_kernels_of_other_forms_of_tam():
    causal = adaptive_kernels(tiny_network("tam", causal=True, kernel=5), clip())[0]
    assert causal.offsets == (-4, -3, -2, -1, 0)
    assert causal.kernels.shape == (32, FRAMES, 5)  # every frame has its own
    assert adaptive_kernels(tiny_network("tam_global"), clip())[0].gates is None


@pytest.mark.parametrize(
    ("name", "options", "weight"),
    [
        ("i3d", {}, "weight"),
        ("tim", {"causal": True}, "weight"),
        ("r2plus1d_conv", {}, "weight"),
        ("gst", {}, "temporal"),
        ("gte", {}, "lts"),
    ],
)
def test_shared_kernels_are_the_weights_by_offset(name, options, weight):
    net = tiny_network(name, **options)
    (tensor,) = [
        getattr(m, weight) for site, m in net.inserted() if (site.stage, site.block) == (3, 0)
    ]
    offsets = (-2, -1, 0) if options else (-1, 0, 1)
    shared = shared_kernels(net, "res3.0")
    assert tuple(shared) == offsets
    for tap, offset in enumerate(offsets):
        expected = tensor.detach()[:, :, tap].flatten().numpy()
        np.testing.assert_array_equal(shared[offset], expected)


def test_all_temporal_convolutions_of_a_block_count():
    net = tiny_network("tsi", reduction=8)  # three groups of 12 channels have one
    assert {offset: len(w) for offset, w in shared_kernels(net, "res4.0").items()} == {
        -1: 36,
        0: 36,
        1: 36,
    }


def test_alignment_has_rows_of_the_whole_similarity():
    net, x = tiny_network("tsi", reduction=8), clip()
    sme = module_of(net, "res4.0", SME)
    (passed,) = run_watched(net, x, [sme.reduce])
    reduced = passed.returned
    found = align_frames(net, x, frame_pairs=[0, 2], queries=[(0.99, 0.3), (0, 0)])
    assert [one.pair for one in found] == [0, 2]
    for one in found:
        present, following = reduced[one.pair], reduced[one.pair + 1]
        height, width = present.shape[1:]
        assert one.queries == ((int(0.3 * height), width - 1), (0, 0))
        whole = similarity(present, following)
        rows = whole[[row * width + column for row, column in one.queries]]
        torch.testing.assert_close(
            torch.from_numpy(one.similarity).flatten(1), rows, rtol=1e-5, atol=1e-6
        )
        assert one.most_similar == tuple(divmod(index, width) for index in rows.argmax(1).tolist())
        # The features are no larger than the grid, so its matrix is the whole one.
        torch.testing.assert_close(torch.from_numpy(one.matrix), whole, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(one.features, following.numpy())
        output = attended(present, following)
        expected = following * output
        torch.testing.assert_close(torch.from_numpy(one.enhanced), expected, rtol=1e-4, atol=1e-5)
        gain = torch.from_numpy(one.gain)
        torch.testing.assert_close(gain, output.abs().mean(0), rtol=1e-4, atol=1e-5)


def test_a_large_similarity_is_summed_between_cells():
    torch.manual_seed(0)
    present, following = torch.randn(2, 5, 6, 9)  # D = 5, 54 positions
    matrix = similarity_matrix(present, following, grid=4)
    whole = similarity(present, following).view(6, 9, 6, 9)
    rows, columns = [0, 0, 1, 2, 2, 3], [0, 0, 0, 1, 1, 2, 2, 3, 3]
    expected = torch.zeros(4, 4, 4, 4)
    counts = torch.zeros(4, 4)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            counts[row, column] += 1
            for k, below in enumerate(rows):
                for m, beside in enumerate(columns):
                    expected[row, column, below, beside] += whole[i, j, k, m]
    expected = (expected / counts[:, :, None, None]).view(16, 16)
    torch.testing.assert_close(matrix, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(matrix.sum(1), torch.ones(16))


def test_the_places_that_change_most_are_looked_for():
    net, x = tiny_network("sme", reduction=8), torch.zeros(1, FRAMES, 3, 64, 64)
    x[0, 2, :, 40:48, 8:16] = 2  # frames 1 and 2 differ here
    x[0, 2, :, 8:16, 48:56] = 1  # and less here
    (one,) = align_frames(net, x, frame_pairs=[1])
    height, width = one.gain.shape
    assert one.queries[:2] == (
        (44 * height // 64, 12 * width // 64),
        (12 * height // 64, 52 * width // 64),
    )
    assert len(one.queries) == 3
    assert align_frames(net, x)[0].pair == 1  # the middle one


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame_pairs": [3]}, "no frame pair 3: res4.0 of runs/x sees 4 frames.*0 to 2"),
        ({"frame_pairs": [-1]}, "no frame pair -1"),
        ({"queries": [(0, 0), (0.2, 1.1)]}, r"two fractions between 0 and 1, got \(0.2, 1.1\)"),
        ({"queries": []}, "Expected at least one position, got none"),
    ],
)
def test_pairs_and_places_outside_the_clip_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        align_frames(tiny_network("sme", reduction=8), clip(), source="runs/x", **options)


@pytest.mark.slow
def test_attention_of_the_slow_pathway():
    torch.manual_seed(0)
    net = create_model("mem_slowfast_resnet50", classes=3, frames=16)
    net = randomized(net)
    x = torch.randn(1, 16, 3, 64, 64)
    seen = channel_attention(net, x, block="res4.0")  # the slow trunk's blocks come first
    assert (seen.frame_stride, len(seen.attention), len(seen.compared)) == (8, 2, 2)
