"""`kinema figures` draws real clips with saved networks, and refuses what it cannot draw."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kinema as library
from kinema.values import Preprocessing

from ..random_weights import tiny_network
from ..sweep_results import write_results


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Saved networks me, tam, i3d and sme for the color set."""
    folder = tmp_path_factory.mktemp("networks")
    for name, options in (("me", {}), ("tam", {}), ("i3d", {}), ("sme", {"reduction": 8})):
        library.save(
            tiny_network(name, **options),
            folder / name,
            labels=("red", "green", "blue"),
            preprocessing=Preprocessing(frames=4, short_side_px=40, crop_px=32),
        )
    return folder


def check_files(document: dict[str, Any], names: list[str], out: Path) -> None:
    assert document["files"] == [str(out / name) for name in names]
    assert sorted(p.name for p in out.iterdir()) == sorted(names)
    for name in names:
        if name.endswith(".png"):
            with Image.open(out / name) as image:
                assert image.width > 300


def test_me_of_clips_with_equal_names(kinema, networks, color_set, tmp_path):
    clips = [color_set / "red" / "0.mp4", color_set / "green" / "0.mp4"]
    answer = kinema(
        *("figures", "me", networks / "me", *clips, "--out", tmp_path / "f", "--block", "res3.0"),
        *("--channels", "3,17", "--json"),
    )
    assert answer.code == 0, answer.err
    names = [f"me_{name}.{end}" for name in ("0", "0_2") for end in ("png", "npz")]
    check_files(answer.document, names, tmp_path / "f")
    one, two = answer.document["rows"]
    assert (one["path"], two["path"]) == tuple(map(str, clips))
    assert (one["block"], one["module"]) == ("res3.0", "ME")
    assert [c["channel"] for c in one["channels"]] == [3, 17]
    assert len(one["channels"][0]["attention"]) == 4
    with np.load(tmp_path / "f" / "me_0_2.npz") as kept:
        assert kept["attention"][1, 17] == pytest.approx(two["channels"][1]["attention"][1], 1e-4)


def test_tam_kernels_beside_i3d(kinema, networks, color_set, tmp_path):
    words = ["figures", "tam-kernels", networks / "tam", "--out", tmp_path, "--json"]
    answer = kinema(*words, color_set / "red", "--against", networks / "i3d", "--block", "res4.0")
    assert answer.code == 0, answer.err
    parts = [f"tam_kernels_{part}.png" for part in ("violins", "distributions", "motion")]
    check_files(answer.document, [*parts, "tam_kernels.npz", "tam_kernels.csv"], tmp_path)
    assert len(answer.document["rows"]) == 3 * (2 + 1)
    with (tmp_path / "tam_kernels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["median"]) for row in rows] == [r["median"] for r in answer.document["rows"]]


@pytest.mark.slow
def test_tam_kernels_of_sets_side_by_side(kinema, networks, color_set, tmp_path):
    words = ["figures", "tam-kernels", networks / "tam", color_set / "red", "--json"]
    words += ["--block", "res4.0", "--against", networks / "i3d", "--against", networks / "i3d"]
    green, tam = color_set / "green", networks / "tam"
    answer = kinema(*words, "--out", tmp_path / "a", "--beside", green)
    assert answer.code == 0, answer.err
    sets = [row["set"] for row in answer.document["rows"]]
    assert list(dict.fromkeys(sets)) == ["red", "green", "i3d_test_resnet"]
    assert len(sets) == 3 * (2 + 2 + 2)
    other = tmp_path / "other" / "best"
    other.parent.mkdir()
    other.symlink_to(tam)
    clip = green / "0.mp4"
    answer = kinema(
        *(*words, "--out", tmp_path / "b", "--beside", other, "--beside", f"{other},{clip}"),
    )
    assert answer.code == 0, answer.err
    with np.load(tmp_path / "b" / "tam_kernels.npz") as kept:
        assert kept["sets"].tolist() == ["tam, red", "other, red", "other, 0"]
        assert kept["3_clips"].tolist() == ["0"]
        np.testing.assert_array_equal(kept["2_res4.0_theta"], kept["res4.0_theta"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--beside", "nowhere"), "nowhere does not exist"),
        (("--beside", ","), "expected clips, a network, or NETWORK,CLIPS, got ','"),
        (("--label", "a", "--label", "b"), "expected a label for each of the 1 sets, got 2"),
    ],
)
def test_wrong_sets(kinema, networks, color_set, tmp_path, options, message):
    words = ["figures", "tam-kernels", networks / "tam", color_set / "red"]
    answer = kinema(*words, "--out", tmp_path / "f", *options)
    assert answer.code == 2
    assert message in " ".join(answer.err.replace("│", " ").split())
    two = f"{networks / 'tam'},{networks / 'me'}"
    answer = kinema(*words, "--out", tmp_path / "f", "--beside", two)
    assert answer.code == 2
    assert "expected clips, a network, or NETWORK,CLIPS" in " ".join(answer.err.split())
    answer = kinema(*words, "--out", tmp_path / "f", "--beside", networks / "me")
    assert answer.code == 1
    assert "(me_test_resnet) has no temporal adaptive module" in answer.err
    assert not (tmp_path / "f").exists()


def test_one_clip_has_no_figure_about_motion(kinema, networks, color_set, tmp_path):
    clip = color_set / "red" / "0.mp4"
    words = ["figures", "tam-kernels", networks / "tam", clip, "--out", tmp_path]
    answer = kinema(*words, "--block", "res2.0")
    assert answer.code == 0, answer.err
    assert "no figure about motion" in answer.err
    assert not (tmp_path / "tam_kernels_motion.png").exists()
    assert answer.out.split() == [
        str(tmp_path / f"tam_kernels{rest}")
        for rest in ("_violins.png", "_distributions.png", ".npz", ".csv")
    ]


def test_tsi_alignment_has_a_row_for_each_clip_and_pair(kinema, networks, color_set, tmp_path):
    answer = kinema(
        *("figures", "tsi-alignment", networks / "sme", color_set / "red", "--out", tmp_path),
        *("--pair", 0, "--pair", 2, "--query", "0.0,0.99", "--query", "0.5,0", "--json"),
    )
    assert answer.code == 0, answer.err
    check_files(answer.document, ["tsi_alignment.png", "tsi_alignment.npz"], tmp_path)
    assert [row["pair"] for row in answer.document["rows"]] == [0, 0, 2, 2, 0, 0, 2, 2]
    with np.load(tmp_path / "tsi_alignment.npz") as kept:
        height, width = kept["similarity"].shape[2:]
        assert kept["queries"].tolist() == [[[height - 1, 0], [0, width // 2]]] * 4


def test_cam_by_class_and_layer(kinema, checkpoint, color_set, tmp_path):
    clip = color_set / "blue" / "1.mp4"
    words = ["figures", "cam", checkpoint, clip, "--out", tmp_path, "--json"]
    answer = kinema(*words, "--class", "green", "--layer", "layer3.0")
    assert answer.code == 0, answer.err
    check_files(answer.document, ["cam_1.png", "cam_1.npz"], tmp_path)
    (row,) = answer.document["rows"]
    assert (row["name"], row["label"], row["layer"]) == ("green", 1, "layer3.0")
    predicted = kinema("predict", checkpoint, clip, "--json").document[0]["top"]
    prob = next(c["prob"] for c in predicted if c["name"] == "green")
    assert row["prob"] == pytest.approx(prob, abs=1e-5)

    answer = kinema(*words)
    assert answer.code == 2
    # The message stands in a box, whose lines break where the name of the folder makes them.
    assert "already exists" in " ".join(answer.err.replace("│", " ").split())
    assert "--overwrite" in answer.err
    answer = kinema(*words, "--overwrite")
    assert answer.code == 0, answer.err
    assert answer.document["rows"][0]["name"] == predicted[0]["name"]  # its best class


def test_a_network_without_the_module_reads_and_draws_nothing(kinema, checkpoint, tmp_path):
    clip = tmp_path / "broken.mp4"
    clip.write_bytes(b"no video")
    for figure, part in (
        ("me", "channel attention"),
        ("tam-kernels", "temporal adaptive module"),
        ("tsi-alignment", "saliency alignment"),
    ):
        out = tmp_path / figure
        answer = kinema("figures", figure, checkpoint, clip, "--out", out)
        assert answer.code == 1
        assert answer.err.startswith(
            f"Error: {checkpoint} (tsm_test_resnet) has no {part}. Its temporal modules: tsm."
        )
        assert not out.exists()


def test_an_unreadable_clip_stops_before_anything_is_drawn(kinema, checkpoint, color_set, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    out = tmp_path / "out"
    answer = kinema("figures", "cam", checkpoint, color_set / "red", broken, "--out", out)
    assert answer.code == 1
    assert str(broken) in answer.err
    assert not out.exists()


@pytest.mark.data
@pytest.mark.parametrize("name", ["rot_90.mov", "unordered.mov", "newtonscradle.gif"])
def test_upright_tiny_and_animated_clips(kinema, checkpoint, data_dir, tmp_path, name):
    words = ["figures", "cam", checkpoint, data_dir / "clips" / name, "--out", tmp_path, "--json"]
    answer = kinema(*words)
    assert answer.code == 0, answer.err
    stem = name.partition(".")[0]
    check_files(answer.document, [f"cam_{stem}.png", f"cam_{stem}.npz"], tmp_path)


@pytest.mark.data
def test_a_damaged_clip(kinema, checkpoint, data_dir, tmp_path):
    clip = data_dir / "clips" / "bad_corrupted.mp4"
    answer = kinema("figures", "cam", checkpoint, clip, "--out", tmp_path / "f")
    assert answer.code == 1
    assert str(clip) in answer.err
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("me", "--channels", "3,x"), 2, "expected numbers such as 3,17"),
        (("me", "--channels", "3,-1"), 2, "expected numbers such as 3,17"),
        (("me", "--channels", "3000"), 1, "ME of res2.0 has channels 0 to 31"),
        (("me", "--block", "res7.0"), 1, "Blocks that have one: res2.0, res3.0, res4.0, res5.0."),
        (("tsi-alignment", "--query", "0.5"), 2, "expected two shares such as 0.5,0.3"),
        (("cam", "--class", "gren"), 1, "no class 'gren' (numbers: 0 to 2). Did you mean 'green'"),
        (("cam", "--class", "3"), 1, "no class '3'"),
        (("cam", "--layer", "layer7"), 1, "has no layer 'layer7'. Did you mean 'layer"),
    ],
)
def test_wrong_choices(kinema, networks, color_set, tmp_path, words, code, message):
    figure, *options = words
    clip = color_set / "red" / "0.mp4"
    answer = kinema("figures", figure, networks / "me", clip, "--out", tmp_path, *options)
    assert answer.code == code
    assert message in " ".join(answer.err.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_accuracy_against_cost_and_time(kinema, tmp_path):
    file = write_results(tmp_path / "run", "motion_networks")
    times = tmp_path / "times.json"
    rows = [{"model": "tsm_resnet18", "form": "eager-32", "ms": 40.0}]
    settings = {"batch": 4, "frames": 8, "size_px": 112}
    times.write_text(json.dumps({"settings": settings, "rows": rows}), encoding="utf-8")
    out = tmp_path / "out"
    answer = kinema(
        *("figures", "accuracy-cost", file, "--times", times, "--test", "one speed"),
        *("--out", out, "--json"),
    )
    assert answer.code == 0, answer.err
    check_files(answer.document, ["accuracy_cost.png", "accuracy_cost.csv"], out)
    timed = {row["variant"]: row["clip_ms"] for row in answer.document["rows"]}
    assert timed["TSM"] == 10.0
    assert "Without a time of their own: TSN, TIM, TEINet" in answer.err
    answer = kinema("figures", "accuracy-cost", file, "--form", "x", "--out", out)
    assert answer.code == 2
    answer = kinema("figures", "accuracy-cost", times, "--out", out / "more")
    assert answer.code == 1
    assert f"{times} is not the results file of a sweep" in answer.err


def test_a_sweep_against_its_option(kinema, tmp_path):
    file, out = write_results(tmp_path / "run", "gte_share"), tmp_path / "out"
    answer = kinema("figures", "sweep", file, "--out", out, "--json")
    assert answer.code == 0, answer.err
    check_files(answer.document, ["sweep.png", "sweep.csv"], out)
    assert [row["value"] for row in answer.document["rows"]] == [0.0625, 0.125, 0.25, 0.5, 0.75]
    answer = kinema("figures", "sweep", file, "--out", out / "b", "--option", "model.options.rati")
    assert answer.code == 1
    assert "does not set 'model.options.rati'. Did you mean 'model.options.ratio'" in answer.err
