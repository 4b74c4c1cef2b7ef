"""Figures of what a network does to clips show, and keep, the right numbers."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kinema.data.transforms import normalize
from kinema.errors import OptionError, SiteError, UnknownNameError, UnreadableVideoError
from kinema.figures import tam_kernels
from kinema.figures.alignment import align_frames
from kinema.figures.channel_attention import channel_attention
from kinema.figures.clip_figures import (
    alignment_summary,
    attention_summary,
    cam_summary,
    choose_channels,
    draw_alignment,
    draw_attention,
    draw_cam,
    write_alignment,
    write_attention,
    write_cam,
)
from kinema.figures.grad_cam import grad_cam
from kinema.figures.shown_clip import ShownClip, read_shown_clip
from kinema.values import Preprocessing

from ...random_weights import tiny_network

FRAMES, SIDE = 4, 32
HOW = Preprocessing(frames=FRAMES, short_side_px=40, crop_px=SIDE)


def made_clip(name: str = "a $clip_", *, motion: int = 10) -> ShownClip:
    """Every frame is brighter than the one before by `motion` gray levels."""
    noise = np.random.default_rng(0).integers(0, 100, (1, SIDE, SIDE, 3))
    frames = (noise + motion * np.arange(FRAMES)[:, None, None, None]).astype(np.uint8)
    clip = normalize(torch.from_numpy(frames).permute(0, 3, 1, 2), HOW.mean, HOW.std)
    return ShownClip(Path(f"{name}.mp4"), frames, (3, 9, 15, 21), 10.0, clip[None])


def picture(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


def test_a_shown_clip_is_what_the_network_is_given(color_set):
    shown = read_shown_clip(color_set / "red" / "0.mp4", HOW)
    assert shown.frames.shape == (FRAMES, SIDE, SIDE, 3)
    assert shown.frame_indices == (1, 4, 7, 10)
    assert (shown.name, shown.when(1)) == ("0", "0.3 s")
    pixels = torch.from_numpy(shown.frames).permute(0, 3, 1, 2)
    torch.testing.assert_close(shown.clip[0], normalize(pixels, HOW.mean, HOW.std))
    assert shown.frames[..., 0].mean() > 100 > shown.frames[..., 1].mean()  # it is red
    with pytest.raises(UnreadableVideoError, match="missing.mp4"):
        read_shown_clip(color_set / "missing.mp4", HOW)


def test_motion_is_the_mean_difference_of_successive_frames():
    shown = made_clip(motion=10)
    assert shown.motion == pytest.approx(10)
    backwards = ShownClip(shown.path, shown.frames[::-1], (3, 2, 1, 0), 10.0, shown.clip)
    assert backwards.motion == pytest.approx(10)
    shown = made_clip(motion=0)
    assert shown.motion == 0
    one = ShownClip(shown.path, shown.frames[:1], (7,), 0, shown.clip[:, :1])
    assert (one.motion, one.when(0)) == (0.0, "frame 7")


def test_channels_of_highest_and_lowest_attention(tmp_path):
    shown = made_clip()
    seen = channel_attention(tiny_network("me"), shown.clip)
    channels = choose_channels(seen)
    order = np.argsort(-seen.means)
    assert channels == [*order[:2], *order[-2:]]
    summary = attention_summary(seen, channels)
    assert [row["channel"] for row in summary] == channels
    assert summary[0]["mean"] == pytest.approx(seen.means.max(), abs=1e-6)
    few = draw_attention(shown, seen, [5], network="n", out=tmp_path / "a.png")
    many = draw_attention(shown, seen, channels, network="n")
    assert picture(many).height > 2.5 * picture(few).height  # 9 strips, and 3
    assert (tmp_path / "a.png").read_bytes() == few
    write_attention(shown, seen, channels, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as kept:
        np.testing.assert_array_equal(kept["attention"], seen.attention)
        np.testing.assert_array_equal(kept["inputs"][1], seen.inputs[:, channels[1]])
        gain = 1 + kept["attention"][:, channels]
        np.testing.assert_allclose(
            kept["outputs"], kept["inputs"] * gain.T[:, :, None, None], rtol=1e-4, atol=1e-5
        )
        assert kept["frame_indices"].tolist() == [3, 9, 15, 21]


def test_wanted_channels():
    seen = channel_attention(tiny_network("mem"), made_clip().clip)
    assert choose_channels(seen, [31, 0, 31]) == [31, 0]
    with pytest.raises(OptionError, match="MEM of res2.0 has channels 0 to 31.*no channel 32"):
        choose_channels(seen, [32])


def test_alignment_rows(tmp_path):
    net, shown = tiny_network("sme", reduction=8), made_clip()
    pairs = [(shown, one) for one in align_frames(net, shown.clip, frame_pairs=[0, 2])]
    (one, two) = alignment_summary(pairs)
    assert (one["frame_indices"], two["frame_indices"]) == ([3, 9], [15, 21])
    similarity = pairs[1][1].similarity
    assert similarity[tuple(two["most_similar"])] == similarity.max()
    assert two["similarity"] == pytest.approx(similarity.max(), abs=1e-6)
    assert two["uniform"] == pytest.approx(1 / similarity.size, abs=1e-6)
    both = picture(draw_alignment(pairs, network="n", out=tmp_path / "a.png"))
    assert both.height > 1.4 * picture(draw_alignment(pairs[:1], network="n")).height
    write_alignment(pairs, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as kept:
        np.testing.assert_allclose(kept["similarity"].sum((1, 2)), 1, rtol=1e-5)
        np.testing.assert_array_equal(kept["frames"][1], shown.frames[2:])
        assert kept["queries"].tolist() == [one["query"], two["query"]]


def test_grad_cam_on_frames(tmp_path):
    net, shown, labels = tiny_network("tsm"), made_clip(), ("red", "green $", "blue")
    cam = grad_cam(net, shown.clip, classes=[1], layer="res3")
    facts = cam_summary(cam, labels)
    assert (facts["layer"], facts["label"], facts["name"]) == ("layer2", 1, "green $")
    assert facts["prob"] == pytest.approx(net(shown.clip).softmax(1)[0, 1].item(), abs=1e-5)
    assert sum(facts["frame_shares"]) == pytest.approx(1, abs=1e-4)
    drawn = draw_cam(shown, cam, labels, network="n", out=tmp_path / "a.png")
    assert picture(drawn).width > 1.5 * picture(drawn).height
    write_cam(shown, cam, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as kept:
        np.testing.assert_array_equal(kept["maps"], cam.maps[0])
        np.testing.assert_array_equal(kept["scores"], cam.scores[0])
        assert kept["label"] == 1


def test_a_class_without_evidence_can_be_drawn():
    net, shown = tiny_network("tsn"), made_clip()
    torch.nn.init.zeros_(net.head.classifier.weight)
    cam = grad_cam(net, shown.clip, classes=[0])
    assert cam.maps.max() == 0
    assert cam_summary(cam, "abc")["frame_shares"] == [0.0] * FRAMES
    assert picture(draw_cam(shown, cam, "abc", network="n")).width > 300


def test_kernels_of_clips_beside_a_network_with_shared_ones(tmp_path):
    clips = [made_clip(f"clip {n}", motion=n) for n in (9, 1, 5)]
    study = tam_kernels.study_kernels(tiny_network("tam"), clips, blocks=["res4.0", "res2.0"])
    assert list(study.made) == ["res4.0", "res2.0"]
    assert study.motion == pytest.approx([9, 1, 5])
    study = tam_kernels.beside(study, tiny_network("i3d"))
    rows = tam_kernels.kernel_summary(study)
    assert len(rows) == 2 * 3 * (3 + 1)  # blocks, offsets, clips and the other network
    theta = study.made["res4.0"][1].kernels
    row = next(r for r in rows if (r["block"], r["of"]) == ("res4.0", "clip 1") and r["offset"] > 0)
    assert row["median"] == pytest.approx(np.median(theta[..., 2]), abs=1e-6)
    assert (row["min"], row["max"]) == pytest.approx(
        (theta[..., 2].min(), theta[..., 2].max()), abs=1e-6
    )
    weight = tiny_network("i3d").inserted()[0][1].weight.detach().numpy()
    shared = next(r for r in rows if r["of"] == "i3d_test_resnet" and r["block"] == "res2.0")
    assert shared["min"] == pytest.approx(weight[:, :, 0].min(), abs=1e-6)
    tam_kernels.write_kernels(study, tmp_path / "k.npz")
    with np.load(tmp_path / "k.npz") as kept:
        np.testing.assert_allclose(kept["res4.0_theta"].sum(-1), 1, rtol=1e-5)
        assert kept["res4.0_theta"].shape == (3, 48, 1, 3)
        assert kept["res2.0_v"].shape == (3, 32, FRAMES)
        np.testing.assert_array_equal(kept["res2.0_shared_-1"], weight[:, :, 0].ravel())


@pytest.mark.slow
def test_figures_of_kernels_have_a_row_for_each_block_and_a_column_for_each_clip(tmp_path):
    clips = [made_clip(f"clip {n}", motion=n) for n in (9, 1, 5)]
    study = tam_kernels.study_kernels(tiny_network("tam"), clips, blocks=["res4.0", "res2.0"])
    study = tam_kernels.beside(study, tiny_network("i3d"))
    wide = picture(tam_kernels.draw_violins(study, tmp_path / "v.png"))
    alone = tam_kernels.study_kernels(tiny_network("tam"), clips[:1], blocks=["res4.0"])
    for draw in (tam_kernels.draw_violins, tam_kernels.draw_distributions):
        assert picture(draw(study)).height > 1.5 * picture(draw(alone)).height
    assert picture(tam_kernels.draw_motion(study)).height > 400
    with pytest.raises(OptionError, match="at least two clips, got one"):
        tam_kernels.draw_motion(alone)
    assert wide.width > 2.5 * picture(tam_kernels.draw_violins(alone)).width


def test_kernel_weight_on_other_frames():
    made = tam_kernels.study_kernels(tiny_network("tam"), [made_clip()]).made
    assert list(made) == ["res2.0", "res3.0", "res4.0", "res5.0"]  # the last of each stage
    one = made["res2.0"][0]
    expected = one.kernels[:, 0, 0] + one.kernels[:, 0, 2]
    np.testing.assert_allclose(tam_kernels.off_frame_weight(one), expected, rtol=1e-4, atol=1e-6)


def test_kernels_that_are_all_equal_and_no_local_branch_can_be_drawn():
    net = tiny_network("tam_global")
    for _, module in net.temporal_modules():
        torch.nn.init.zeros_(module.global_branch[3].weight)
    study = tam_kernels.study_kernels(net, [made_clip("a"), made_clip("b")], blocks=["res2.0"])
    np.testing.assert_allclose(study.made["res2.0"][0].kernels, 1 / 3, rtol=1e-6)
    for draw in (
        tam_kernels.draw_violins,
        tam_kernels.draw_distributions,
        tam_kernels.draw_motion,
    ):
        assert picture(draw(study)).width > 300


def test_kernels_of_blocks_that_do_not_exist():
    with pytest.raises(UnknownNameError, match="runs/t has no temporal adaptive module in a block"):
        tam_kernels.study_kernels(
            tiny_network("tam"), [made_clip()], blocks=["res4.1"], source="runs/t"
        )
    study = tam_kernels.study_kernels(tiny_network("tam"), [made_clip()])
    with pytest.raises(SiteError, match=r"runs/s \(tsm_test_resnet\) has no temporal convolution"):
        tam_kernels.beside(study, tiny_network("tsm"), source="runs/s")
