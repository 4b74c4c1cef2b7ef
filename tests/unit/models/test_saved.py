"""Saving and loading networks, weight files, and what must not load."""

import json
import pickle
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kinema.errors import CheckpointError
from kinema.models.placement import Part
from kinema.models.saved import load_saved, save
from kinema.models.weights import read_tensors, write_tensors
from kinema.models.zoo import create_model
from kinema.values import Preprocessing

LABELS = ("a", "b", "c")


@pytest.fixture
def net():
    net = create_model("tim_resnet18", classes=3, frames=4, stages=(4, 5), init="random").eval()
    torch.nn.init.normal_(net.head.classifier.weight)
    return net


def test_a_saved_network_gives_the_same_scores(net, tmp_path):
    how = Preprocessing(frames=4, sampling="dense", window_frames=16, short_side_px=40, crop_px=32)
    folder = save(net, tmp_path / "model", labels=LABELS, preprocessing=how)
    again = load_saved(folder)
    x = torch.randn(2, 4, 3, 32, 32)
    assert torch.equal(again.net(x), net(x))
    assert (again.labels, again.preprocessing, again.net.spec) == (LABELS, how, net.spec)
    assert "tim_resnet18" in (folder / "README.md").read_text()


def test_a_config_of_an_earlier_version_resizes_and_averages_as_it_did(net, tmp_path):
    how = Preprocessing(frames=4, resize="opencv", average="probs", sampling="interval")
    folder = save(net, tmp_path / "model", labels=LABELS, preprocessing=how)
    assert load_saved(folder).preprocessing == how
    config = json.loads((folder / "config.json").read_text())
    for key in ("resize", "average"):
        del config["preprocessing"][key]
    (folder / "config.json").write_text(json.dumps(config))
    again = load_saved(folder).preprocessing
    assert (again.resize, again.average, again.sampling) == ("pil", "scores", "interval")


def test_a_network_saved_when_sme_meant_sme_and_tim_stays_what_it_was(tmp_path):
    net = create_model("sme_tim_resnet18", classes=3, frames=4, stages=(5,)).eval()
    folder = save(net, tmp_path / "model", labels=LABELS)
    config = json.loads((folder / "config.json").read_text())
    config["network"]["name"] = "sme_resnet18"
    (folder / "config.json").write_text(json.dumps(config))
    again = load_saved(folder).net
    assert {s.modules for s in again.sites() if s.modules} == {("sme", "tim")}
    x = torch.randn(2, 4, 3, 32, 32)
    assert torch.equal(again(x), net(x))


def test_parts_are_saved_with_their_placements_and_options(tmp_path):
    parts = [Part("tim", at="a", stages=(4,), options={"init": "random"}), Part("tim", at="b")]
    net = create_model("resnet18", parts=parts, classes=3, frames=4, stages=(5,)).eval()
    again = load_saved(save(net, tmp_path / "model", labels=LABELS)).net
    assert again.spec == net.spec
    x = torch.randn(2, 4, 3, 32, 32)
    assert torch.equal(again(x), net(x))
    kept = create_model(  # the same network for other classes starts from it
        "resnet18", parts=parts, classes=5, frames=4, stages=(5,), weights=tmp_path / "model"
    )
    assert kept.weights_report.new == ("head.classifier.weight", "head.classifier.bias")


def test_nothing_is_overwritten_unasked(net, tmp_path):
    save(net, tmp_path / "model", labels=LABELS)
    with pytest.raises(CheckpointError, match="already exists; nothing is overwritten"):
        save(net, tmp_path / "model", labels=LABELS)
    save(net, tmp_path / "model", labels=("x", "y", "z"), overwrite=True)
    assert load_saved(tmp_path / "model").labels == ("x", "y", "z")
    (tmp_path / "other").mkdir()
    with pytest.raises(CheckpointError, match="does not hold a network to overwrite"):
        save(net, tmp_path / "other", labels=LABELS, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "other"]


def test_a_folder_with_the_longest_name_is_replaced(net, tmp_path):
    folder = tmp_path / ("x" * 251 + "[1]")
    save(net, folder, labels=LABELS)
    save(net, folder, labels=("x", "y", "z"), overwrite=True)
    assert load_saved(folder).labels == ("x", "y", "z")
    assert list(tmp_path.iterdir()) == [folder]


def test_labels_and_frames_must_fit(net, tmp_path):
    with pytest.raises(CheckpointError, match="labels names the class 'a' twice"):
        save(net, tmp_path / "model", labels=("a", "b", "a"))
    with pytest.raises(CheckpointError, match="has 3 classes, but 2 class names"):
        save(net, tmp_path / "model", labels=("a", "b"))
    with pytest.raises(CheckpointError, match="takes 4 frames, but the preprocessing samples 8"):
        save(net, tmp_path / "model", labels=LABELS, preprocessing=Preprocessing(frames=8))


def test_weights_of_another_architecture_are_refused(net, tmp_path):
    folder = save(net, tmp_path / "model", labels=LABELS)
    other = create_model("tsn_resnet18", classes=3, frames=4)
    save_file(other.state_dict(), folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="does not fit this network. Missing in the file: "):
        load_saved(folder)


def test_more_weights_than_the_network_has_are_refused(tmp_path):
    plain = create_model("tsn_resnet18", classes=3, frames=4)
    folder = save(plain, tmp_path / "model", labels=LABELS)
    save_file({**plain.state_dict(), "extra.weight": torch.ones(2)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="another architecture .*such as extra.weight"):
        load_saved(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["a", "b", "b"]}, "labels names the class 'b' twice"),
        ({"labels": ["a", "b", 3]}, "labels must be a list of texts"),
        ({"labels": "abc"}, "labels must be a list of texts"),
        ({"labels": {"a": 0, "b": 1, "c": 2}}, "labels must be a list of texts"),
        ({"labels": [str(n) for n in range(1_000_001)]}, "1000001 labels are beyond the limit"),
        ({"preprocessing": {"short_side_px": 10**9}}, "short_side_px must be at most 4096"),
        ({"preprocessing": {"resize": "open"}}, "resize must be one of pil, opencv, got 'open'"),
        ({"preprocessing": {"average": [1]}}, "average must be one of scores, probs, got \\[1\\]"),
        ({"preprocessing": {"std": [0.2, 0.0, 0.2]}}, "std must be above 0"),
        ({"preprocessing": {"std": [0.2, 0.2]}}, "one number for each of the 3 RGB channels"),
        ({"preprocessing": {"mean": [0.2, 0.2, 1e999]}}, "mean"),
        ({"preprocessing": {"window_frames": 10**30}}, "window_frames must be between 1 and 10000"),
        ({"preprocessing": {"window_frames": 0}}, "window_frames must be between 1 and 1000000"),
        (
            {"preprocessing": {"window_frames": 64.5}},
            "window_frames must be a whole number, got 64",
        ),
        ({"preprocessing": {"crop_px": 31.5}}, "crop_px must be a whole number, got 31.5"),
    ],
)
def test_bounds_of_a_config(net, tmp_path, change, message):
    folder = save(net, tmp_path / "model", labels=LABELS)
    config = json.loads((folder / "config.json").read_text())
    config["preprocessing"] |= change.pop("preprocessing", {})
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(CheckpointError, match=message):
        load_saved(folder)


def test_a_deeply_nested_config_is_named(net, tmp_path):
    folder = save(net, tmp_path / "model", labels=LABELS)
    (folder / "config.json").write_text("[" * 200_000)
    with pytest.raises(CheckpointError, match="config.json is not valid JSON"):
        load_saved(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "has format 99, this version of kinema reads 1"),
        ({"network": None}, "is incomplete or damaged"),
        ({"network": 3}, "is incomplete or damaged"),
        ({"labels": ["a"]}, "has 3 classes, but 1 class names"),
    ],
)
def test_a_wrong_config_is_named(net, tmp_path, change, message):
    folder = save(net, tmp_path / "model", labels=LABELS)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(CheckpointError, match=message):
        load_saved(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 10**12}, "has 1000000000000 classes, but 3 class names"),
        ({"frames": 10**9}, "frames = 1000000000 is beyond any network"),
        ({"frames": "many"}, "config.json is incomplete or damaged"),
        ({"name": None}, "name of the network must be a text .* got 'None'"),
        ({"name": "x" * 201}, "name of the network must be a text of at most 200"),
        ({"name": "a\x1b[31m"}, r"name of the network must be a text .* got 'a\\x1b\[31m'"),
    ],
)
def test_no_memory_is_taken_for_impossible_sizes(net, tmp_path, change, message):
    folder = save(net, tmp_path / "model", labels=LABELS)
    config = json.loads((folder / "config.json").read_text())
    config["network"] |= change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        load_saved(folder)


@contextmanager
def memory_bound(more: int) -> Iterator[None]:
    """No more than some bytes of address space on top of what the process has."""
    with open("/proc/self/statm", encoding="ascii") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (
            {"classes": 900_000},
            r"classifier.weight is \(3, 512\) .* \(900000, 512\) in the network",
        ),
        ({"backbone": "convnext_xxlarge"}, "Missing in the file: backbone.stem"),  # 3.4 GB
    ],
)
def test_the_header_of_the_weights_is_compared_before_memory_is_taken(tmp_path, change, wrong):
    plain = create_model("tsn_resnet10t", classes=3, frames=4)
    folder = save(plain, tmp_path / "model", labels=LABELS)
    config = json.loads((folder / "config.json").read_text())
    config["network"] |= change
    config["labels"] = [str(n) for n in range(config["network"]["classes"])]
    (folder / "config.json").write_text(json.dumps(config))
    load_saved(save(plain, tmp_path / "warm", labels=LABELS))  # allocates what all loading needs
    message = f"safetensors.* does not fit.*{wrong}"
    with memory_bound(1_000_000_000), pytest.raises(CheckpointError, match=message):
        load_saved(folder)


def test_a_misspelled_preprocessing_key_is_named(net, tmp_path):
    folder = save(net, tmp_path / "model", labels=LABELS)
    text = (folder / "config.json").read_text().replace("crop_px", "crop_pix")
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="'crop_pix'. Did you mean 'crop_px'"):
        load_saved(folder)


def test_a_folder_without_a_network_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="is not a kinema checkpoint: it has no config.json"):
        load_saved(tmp_path)


class Harmful:
    """Would create a file when unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_weight_file_cannot_run_code(tmp_path):
    file, trace = tmp_path / "harmful.pth", tmp_path / "trace"
    file.write_bytes(pickle.dumps({"state_dict": Harmful(str(trace))}, protocol=2))
    with pytest.raises(CheckpointError, match="without running code"):
        read_tensors(file)
    assert not trace.exists()


def flipped(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def test_a_flipped_bit_of_the_weights_is_found(net, tmp_path):
    folder = save(net, tmp_path / "model", labels=LABELS)
    file = folder / "model.safetensors"
    flipped(file, -1000)
    message = re.escape(f"{file} is damaged: its tensors do not match its checksum. Copy it again")
    with pytest.raises(CheckpointError, match=message):
        load_saved(folder)
    with pytest.raises(CheckpointError, match=message):
        read_tensors(file)
    flipped(file, -1000)
    load_saved(folder)


def test_a_flipped_bit_of_the_header_is_found(tmp_path):
    """Wherever it is: the file cannot be read, or holds other tensors than it should."""
    tensors = {"a": torch.ones(3), "b": torch.ones(2, dtype=torch.bfloat16), "c": torch.tensor(7)}
    file = tmp_path / "a.safetensors"
    write_tensors(tensors, file)
    good = file.read_bytes()
    for at in range(len(good)):
        flipped(file, at)
        with suppress(CheckpointError):
            got = read_tensors(file)  # in the name of the checksum, or in spaces
            assert got.keys() == tensors.keys()
            assert all(torch.equal(got[name], tensors[name]) for name in tensors)
        file.write_bytes(good)


def test_weights_without_a_checksum_load(net, tmp_path):
    folder = save(net, tmp_path / "model", labels=LABELS)
    save_file(net.state_dict(), folder / "model.safetensors")
    x = torch.randn(1, 4, 3, 32, 32)
    assert torch.equal(load_saved(folder).net(x), net(x))


def test_a_flipped_bit_of_a_torch_file_is_found(tmp_path):
    file = tmp_path / "a.pth"
    torch.save({"weight": torch.arange(1000.0)}, file)
    at = file.read_bytes().index(torch.arange(1000.0).numpy().tobytes()) + 1000
    flipped(file, at)
    with pytest.raises(CheckpointError, match=r"a.pth .*Bad CRC-32 .*copy or download it again"):
        read_tensors(file)
    flipped(file, at)
    assert torch.equal(read_tensors(file)["weight"], torch.arange(1000.0))


def test_a_torch_file_without_checksums_loads(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"weight": torch.ones(3)}, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_tensors(tmp_path / "a.pth")["weight"], torch.ones(3))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pth", b"", "is not a weight file"),
        ("a.pth", b"no weights", "is not a weight file"),
        ("a.safetensors", b"no weights", "is not a readable safetensors file"),
    ],
)
def test_damaged_weight_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_tensors(tmp_path / name)


def test_backbone_weights_from_a_file_are_reported(tmp_path):
    source = create_model("tsn_resnet18", classes=3).backbone.state_dict()
    torch.save(
        {"state_dict": {**{f"module.{k}": v for k, v in source.items()}, "fc.bias": torch.ones(4)}},
        tmp_path / "resnet18.pth",
    )
    net = create_model("tim_resnet18", classes=3, weights=tmp_path / "resnet18.pth")
    report = net.weights_report
    assert len(report.copied) == len(source)
    assert report.unused == ("fc.bias",)
    assert len(report.new) == 2 + 8
    assert torch.equal(net.backbone.conv1.weight, source["conv1.weight"])


def test_backbone_weights_of_another_backbone_are_refused(tmp_path):
    source = create_model("tsn_resnet18", classes=3).backbone.state_dict()
    torch.save(source, tmp_path / "resnet18.pth")
    with pytest.raises(CheckpointError, match="resnet18.pth does not fit this network. Missing"):
        create_model("tsm_resnet34", classes=3, weights=tmp_path / "resnet18.pth")


def test_res2net_takes_published_names(tmp_path):
    import timm

    source = timm.create_model("res2net50_26w_4s")
    torch.save(source.state_dict(), tmp_path / "res2net.pth")
    net = create_model(
        "tsn_res2net50_26w_4s", classes=3, frames=1, weights=tmp_path / "res2net.pth"
    )
    x = torch.randn(2, 1, 3, 64, 64)
    source.reset_classifier(0)
    with torch.no_grad():
        torch.testing.assert_close(
            net.eval().backbone(x[:, 0]), source.eval()(x[:, 0]), rtol=1e-5, atol=1e-5
        )


@pytest.mark.data
def test_real_mobilenet_weights_load_completely(data_dir):
    file = data_dir / "weights" / "mobilenetv2_100_tf2_in1k_imagenetnorm.pth"
    report = create_model("tsm_mobilenetv2_100", classes=3, weights=file).weights_report
    assert report.unused == ("classifier.bias", "classifier.weight")
    assert len(report.new) == 2
