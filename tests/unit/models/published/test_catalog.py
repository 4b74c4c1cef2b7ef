"""The catalog of published networks: no contradictions, and every entry can be built."""

import dataclasses

import pytest
import torch

from kinema.errors import UnknownNameError
from kinema.models.published.catalog import (
    find_published,
    list_published,
    looks_published,
    published_for,
    read_catalog,
)
from kinema.models.zoo import create_model
from kinema.values import Views

from .contradictions import contradictions

CATALOG = list_published()
SWIN = "https://host/tsn-swin_8xb32-1x1x3-100e_kinetics400-rgb_20220906-65ed814e.pth"


def test_the_catalog_has_no_contradictions():
    assert contradictions(CATALOG) == []


def known(**changes):
    return dataclasses.replace(find_published("tsm_resnet50:kinetics400-8f-50e"), **changes)


# The first four are in the publishers' own lists.
@pytest.mark.parametrize(
    ("networks", "found"),
    [
        (
            [
                known(id="tsm_resnet50:kinetics400-8f-a", aliases=(), sha256="df42dc84"),
                known(
                    id="tsm_resnet50:kinetics400-8f-b",
                    aliases=(),
                    sha256="df42dc84",
                    urls=("https://host/tsm_nl_r50_kinetics400_20220901-df42dc84.pth",),
                ),
            ],
            "hash df42dc84 of tsm_resnet50:kinetics400-8f-a and tsm_resnet50:kinetics400-8f-b",
        ),
        (
            [
                known(
                    sha256="9c0e09bd",
                    urls=(
                        "https://host/tsm_r50_kinetics400_20220901-9c0e09bd.pth",
                        "https://host/tsm_r50_kinetics400_20220818-9c0e09bd.pth",
                    ),
                )
            ],
            "hash 9c0e09bd with dates ['20220818', '20220901']",
        ),
        (
            [known(sha256="65ed814e", urls=(SWIN,))],
            "tsn-swin_8xb32-1x1x3-100e_kinetics400-rgb_20220906-65ed814e.pth does not name the "
            "network tsm",
        ),
        (
            [known(source_file="configs/tsm_r50_8xb16-1x1x8-50e_sthv2-rgb.py")],
            "tsm_r50_8xb16-1x1x8-50e_sthv2-rgb.py names the data something_v2",
        ),
        (
            [known(urls=("https://host/tsm_r101_kinetics400-64d69186.pth",))],
            "names the backbone resnet101",
        ),
        ([known(sha256="64d69187")], "has another hash than 64d69187"),
        ([known(sha256="64D6")], "is not 8 to 64 hexadecimal digits"),
        ([known(classes=174)], "174 classes, but 400 names in kinetics400"),
        ([known(class_list="kinetics401", classes=None)], "no class list 'kinetics401'"),
        ([known(class_list="something_v2", classes=174)], "class list something_v2 contradicts"),
        ([known(model="tsm_resnet101")], "the id is not of tsm_resnet101"),
        ([known(id="tsm_resnet50:kinetics400-16f")], "8 frames contradict the id"),
        ([known(id="tsm_resnet50:kinetics400-dense-8f")], "sampling segments contradicts the id"),
        ([known(state="manual")], "state manual with urls"),
        ([known(state="verified")], "verified without the whole hash and the size"),
        ([known(urls=("http://host/tsm_r50_kinetics400-64d69186.pth",))], "is not https"),
    ],
)
def test_contradictions_are_found(networks, found):
    assert any(found in line for line in contradictions(networks)), contradictions(networks)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({one.model for one in CATALOG}))
def test_networks_cost_what_the_catalog_says(name):
    of_name = {
        (one.frames, one.preprocessing.crop_px, tuple(one.options.items())): one
        for one in CATALOG
        if one.model == name
    }
    for (frames, crop_px, options), one in of_name.items():
        with torch.device("meta"):
            net = create_model(name, classes=one.classes or 200, frames=frames, **dict(options))
        assert round(net.cost(crop_px).macs / 1e9, 1) == one.gmacs, one.id


def test_nothing_is_verified_where_nothing_could_be_fetched():
    states = [one.state for one in CATALOG]
    assert (len(CATALOG), states.count("listed"), states.count("manual")) == (134, 123, 11)


def test_the_shortest_names_are_network_and_data():
    for one in CATALOG:
        assert find_published(f"{one.model}:{one.data}").data == one.data
    assert find_published("tsm_resnet50:something_v2").id == "tsm_resnet50:something_v2-8f-50e"
    assert find_published("tsm_mobilenetv2_100:jester-online").options == {"causal": True}
    assert find_published("tam_resnet50:kinetics400-dense-8f").sha256 == "032c8e94"


def test_an_entry_has_the_facts_of_its_publisher():
    one = find_published("tsm_resnet50:something_v1-8f-authors")
    assert one.class_names == tuple(sorted(one.class_names))
    assert one.preprocessing.to_dict() == {
        "frames": 8,
        "sampling": "segments",
        "window_frames": 64,
        "short_side_px": 256,
        "crop_px": 224,
        "resize": "pil",
        "average": "scores",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }
    assert [printed.top1 for printed in one.printed] == [45.6, 47.2]
    assert one.printed[1].views == Views(2, 3, full_resolution=True, twice_sample=True)
    assert one.license == "code MIT, weights not stated"
    assert one.own_file_name == "TSM_something_RGB_resnet50_shift8_blockres_avg_segment8_e45.pth"


def test_differences_are_stated():
    one = find_published("tsn_resnet50:kinetics400-5s-100e")
    assert (one.preprocessing.resize, one.preprocessing.average) == ("opencv", "probs")
    assert one.differences == (
        "OpenCV rounds a resized value differently, by 1 of 255 at most",
        "crops lie elsewhere: three crops up to 1 px, ten crops up to 3 px",
    )
    assert find_published("gst_resnet50:something_v2").differences == (
        "crops lie elsewhere: center crop up to 1 px",
    )


def test_patterns_and_unknown_names():
    assert [one.id for one in list_published("gst_*:something_v1*")] == [
        "gst_large_resnet50:something_v1-8f-authors"
    ]
    with pytest.raises(UnknownNameError, match="No published network matches 'tsx_resnet50:k"):
        list_published("tsx_resnet50:kinetics400")
    with pytest.raises(UnknownNameError) as caught:
        find_published("tsm_resnet50:kinetic400")
    assert str(caught.value) == (
        "'tsm_resnet50:kinetic400' is neither a folder nor a published network. Did you mean "
        "'tsm_resnet50:kinetics400'? `kinema models --published` lists all."
    )


@pytest.mark.parametrize(
    ("text", "looks"),
    [
        ("tsm_resnet50:kinetics400", True),
        ("mem+tsm_resnet50:jester-online", True),
        ("runs/first:best", False),
        ("runs/first/best", False),
        ("C:\\networks\\best", False),
        ("c:best", False),
        ("hf://owner/repo", False),
        ("imagenet", False),
    ],
)
def test_names_differ_from_paths(text, looks):
    assert looks_published(text) is looks


def test_weights_by_data_set():
    assert published_for("tsm_resnet50", "kinetics400") == "tsm_resnet50:kinetics400"
    assert published_for("tsm_resnet50", "kinetics400-16f") == "tsm_resnet50:kinetics400-16f"
    assert published_for("tsm_resnet50", "weights.pth") is None
    with pytest.raises(UnknownNameError) as caught:
        published_for("tsm_resnet18", "jester")
    assert str(caught.value) == (
        "There are no published weights 'tsm_resnet18:jester'. Networks with weights on jester: "
        "tsm_mobilenetv2_100, tsm_resnet50."
    )


def test_impossible_values_name_the_entry():
    text = """
    [publishers.a]
    name = "A"
    source = "https://a"
    commit = "1"
    citation = "A"
    [[networks]]
    id = "tsm_resnet50:x"
    publisher = "a"
    source_file = "README.md"
    model = "tsm_resnet50"
    frames = 8
    gmacs = 1.0
    state = "listed"
    preprocessing = { samplng = "dense" }
    """
    with pytest.raises(ValueError, match="tsm_resnet50:x: unknown preprocessing key 'samplng'"):
        read_catalog(text)
