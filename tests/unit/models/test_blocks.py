"""The block table: one row makes a backbone known everywhere, and wrong rows are refused."""

import pytest
import torch
from torch import nn

from kinema.errors import OptionError
from kinema.models import blocks
from kinema.models.backbones import build_backbone, is_backbone, list_backbones
from kinema.models.blocks import register_blocks
from kinema.models.saved import load_saved, save
from kinema.models.zoo import create_model, list_models


class TinyBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=2)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        out_NCHW: torch.Tensor = self.conv2(self.conv1(x_NCHW).relu()) + self.shortcut(x_NCHW)
        return out_NCHW.relu()


class Tiny(nn.Module):
    def __init__(self, *, pooled: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.early = TinyBlock(8, 8)
        self.late = TinyBlock(8, 16)
        self.pooled = pooled

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        x_NCHW = self.late(self.early(self.stem(x_NCHW)))
        return x_NCHW.mean((2, 3)) if self.pooled else x_NCHW


STAGES = {"early": 1, "late": 2}


@pytest.fixture(autouse=True)
def own_table(monkeypatch):
    monkeypatch.setattr(blocks, "_ROWS", dict(blocks._ROWS))
    monkeypatch.setattr(blocks, "_BACKBONES", dict(blocks._BACKBONES))


def register_tiny(**row) -> None:
    row = {"backbones": {"tiny": Tiny}, "stage_ends": STAGES, **row}
    register_blocks(TinyBlock, convs=("conv1", "conv2"), end="conv2", **row)


def test_one_row_makes_a_backbone_known_everywhere(tmp_path):
    register_tiny()
    assert is_backbone("tiny")
    assert "tiny" in list_backbones()
    assert "tsm_tiny" in list_models("*_tiny")
    assert "tea_tiny" not in list_models()  # insert refuses it
    net = create_model("tsm_tiny", classes=3, frames=4).eval()
    assert [str(site) for site in net.sites() if site.modules] == [
        "res1.0 before_conv1",
        "res2.0 before_conv1",
    ]
    assert net.facts.features == 16
    clips = torch.randn(1, 4, 3, 32, 32)
    loaded = load_saved(save(net, tmp_path / "tiny", labels=["a", "b", "c"])).net
    assert torch.equal(loaded(clips), net(clips))


def test_a_network_of_timm_is_listed_by_its_name():
    register_blocks("my.module.Block", convs=("conv",), backbones=("darknet17",))
    assert "tim_darknet17" in list_models("tim_*")


def test_a_row_describes_variants_by_what_a_block_has():
    row = blocks.BlockRow("x", convs=("start", "conv1", "conv2"), end=("scale", "conv2"))
    block = TinyBlock(3, 8)
    assert row.convs_of(block) == ["conv1", "conv2"]
    assert row.end_of(block) == "conv2"
    block.scale = nn.Identity()
    assert row.end_of(block) == "conv2"
    block.scale = nn.BatchNorm2d(8)
    assert row.end_of(block) == "scale"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"stage_ends": None}, "stages of the backbone 'tiny' are not known.*stage_ends"),
        (
            {"backbones": {"tiny": lambda: Tiny(pooled=False)}},
            r"returns \(1, 16, 16, 16\) for one frame.*must return \(N, features\)",
        ),
    ],
)
def test_a_wrong_row_is_an_error_once_the_backbone_is_built(row, message):
    register_tiny(**row)
    with pytest.raises(OptionError, match=message):
        build_backbone("tiny", frames=8)


def test_a_class_has_one_row_and_a_backbone_one_builder():
    with pytest.raises(OptionError, match="backbone 'resnet18' is already registered"):
        register_tiny(backbones={"resnet18": Tiny})
    register_tiny()
    with pytest.raises(OptionError, match="TinyBlock already has a row in the block table"):
        register_tiny(backbones=("other",))
