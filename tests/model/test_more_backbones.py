"""Further timm families: inverted residuals, fused ones, RegNet, ConvNeXt."""

import pytest
import torch

from kinema.errors import OptionError, SiteError
from kinema.models.families import FAMILIES
from kinema.models.zoo import create_model

QUICK = [
    ("efficientnet_b0", ("tsm", "tam", "tsi")),
    ("test_convnext", ("tsm", "tim", "tei", "nl")),
    ("regnetx_002", ("tsm", "tam", "sme")),
]
SLOW = ("efficientnet_b0", "tf_efficientnetv2_b0", "regnetx_004", "convnext_atto")
FRAMES = 4


def trains(name: str) -> None:
    torch.manual_seed(0)
    net = create_model(name, classes=3, frames=FRAMES, dropout=0)
    net.train()(torch.randn(2, FRAMES, 3, 64, 64)).square().sum().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), key
    assert any(site.modules for site in net.sites()) or not FAMILIES[name.partition("_")[0]]


@pytest.mark.parametrize(
    "name", [f"{family}_{backbone}" for backbone, families in QUICK for family in families]
)
def test_other_families_of_blocks_have_sites(name):
    trains(name)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", SLOW)
def test_every_family_trains_or_is_refused(backbone):
    refused = []
    for family in FAMILIES:
        try:
            trains(f"{family}_{backbone}")
        except (OptionError, SiteError):
            refused.append(family)
    assert {"mta", "tea", "gst", "gte"} <= set(refused)
    assert {"tsm", "tim", "mem"}.isdisjoint(refused)


def test_a_site_that_a_block_lacks_is_named():
    with pytest.raises(SiteError, match="no site 'after_conv1'. It offers: block"):
        create_model("tam_test_convnext", classes=3)
