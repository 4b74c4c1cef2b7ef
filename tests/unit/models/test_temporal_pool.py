"""TSM's temporal pool: half the frames from res3 on."""

import pytest
import torch
import torch.nn.functional as F

from kinema import create_model
from kinema.errors import CheckpointError, OptionError, SiteError
from kinema.inference.fold import fold_batch_norms
from kinema.inference.fuse import fuse_convolutions
from kinema.models.convert.importer import import_checkpoint
from kinema.models.saved import load_saved, save

# Stem and res2 of ResNet-50 at 224 pixels, by hand: 7 x 7 from 3 to 64 channels on 112 x 112, then
# three blocks of 1 x 1, 3 x 3 and 1 x 1 on 56 x 56, the first with a 1 x 1 shortcut.
STEM = 64 * 3 * 49 * 112**2
RES2 = 56**2 * (64 * 64 + 64 * 256 + 2 * 256 * 64 + 2 * 64 * 256 + 3 * 9 * 64 * 64 + 64 * 256)


def pooled(family: str = "tsm", *, frames: int = 8, **options) -> torch.nn.Module:
    torch.manual_seed(0)
    net = create_model(
        f"{family}_resnet18", classes=3, frames=frames, temporal_pool=True, **options
    )
    torch.nn.init.normal_(net.head.classifier.weight)
    return net.eval()


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    return torch.randn(2, 8, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_it_is_the_maximum_of_three_frames_in_front_of_res3(clips):
    net = pooled()
    parts = [create_model("tsm_resnet18", classes=3, frames=frames).eval() for frames in (8, 4)]
    for part in parts:
        names = [n.replace("layer2.0.layer.", "layer2.0.") for n in net.state_dict()]
        part.load_state_dict(dict(zip(names, net.state_dict().values(), strict=True)))
    early, late = (part.backbone for part in parts)
    with torch.no_grad():
        x = early.maxpool(early.act1(early.bn1(early.conv1(clips.flatten(0, 1)))))
        x_BTCHW = early.layer1(x).unflatten(0, (2, 8))
        x_BCTHW = F.max_pool3d(x_BTCHW.transpose(1, 2), (3, 1, 1), (2, 1, 1), (1, 0, 0))
        x = late.layer4(late.layer3(late.layer2(x_BCTHW.transpose(1, 2).flatten(0, 1))))
        scores_BTK = parts[1].head(late.global_pool(x), 4)
        torch.testing.assert_close(net(clips), scores_BTK.mean(1), rtol=1e-5, atol=1e-5)
        per_frame = net.frame_scores(clips)
    torch.testing.assert_close(per_frame, scores_BTK.repeat_interleave(2, 1), rtol=1e-5, atol=1e-5)


def test_cost_and_reach():
    with torch.device("meta"):
        plain = create_model("tsm_resnet50", classes=174)
        net = create_model("tsm_resnet50", classes=174, temporal_pool=True)
    late = plain.cost().macs // 8 - STEM - RES2
    assert net.cost().macs == 8 * (STEM + RES2) + 4 * late
    assert net.cost().params == plain.cost().params == 23_864_558
    # One frame each way: three shifts in res2, the pool, then 13 shifts at half the rate.
    assert (net.reach.look_back, net.reach.look_ahead) == (3 + 1 + 13 * 2, 3 + 1 + 13 * 2)
    assert {(site.stage >= 3, site.frame_stride) for site in net.sites()} == {
        (False, 1),
        (True, 2),
    }


def test_modules_behind_it_have_half_the_frames(clips):
    net = pooled("tam")
    frames = {site.stage: module.frames for site, module in net.inserted()}
    assert frames == {2: 8, 3: 4, 4: 4, 5: 4}
    net.interpolate_frames(16)
    assert {site.stage: module.frames for site, module in net.inserted()} == {
        2: 16,
        3: 8,
        4: 8,
        5: 8,
    }
    assert net(torch.randn(1, 16, 3, 32, 32)).shape == (1, 3)
    with pytest.raises(OptionError, match="tam_resnet18 needs a multiple of 2 frames, got 7"):
        net.interpolate_frames(7)
    assert pooled().set_frames(4).frame_scores(clips).shape == (2, 8, 3)


def test_saved_and_folded_it_is_the_same(clips, tmp_path):
    net = pooled()
    loaded = load_saved(save(net, tmp_path / "model", labels=["a", "b", "c"])).net
    assert loaded.spec.temporal_pool
    assert "tsm, temporal pool" in (tmp_path / "model" / "README.md").read_text()
    with torch.no_grad():
        assert torch.equal(loaded(clips), net(clips))
        folded = fold_batch_norms(net)
        for form in (folded, fuse_convolutions(folded, clips)):
            torch.testing.assert_close(form(clips), net(clips), rtol=1e-4, atol=1e-4)
        assert net.remove()(clips).shape == (2, 3)
    assert net.spec.temporal_pool
    other = "holds resnet18 with a temporal pool and tsm .*; built here is resnet18 with tsm"
    with pytest.raises(CheckpointError, match=other):
        create_model("tsm_resnet18", classes=5, weights=tmp_path / "model")
    again = create_model("tsm_resnet18", classes=5, weights=tmp_path / "model", temporal_pool=True)
    conv = "backbone.layer2.0.layer.conv1.layer.weight"
    assert torch.equal(again.state_dict()[conv], net.state_dict()[conv.replace("1.layer", "1")])


def test_a_file_of_tsms_code_is_imported(clips, tmp_path):
    net = pooled()
    names = {n: n.replace("head.classifier", "new_fc") for n in net.state_dict()}
    for ours, theirs in (("backbone.", "base_model."), (".layer.weight", ".net.weight")):
        names = {n: name.replace(ours, theirs) for n, name in names.items()}
    names = {
        n: f"module.{name}".replace("layer2.0.layer.", "layer2.0.").replace(
            "layer2.", "layer2.net."
        )
        for n, name in names.items()
    }
    assert "module.base_model.layer2.net.0.conv1.net.weight" in names.values()
    state = {names[n]: tensor for n, tensor in net.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "tsm.pth.tar")
    file = tmp_path / "tsm.pth.tar"
    imported = import_checkpoint(file, model="tsm_resnet18", frames=8)  # the names show the pool
    assert imported.net.spec.temporal_pool
    with torch.no_grad():
        assert torch.equal(imported.net(clips), net(clips))


def test_networks_that_it_does_not_fit_are_refused():
    with pytest.raises(OptionError, match="temporal_pool has no causal form"):
        pooled(causal=True)
    with pytest.raises(OptionError, match="tsm_resnet18 needs a multiple of 2 frames, got 5"):
        pooled(frames=5)
    with pytest.raises(OptionError, match="slowfast_resnet50 has two frame rates of its own"):
        create_model("tsn_slowfast_resnet50", classes=3, temporal_pool=True)
    with pytest.raises(SiteError, match="densenet121 has no site 'block'"):
        create_model("tsm_densenet121", classes=3, temporal_pool=True)
    with pytest.raises(OptionError, match="tsm_resnet18 halves the frames in front of res3"):
        pooled().streaming()
    with pytest.raises(OptionError, match="before temporal modules"):
        create_model("tsm_resnet18", classes=3).pool_frames()


def test_features_come_for_every_frame(clips):
    net = pooled()
    features = net.features(clips)
    assert features.shape == (2, 8, 512)
    torch.testing.assert_close(net.head.classifier(features), net.frame_scores(clips))
