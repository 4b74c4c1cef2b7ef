"""A network that starts from one trained on other classes."""

import pytest
import torch
from safetensors.torch import save_file

from kinema.errors import CheckpointError
from kinema.models.saved import save
from kinema.models.transfer import check_same_input
from kinema.models.weights import imagenet_file
from kinema.models.zoo import create_model
from kinema.values import Preprocessing

LABELS = ("a", "b", "c")


def built(name="tim_test_resnet", *, classes=3, frames=4, **options):
    torch.manual_seed(classes)
    return create_model(name, classes=classes, frames=frames, **options)


@pytest.fixture
def trained():
    """Random norms too: those of a new network are the same everywhere."""
    net = built()
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            torch.nn.init.normal_(tensor)
    return net


@pytest.fixture
def folder(trained, tmp_path):
    return save(trained, tmp_path / "k400", labels=LABELS)


@pytest.mark.parametrize("classes", [3, 5])
@pytest.mark.parametrize("part", ["", "model.safetensors"])
def test_everything_but_the_classifier_is_taken_over(trained, folder, part, classes):
    net = built(classes=classes, weights=folder / part)
    theirs, ours = trained.state_dict(), net.state_dict()
    heads = {"head.classifier.weight", "head.classifier.bias"}
    assert set(ours) - heads == set(net.weights_report.copied)
    for name in net.weights_report.copied:
        assert torch.equal(ours[name], theirs[name]), name
    assert any(".tim." in name for name in net.weights_report.copied)
    assert (set(net.weights_report.new), set(net.weights_report.unused)) == (heads, heads)
    fresh = built(classes=classes).state_dict()
    for name in heads:
        assert ours[name].shape == fresh[name].shape
        if classes == 3:
            assert not torch.equal(ours[name], theirs[name])


def test_the_report_names_the_source_and_the_new_classifier(folder):
    text = str(built(classes=5, weights=folder).weights_report)
    assert text.startswith(f"{folder} (tim_test_resnet, 3 classes): ")
    assert "2 new (head.classifier.weight, head.classifier.bias)" in text
    assert "2 unused (head.classifier.bias, head.classifier.weight)" in text


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tsm_test_resnet", {}, r"k400 holds test_resnet with tim .* built here is .* tsm "),
        ("tsn_test_resnet", {}, r"built here is test_resnet with no temporal module\. Build"),
        ("tim_test_resnet", {"stages": (5,)}, r"in 4 blocks; built here .* in 1 blocks"),
        ("tim_test_resnet", {"init": "random"}, r"\(init=random\)\. Build the same network, or"),
        ("tim_resnet18", {}, "built here is resnet18 with tim"),
    ],
)
def test_another_network_is_refused(folder, name, options, message):
    with pytest.raises(CheckpointError, match=message):
        built(name, weights=folder, **options)


def test_the_weights_alone_must_fit_too(folder):
    file = folder / "model.safetensors"
    built(init="random", weights=file)  # the same tensors
    with pytest.raises(CheckpointError, match=r"model.safetensors does not fit .* Missing"):
        built("me_test_resnet", weights=file)
    tsn = built("tsn_test_resnet").state_dict()
    save_file({**tsn, "backbone.more": torch.zeros(1)}, file)
    with pytest.raises(CheckpointError, match="1 tensors without a place .* backbone.more"):
        built("tsn_test_resnet", weights=file)


def test_weights_that_depend_on_the_frames_are_resampled_first(tmp_path):
    folder = save(built("tam_test_resnet"), tmp_path / "tam", labels=LABELS)
    with pytest.raises(CheckpointError, match=r"on 4 frames, .* import .*tam --frames 8 --out"):
        built("tam_test_resnet", frames=8, weights=folder)
    tim = save(built(), tmp_path / "tim", labels=LABELS)
    assert built(frames=8, weights=tim).weights_report.new


def test_a_folder_called_imagenet_is_not_what_the_word_means(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    folder.rename("imagenet")
    monkeypatch.setattr("kinema.models.weights._published", lambda name: {})
    with pytest.raises(
        CheckpointError, match=r"ImageNet weights of test_resnet\.r160_in1k does not fit"
    ):
        built(weights="imagenet")


@pytest.mark.parametrize(
    ("backbone", "name"),
    [
        ("resnet18", "resnet18.tv_in1k"),
        ("resnet101", "resnet101.tv_in1k"),
        ("res2net50_26w_4s", "res2net50_26w_4s.in1k"),
        ("resnet50.a1_in1k", "resnet50.a1_in1k"),
        ("regnet_y_400mf", "regnet_y_400mf.IMAGENET1K_V2"),
    ],
)
def test_imagenet_says_which_file_it_took(backbone, name, monkeypatch):
    asked = []

    def published(wanted):
        asked.append(wanted)
        return create_model(f"tsn_{backbone}", classes=1000).backbone.state_dict()

    monkeypatch.setattr("kinema.models.weights._published", published)
    assert imagenet_file(backbone) == name
    if backbone == "resnet18":
        net = create_model(f"tsm_{backbone}", classes=3, frames=4, weights="imagenet")
        assert net.weights_report.source == f"ImageNet weights of {name}"
        assert asked == [name]


def test_what_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="has no config.json"):
        built(weights=tmp_path)
    (tmp_path / "a.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="a.safetensors is not a readable safetensors file"):
        built(weights=tmp_path / "a.safetensors")


def test_colors_must_be_normalized_as_before(trained, tmp_path):
    how = Preprocessing(frames=4, mean=(0.5, 0.5, 0.5))
    folder = save(trained, tmp_path / "gray", labels=LABELS, preprocessing=how)
    check_same_input(folder, how)
    check_same_input(folder / "model.safetensors", Preprocessing())  # says nothing about colors
    with pytest.raises(CheckpointError, match=r"trained with mean .* Set preprocessing.mean to"):
        check_same_input(folder, Preprocessing())
