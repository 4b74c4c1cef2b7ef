"""Figures of what a network does to clips show, and keep, the right numbers."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from kinema.data.transforms import normalize
from kinema.errors import OptionError, SiteError, UnknownNameError, UnreadableVideoError
from kinema.figures import clip_figures, kernel_figures, tam_kernels
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
from kinema.models.zoo import create_model
from kinema.report import plots
from kinema.values import Preprocessing

from ...random_weights import randomized, tiny_network

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


def test_alignment_rows(tmp_path, drawn):
    net, places = tiny_network("sme", reduction=8), [(0.1, 0.2), (0.9, 0.5)]
    shown = [in_folder("jump", "a"), in_folder("run", "b")]
    pairs = [
        (one, found)
        for one in shown
        for found in align_frames(net, one.clip, frame_pairs=[2], queries=places)
    ]
    summary = alignment_summary(pairs)
    assert [row["query"] for row in summary[:2]] == [list(q) for q in pairs[0][1].queries]
    assert summary[3]["frame_indices"] == [15, 21]
    similarity = pairs[1][1].similarity[1]
    assert similarity[tuple(summary[3]["most_similar"])] == similarity.max()
    assert summary[3]["similarity"] == pytest.approx(similarity.max(), abs=1e-6)
    assert summary[3]["uniform"] == pytest.approx(1 / similarity.size, abs=1e-6)
    draw_alignment(pairs, network="n", out=tmp_path / "a.png")
    strips = drawn[-1].axes[:4]  # the fifth is the color bar
    assert [plot.get_ylabel() for plot in strips] == [
        "jump\na",
        *["similarity", "run\nb"],
        "similarity",
    ]
    assert [text.get_text().partition(", ")[0] for text in strips[0].texts] == [
        *("frame t", "frame t+1", "matrix", "features", "aligned", "aligned frame"),
    ]
    assert len(strips[1].images) == 2 * 2  # the frame and the similarity of each place
    found = pairs[0][1]
    matrix, aligned = (strips[0].images[i].get_array() for i in (2, 5))
    np.testing.assert_allclose(matrix**2 * found.matrix.max(), found.matrix, rtol=1e-4, atol=1e-7)
    row, column = divmod(int(found.gain.argmax()), found.gain.shape[1])
    scale = SIDE // found.gain.shape[0]
    inside = (slice(row * scale, (row + 1) * scale), slice(column * scale, (column + 1) * scale))
    assert aligned[inside].sum() > 0.7 * shown[0].frames[3][inside].sum()
    assert (aligned <= shown[0].frames[3]).all()
    many = align_frames(net, shown[0].clip, queries=[(0, 0)] * 7)
    with pytest.raises(OptionError, match="up to 6 positions, got 7"):
        draw_alignment([(shown[0], many[0])], network="n")
    write_alignment(pairs, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as kept:
        assert kept["queries"].shape == (2, 2, 2)
        np.testing.assert_array_equal(kept["similarity"][1, 1], similarity)
        np.testing.assert_array_equal(kept["matrix"][0], found.matrix)
        np.testing.assert_array_equal(kept["gain"][0], found.gain)
        assert kept["frames"].shape == (2, 2, SIDE, SIDE, 3)


def test_nothing_is_cut_at_the_edge_of_a_picture(drawn):
    shown = made_clip()
    net = tiny_network("sme", reduction=8)
    draw_alignment([(shown, align_frames(net, shown.clip)[0])], network="n")
    draw_attention(shown, channel_attention(net, shown.clip), [5], network="n")
    draw_cam(shown, grad_cam(net, shown.clip), "abc", network="n")
    sets = [
        tam_kernels.study_kernels(tiny_network("tam"), [shown], blocks=["res2.0"], label=name)
        for name in ("one", "a rather long name of a set")
    ]
    kernel_figures.draw_violins(sets)
    kernel_figures.draw_distributions(sets)
    kernel_figures.draw_motion(sets)
    for figure in drawn:
        whole = figure.get_tightbbox()  # in inches
        width, height = figure.get_size_inches()
        assert min(whole.x0, whole.y0) >= 0
        assert whole.x1 <= width
        assert whole.y1 <= height


def test_long_clips_show_frames_that_fit(drawn):
    shown = made_clip()
    many = replace(
        shown,
        frames=shown.frames.repeat(5, 0),
        clip=shown.clip.repeat_interleave(5, 1),
        frame_indices=tuple(range(20)),
    )
    torch.manual_seed(0)
    net = randomized(create_model("me_test_resnet", classes=3, frames=20))
    draw_attention(many, channel_attention(net, many.clip), [5], network="n")
    draw_cam(many, grad_cam(net, many.clip), "abc", network="n")
    for figure in drawn:
        assert "1 of 3 frames" in figure.get_suptitle()
        assert figure.get_figwidth() <= 7.3
        assert [t.get_text() for t in figure.axes[0].texts] == [
            f"{i / 10:.1f} s" for i in range(0, 20, 3)
        ]


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


def test_kernels_of_two_sets_and_of_networks_with_shared_ones(tmp_path):
    clips = [made_clip(f"clip {n}", motion=n) for n in (9, 1, 5)]
    net, blocks = tiny_network("tam"), ["res4.0", "res2.0"]
    study = tam_kernels.study_kernels(net, clips, blocks=blocks, label="first")
    other = tam_kernels.study_kernels(net, clips[:1], blocks=blocks, label="second")
    assert list(study.made) == ["res4.0", "res2.0"]
    assert study.motion == pytest.approx([9, 1, 5])
    shared = [
        tam_kernels.study_shared(tiny_network(name), blocks, label=name) for name in ("i3d", "tim")
    ]
    rows = tam_kernels.kernel_summary([study, other], shared)
    assert len(rows) == 2 * 3 * (3 + 1 + 2)  # blocks, offsets, clips of both, other networks
    theta = study.made["res4.0"][1].kernels
    row = next(r for r in rows if (r["block"], r["of"]) == ("res4.0", "clip 1") and r["offset"] > 0)
    assert row["set"] == "first"
    assert row["median"] == pytest.approx(np.median(theta[..., 2]), abs=1e-6)
    assert (row["min"], row["max"]) == pytest.approx(
        (theta[..., 2].min(), theta[..., 2].max()), abs=1e-6
    )
    weight = tiny_network("i3d").inserted()[0][1].weight.detach().numpy()
    row = next(r for r in rows if r["of"] == "i3d" and r["block"] == "res2.0")
    assert row["min"] == pytest.approx(weight[:, :, 0].min(), abs=1e-6)
    tam_kernels.write_kernels([study, other], shared, tmp_path / "k.npz")
    with np.load(tmp_path / "k.npz") as kept:
        np.testing.assert_allclose(kept["res4.0_theta"].sum(-1), 1, rtol=1e-5)
        assert kept["res4.0_theta"].shape == (3, 48, 1, 3)
        assert kept["res2.0_v"].shape == (3, 32, FRAMES)
        np.testing.assert_array_equal(kept["res2.0_shared_-1"], weight[:, :, 0].ravel())
        np.testing.assert_array_equal(kept["2_res4.0_theta"], kept["res4.0_theta"][:1])
        assert kept["2_res2.0_shared_+1"].shape == (32,)  # TIM has a kernel per channel
        assert kept["sets"].tolist() == ["first", "second"]
        assert kept["shared"].tolist() == ["i3d", "tim"]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures that are saved, kept for a look at their parts."""
    figures: list[Figure] = []
    plain_save = plots.save_png

    def keep(figure: Figure, out: Path | None) -> bytes:
        figures.append(figure)
        return plain_save(figure, out)

    for module in (kernel_figures, clip_figures):
        monkeypatch.setattr(module, "save_png", keep)
    return figures


def in_folder(folder: str, name: str, motion: int = 10) -> ShownClip:
    return replace(made_clip(motion=motion), path=Path("set", folder, f"{name}.mp4"))


def titles(figure: Figure) -> list[str]:
    return [plot.get_title() for plot in figure.axes if plot.get_title()]


@pytest.mark.slow
def test_violins_of_two_sets_show_two_clips_of_a_class_and_are_not_cut(drawn):
    net = tiny_network("tam")
    places = [("jump", "a"), ("run", "b"), ("jump", "c"), ("jump", "d")]
    study = tam_kernels.study_kernels(net, [in_folder(*p) for p in places], blocks=["res2.0"])
    assert [one.name for one in study.shown] == ["a", "c", "d", "b"]  # by folder
    kernel_figures.draw_violins([study])
    assert titles(drawn[-1]) == ["jump\na", "jump\nc", "jump\nd", "run\nb", "all 4 clips\n"]
    more = tam_kernels.study_kernels(
        net, [in_folder(f, n, 3) for f in ("x", "y") for n in "abc"], blocks=["res2.0"], label="two"
    )
    shared = tam_kernels.study_shared(tiny_network("i3d"), ["res2.0"])
    kernel_figures.draw_violins([study, more], [shared])
    assert titles(drawn[-1]) == [
        *("jump\na", "jump\nc", "all 4 clips\n", "x\na", "x\nb", "all 6 clips\n"),
        "i3d_test_resnet\nown scale",
    ]
    assert [t.get_text() for t in drawn[-1].texts if t.get_text() in ("two", study.label)] == [
        study.label,
        "two",
    ]
    *adaptive, own = drawn[-1].axes
    assert len({plot.get_ylim() for plot in adaptive}) == 1
    assert own.get_ylim() != adaptive[0].get_ylim()
    for plot in drawn[-1].axes:
        low, high = plot.get_ylim()
        assert low < plot.dataLim.y0 < plot.dataLim.y1 < high
    kernel_figures.draw_violins([more])
    assert titles(drawn[-1]) == ["x\na", "x\nb", "y\na", "y\nb", "all 6 clips\n"]


def test_gates_and_kernels_of_two_sets_have_one_scale(drawn):
    net = tiny_network("tam")
    sets = [
        tam_kernels.study_kernels(net, [made_clip(motion=m)], blocks=["res2.0"], label=f"set {m}")
        for m in (3, 9)
    ]
    kernel_figures.draw_distributions(sets)
    assert titles(drawn[-1]) == ["set 3\n1 clip", "set 9\n1 clip"] * 2
    one, two, three, four = drawn[-1].axes
    assert one.get_ylim() == two.get_ylim()
    assert three.get_ylim() == four.get_ylim()
    (legend,) = drawn[-1].legends
    assert [text.get_text() for text in legend.get_texts()] == ["-1", "0", "+1"]
    assert not any(legend.get_window_extent().overlaps(p.get_tightbbox()) for p in drawn[-1].axes)


def test_weights_at_t_0_stand_beside_the_frames_of_their_clips(drawn):
    clips = [made_clip(f"clip {n}", motion=n) for n in (9, 1, 5, 3, 7)]
    study = tam_kernels.study_kernels(tiny_network("tam"), clips, blocks=["res4.0", "res2.0"])
    kernel_figures.draw_motion([study])
    figure = drawn[-1]
    strips = [plot for plot in figure.axes if plot.images]
    assert [plot.get_title(loc="left") for plot in strips] == [
        f"clip {n}, motion {n}.0"
        for n in (1, 3, 7, 9)  # the least and the most
    ]
    np.testing.assert_array_equal(strips[3].images[0].get_array(), clips[0].frames[0])
    assert len(strips[0].images) == FRAMES
    beside = [plot for plot in figure.axes if plot.get_ylabel() == "density"]
    for strip, plot in zip(strips, beside, strict=True):
        left, right = strip.get_position(), plot.get_position()
        assert (left.y0, left.y1) == pytest.approx((right.y0, right.y1))
        assert left.x1 < right.x0
    scatter = next(p for p in figure.axes if p.get_title() == "res2.0: median and quartiles")
    x, y = scatter.containers[0].lines[0].get_data()
    np.testing.assert_array_equal(x, study.motion)
    medians = [np.median(one.kernels[:, 0, 1]) for one in study.made["res2.0"]]
    np.testing.assert_allclose(y, medians, rtol=1e-6)
    (low, high), data = scatter.get_xlim(), scatter.dataLim
    assert low < data.x0 - 0.5 < data.x1 + 0.5 < high  # no marker is cut
    with pytest.raises(OptionError, match="at least two clips, got one"):
        kernel_figures.draw_motion([tam_kernels.study_kernels(tiny_network("tam"), clips[:1])])


def test_kernel_weight_at_t_0():
    made = tam_kernels.study_kernels(tiny_network("tam"), [made_clip()]).made
    assert list(made) == ["res2.0", "res3.0", "res4.0", "res5.0"]  # the last of each stage
    one = made["res2.0"][0]
    np.testing.assert_array_equal(tam_kernels.center_weight(one), one.kernels[:, 0, 1])
    causal = tam_kernels.study_kernels(tiny_network("tam", causal=True), [made_clip()]).made
    one = causal["res2.0"][0]
    np.testing.assert_array_equal(tam_kernels.center_weight(one), one.kernels[..., 2].ravel())


def test_kernels_that_are_all_equal_and_no_local_branch_can_be_drawn():
    net = tiny_network("tam_global")
    for _, module in net.temporal_modules():
        torch.nn.init.zeros_(module.global_branch[3].weight)
    study = tam_kernels.study_kernels(net, [made_clip("a"), made_clip("b")], blocks=["res2.0"])
    np.testing.assert_allclose(study.made["res2.0"][0].kernels, 1 / 3, rtol=1e-6)
    for draw in (
        kernel_figures.draw_violins,
        kernel_figures.draw_distributions,
        kernel_figures.draw_motion,
    ):
        assert picture(draw([study])).width > 300


def test_kernels_of_blocks_that_do_not_exist():
    with pytest.raises(UnknownNameError, match="runs/t has no temporal adaptive module in a block"):
        tam_kernels.study_kernels(
            tiny_network("tam"), [made_clip()], blocks=["res4.1"], source="runs/t"
        )
    with pytest.raises(SiteError, match=r"runs/s \(tsm_test_resnet\) has no temporal convolution"):
        tam_kernels.study_shared(tiny_network("tsm"), ["res2.0"], source="runs/s")
