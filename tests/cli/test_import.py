"""`kinema import`: published files and our own checkpoints through the real command."""

import json

import pytest
import torch

import kinema as package
from kinema.models.saved import load_saved


@pytest.fixture
def image_weights(tmp_path):
    """Weights of an image network as published by timm and torchvision."""
    import timm

    file = tmp_path / "resnet18.pth"
    torch.save(timm.create_model("resnet18", num_classes=10).state_dict(), file)
    return file


def test_a_published_file_becomes_a_checkpoint(kinema, image_weights, tmp_path):
    out = tmp_path / "tsm"
    words = ("import", image_weights, "--model", "tsm_resnet18", "--frames", 16, "--dense")
    document = kinema(*words, "--out", out, "--json").document
    assert document["matched"] == 102
    assert (document["unused"], document["missing"]) == ([], [])
    saved = load_saved(out)
    assert (saved.net.name, saved.net.frames, saved.preprocessing.sampling) == (
        "tsm_resnet18",
        16,
        "dense",
    )
    assert saved.labels == tuple("0123456789")
    # Nothing is overwritten.
    answer = kinema(*words, "--out", out)
    assert (answer.code, f"{out} already exists" in answer.err) == (1, True)


@pytest.mark.parametrize("classes", [None, 10])
def test_a_network_with_a_temporal_pool(kinema, image_weights, tmp_path, classes):
    out = tmp_path / "pooled"
    words = ["import", image_weights, "--model", "tsm_resnet18", "--temporal-pool", "--out", out]
    answer = kinema(*words, *(["--classes", classes] if classes else []))
    assert answer.code == 0, answer.err
    assert load_saved(out).net.spec.temporal_pool
    answer = kinema("import", out, "--temporal-pool", "--out", tmp_path / "again")
    assert answer.code == 2
    assert "leave out --temporal-pool." in " ".join(answer.err.replace("│", " ").split())


def test_a_new_classifier_on_image_weights(kinema, image_weights, tmp_path):
    words = ("import", image_weights, "--model", "gst_resnet18", "--out", tmp_path / "gst")
    document = kinema(*words, "--classes", 27, "--labels", "jester", "--json").document
    assert document["unused"] == ["fc.bias", "fc.weight"]
    assert sum(name.endswith("temporal") for name in document["missing"]) == 8
    assert all(name.endswith("spatial.weight") for name in document["derived"])
    assert load_saved(tmp_path / "gst").labels[0] == "Swiping Left"


def test_a_file_of_another_network_lists_what_is_left(kinema, image_weights, tmp_path):
    words = ("import", image_weights, "--model", "tei_resnet18", "--out", tmp_path / "tei")
    answer = kinema(*words)
    assert answer.code == 1
    assert "56 tensors of the network are not filled: backbone.layer1.0.conv1.before" in answer.err
    assert not (tmp_path / "tei").exists()
    listed = json.loads(kinema(*words, "--json").out)
    assert (len(listed["missing"]), listed["unused"]) == (56, [])


def test_a_checkpoint_of_ours_gets_another_number_of_frames(kinema, tmp_path):
    net = package.create_model("tam_resnet18", classes=3, frames=4)
    package.save(net, tmp_path / "four", labels=["a", "b", "c"])
    out = tmp_path / "eight"
    answer = kinema("import", tmp_path / "four", "--frames", 8, "--out", out)
    assert answer.code == 0, answer.err
    saved = load_saved(out)
    assert (saved.net.frames, saved.preprocessing.frames, saved.labels) == (8, 8, ("a", "b", "c"))
    assert saved.net(torch.randn(1, 8, 3, 32, 32)).shape == (1, 3)


def test_wrong_use_is_named(kinema, image_weights, tmp_path):
    answer = kinema("import", image_weights, "--out", tmp_path / "x")
    assert (answer.code, "name the network that the file was trained as" in answer.err) == (2, True)
    words = ("import", image_weights, "--model", "tsn_resnet18", "--out", tmp_path / "x")
    answer = kinema(*words, "--labels", "kinetics40")
    assert (answer.code, "Class lists of kinema: diving48" in answer.err) == (1, True)
    answer = kinema(*words, "--labels", "jester")
    assert (answer.code, "has 10 classes, but 27 class names" in answer.err) == (1, True)
    assert "For a new, untrained classifier give --classes 27." in answer.err


def test_a_kinema_checkpoint_keeps_its_architecture(kinema, checkpoint, tmp_path):
    answer = kinema("import", checkpoint, "--causal", "--out", tmp_path / "causal")
    assert answer.code == 2
    said = " ".join(answer.err.replace("│", " ").split())
    assert (
        "leave out --causal. A trained network cannot be made causal: train it with model.causal"
        in said
    )
    assert not (tmp_path / "causal").exists()


def test_forgotten_frames_are_said(kinema, image_weights, tmp_path, caplog):
    words = ("import", image_weights, "--model", "tsm_resnet18", "--out")
    assert kinema(*words, tmp_path / "guessed").code == 0
    assert "so 8 are taken. If its name or page says otherwise" in caplog.text
    caplog.clear()
    assert kinema(*words, tmp_path / "given", "--frames", 8).code == 0
    assert caplog.text == ""


def test_a_plain_state_dict_of_kinema_can_be_imported(kinema, checkpoint, tmp_path):
    trained = load_saved(checkpoint).net
    torch.save(trained.state_dict(), tmp_path / "plain.pth")
    words = ("import", tmp_path / "plain.pth", "--model", trained.name, "--out", tmp_path / "net")
    assert kinema(*words, "--frames", trained.frames).code == 0
    back = load_saved(tmp_path / "net").net
    for name, tensor in trained.state_dict().items():
        assert torch.equal(tensor, back.state_dict()[name]), name
