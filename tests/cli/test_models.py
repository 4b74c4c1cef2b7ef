"""`kinema models` and `kinema describe`."""

import pytest
import torch

import kinema as package


def test_lists_networks_modules_and_backbones(kinema):
    answer = kinema("models")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert set(package.list_models()) <= set(lines)
    assert f"Temporal modules: {', '.join(package.list_temporal())}" in answer.out
    assert "resnext50_32x4d" in answer.out.split("Backbones:")[1]


def test_a_pattern_selects(kinema):
    assert kinema("models", "tim_*50*", "--json").document == package.list_models("tim_*50*")
    answer = kinema("models", "tim_resnet1?")
    assert answer.out.split() == ["tim_resnet18"]


def test_slowfast_and_the_deep_res2net_are_listed(kinema):
    names = kinema("models", "*slowfast*").out.split()
    assert {"tsn_slowfast_resnet50", "i3d_slowfast_resnet50", "tam_slowfast_resnet50"} <= set(names)
    assert kinema("models", "tea_*", "--json").document == [
        "tea_res2net101_26w_4s",
        "tea_res2net50_26w_4s",
    ]


def test_a_pattern_that_matches_nothing(kinema):
    for words in (("models", "tsm_resnet51"), ("models", "tsm_resnet51", "--json")):
        answer = kinema(*words)
        assert (answer.code, answer.out) == (1, "")
        assert "No network matches 'tsm_resnet51'. Did you mean 'tsm_resnet50'?" in answer.err


def test_describe_counts_what_python_counts(kinema):
    net = package.create_model("tim_resnet18", classes=27, frames=8, stages=(4, 5))
    cost = net.cost(112)
    words = ("describe", "tim_resnet18", "--classes", 27, "--size", 112, "--stages", "4,5")
    document = kinema(*words, "--json").document
    assert document["params"] == cost.params == sum(p.numel() for p in net.parameters())
    assert document["backend"] in {"C", "Triton", "PyTorch"}
    assert (document["macs"], document["temporal_params"], document["temporal_macs"]) == (
        cost.macs,
        cost.temporal_params,
        cost.temporal_macs,
    )
    used = [site for site in document["sites"] if site["modules"]]
    assert [(s["stage"], s["block"], s["at"]) for s in used] == [
        (4, 0, "before_conv1"),
        (4, 1, "before_conv1"),
        (5, 0, "before_conv1"),
        (5, 1, "before_conv1"),
    ]
    assert sum(module["params"] for module in document["modules"]) == cost.temporal_params
    answer = kinema(*words)
    assert f"{cost.params:,}" in answer.out
    assert answer.out.count("before_conv1") == len(used) + 1


def test_describe_counts_the_views_of_a_video(kinema):
    words = ("describe", "tei_resnet18", "--size", 64, "--clips", 10, "--crops", 3)
    document = kinema(*words, "--json").document
    with torch.device("meta"):
        nets = [package.create_model(f"{name}_resnet18", classes=400) for name in ("tei", "tsn")]
    own, plain = (net.cost(64).macs for net in nets)
    assert document["per_video"] == {
        "gmacs_per_view": own / 1e9,
        "views": 30,
        "gmacs": own * 30 / 1e9,
    }
    assert document["macs_ratio"] == own / plain
    text = "1.19 GMACs x 30 views = 35.67 GMACs, 1.003 times those of the 2D network"
    assert f"Per video       {text}" in kinema(*words).out
    one = kinema("describe", "tsn_resnet18", "--size", 32).out
    assert "0.30 GMACs x 1 view = 0.30 GMACs, 1.000 times those of the 2D network" in one
    answer = kinema("describe", "tsn_resnet18", "--crops", 2)
    assert (answer.code, "crops must be 1, 3 or 10, got 2" in answer.err) == (1, True)


def test_describe_counts_the_views_of_a_trained_network(kinema, checkpoint):
    document = kinema("describe", checkpoint, "--clips", 2, "--crops", 3, "--json").document
    assert document["per_video"]["views"] == 6
    assert document["per_video"]["gmacs"] == document["macs"] * 6 / 1e9


def test_describe_without_modules_has_no_table(kinema):
    answer = kinema("describe", "tsn_resnet18", "--size", 64)
    assert answer.code == 0
    assert "Temporal modules" not in answer.out
    assert "in temporal modules 0" in answer.out
    assert "Sees            1 frame: 0 back, 0 ahead" in answer.out


def test_describe_takes_every_choice_of_a_network(kinema):
    words = ("describe", "tam_resnet18", "--size", 32, "--blocks", 2, "--at", "a")
    answer = kinema(*words, "--option", "beta=8", "--option", "kernel=5")
    assert "res5.0 before_conv1" in answer.out
    assert "Sees            the whole clip" in answer.out
    assert "Runs            only 8 frames" in answer.out
    words = ("describe", "tei_resnet18", "--size", 32, "--stages", "efficient", "--blocks", "first")
    document = kinema(*words, "--json").document
    assert [m["place"] for m in document["modules"]] == [
        f"res{stage}.0 before_conv1" for stage in (4, 4, 5, 5)
    ]
    assert (document["look_back"], document["look_ahead"]) == (2, 4)
    assert (document["receptive_field"], document["frames_in_weights"]) == (7, False)
    causal = kinema("describe", "tsm_resnet18", "--size", 32, "--causal", "--json").document
    assert (causal["look_back"], causal["look_ahead"]) == (8, 0)


def test_describe_rejects_invalid_options(kinema):
    answer = kinema("describe", "tim_resnet18", "--option", "init")
    assert (answer.code, "expected key=value such as ratio=0.5" in answer.err) == (2, True)
    answer = kinema("describe", "tim_resnet18", "--option", "init=partshift")
    assert (answer.code, "Did you mean 'part_shift'" in answer.err) == (1, True)
    answer = kinema("describe", "tim_resnet18", "--option", "classes=5")
    assert (answer.code, "classes is not an option of a temporal module" in answer.err) == (2, True)
    answer = kinema("describe", "tim_resnet18", "--blocks", "0,x")
    assert (answer.code, "expected numbers such as 4,5" in answer.err) == (2, True)


def test_a_trained_network_takes_only_sizes_and_views(kinema, checkpoint):
    answer = kinema("describe", checkpoint, "--classes", 100)
    assert (answer.code, answer.out) == (2, "")
    words = " ".join(answer.err.replace("│", " ").split())
    assert (
        "is a checkpoint, for which only --size, --clips, --crops and --measure can be given"
        in words
    )


def test_snippets_are_described(kinema):
    words = ("describe", "tdn_resnet18", "--size", 32, "--classes", 3)
    document = kinema(*words, "--json").document
    assert (document["frames"], document["snippet"]) == (8, 5)
    assert "3 classes, 8 snippets of 5 frames of 32 x 32 px" in kinema(*words).out
    assert kinema("describe", "tsm_resnet18", "--size", 32, "--json").document["snippet"] == 1


def test_a_temporal_pool_is_described(kinema):
    words = ("describe", "tsm_resnet18", "--size", 32, "--temporal-pool")
    document = kinema(*words, "--json").document
    assert document["temporal_pool"] is True
    assert document["look_ahead"] == 2 + 1 + 6 * 2
    plain = kinema(*words[:-1], "--json").document
    assert plain["temporal_pool"] is False
    assert document["params"] == plain["params"]
    assert document["macs"] < 0.7 * plain["macs"]
    assert "in front of res3: 4 frames from there on" in kinema(*words).out
    answer = kinema(*words, "--frames", 5)
    assert (answer.code, answer.out) == (1, "")
    assert "tsm_resnet18 needs a multiple of 2 frames, got 5" in answer.err


def test_describe_times_views_when_asked(kinema):
    words = ("describe", "tsm_test_resnet", "--size", 32, "--frames", 2, "--clips", 2)
    assert kinema(*words, "--json").document["measured"] is None
    one, many = kinema(*words, "--measure", "--json").document["measured"]
    assert (one["batch"], many["batch"]) == (1, 16)
    for row in (one, many):  # two views a video
        assert row["videos_per_s"] == pytest.approx(1e3 * row["batch"] / 2 / row["ms"], rel=0.2)
    assert "16 views at a time: " in kinema(*words, "--measure").out
