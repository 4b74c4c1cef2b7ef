"""hf:// addresses, against the API of the hub on loopback."""

import sys
from pathlib import Path

import pytest
import torch

import kinema
from kinema.errors import CheckpointError, FetchError, MissingExtraError, OptionError
from kinema.models.published import hub
from kinema.models.published.catalog import is_on_hub
from kinema.models.published.folder import checkpoint_folder
from kinema.models.published.hub import HubAddress, push

from ....hub_server import HubServer

NAME = "me/waving"


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("KINEMA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KINEMA_OFFLINE", raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with HubServer() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def test_a_folder_comes_back_from_the_hub(server, checkpoint, monkeypatch, color_set):
    commit = push(checkpoint, HubAddress(NAME), message="first")
    assert commit == f"{server.url}/{NAME}/commit/{server.branches[NAME]['main']}"
    assert set(server.files(NAME)) == {"config.json", "model.safetensors", "README.md"}
    net = kinema.Recognizer.load(f"hf://{NAME}", device="cpu")
    expected = kinema.Recognizer.load(checkpoint, device="cpu")
    video = color_set / "green" / "0.mp4"
    assert (net.predict(video).scores == expected.predict(video).scores).all()
    assert (net.labels, net.preprocessing) == (expected.labels, expected.preprocessing)

    monkeypatch.setenv("KINEMA_OFFLINE", "1")
    server.requests.clear()
    assert kinema.Recognizer.load(Path(f"hf://{NAME}"), device="cpu").labels == net.labels
    with pytest.raises(FetchError, match=r"hf://me/other cannot be fetched: .*HF_TOKEN"):
        kinema.Recognizer.load("hf://me/other")
    assert server.requests == []


def test_a_revision_is_a_branch_or_a_commit(server, checkpoint):
    push(checkpoint, HubAddress(NAME))
    first = server.branches[NAME]["main"]
    push(checkpoint, HubAddress(NAME, "v2"))
    assert set(server.branches[NAME]) == {"main", "v2"}
    for revision in ("v2", first):
        assert (checkpoint_folder(f"hf://{NAME}@{revision}") / "config.json").is_file()
    with pytest.raises(FetchError, match=r"hf://me/waving@v3 cannot be fetched: .*404"):
        checkpoint_folder(f"hf://{NAME}@v3")


def test_only_the_three_files_are_fetched(server, checkpoint):
    push(checkpoint, HubAddress(NAME))
    server.commit(NAME, {**server.files(NAME), "code.py": b"import os", "big.bin": b"0"})
    folder = checkpoint_folder(f"hf://{NAME}")
    assert {file.name for file in folder.iterdir()} == set(hub.FILES)
    assert not any("code.py" in request for request in server.requests)


def test_what_is_no_checkpoint_is_named(server, tmp_path):
    server.commit(NAME, {"config.json": b"{}", "pytorch_model.bin": b""})
    with pytest.raises(CheckpointError) as caught:
        checkpoint_folder(f"hf://{NAME}")
    assert str(caught.value) == (
        "hf://me/waving is not a kinema checkpoint: it has no model.safetensors. "
        "`kinema push FOLDER` uploads one."
    )
    with pytest.raises(CheckpointError, match="has no config.json"):
        push(tmp_path, HubAddress(NAME))


def test_private_repositories_need_a_token(server, checkpoint, monkeypatch):
    push(checkpoint, HubAddress(NAME), private=True)
    assert server.private == {NAME}
    checkpoint_folder(f"hf://{NAME}")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    monkeypatch.setenv("KINEMA_HOME", str(checkpoint.parent / "empty"))
    with pytest.raises(FetchError, match="cannot be fetched: 401 .* needs HF_TOKEN"):
        checkpoint_folder(f"hf://{NAME}")
    with pytest.raises(FetchError, match="hf://me/new cannot be uploaded: 401"):
        push(checkpoint, HubAddress("me/new"))


def test_a_public_repository_is_not_taken_for_a_private_one(server, checkpoint):
    push(checkpoint, HubAddress(NAME))
    before = server.branches[NAME]["main"]
    with pytest.raises(OptionError, match="hf://me/waving exists already and is public"):
        push(checkpoint, HubAddress(NAME), private=True)
    assert server.branches[NAME]["main"] == before


def test_a_network_starts_from_the_hub(server, checkpoint):
    push(checkpoint, HubAddress(NAME))
    net = kinema.create_model("tsm_test_resnet", classes=7, frames=4, weights=f"hf://{NAME}")
    trained = kinema.Recognizer.load(checkpoint, device="cpu").net.state_dict()
    for name, tensor in net.state_dict().items():
        assert name.startswith("head.") or torch.equal(tensor, trained[name]), name


@pytest.mark.parametrize("text", ["hf://owner", "hf://a/b/c", "hf://a/b@", "hf://a b/c"])
def test_wrong_addresses(text):
    assert is_on_hub(text)
    with pytest.raises(OptionError) as caught:
        checkpoint_folder(text)
    assert "expected hf://OWNER/REPOSITORY or hf://OWNER/REPOSITORY@REVISION" in str(caught.value)


def test_without_the_client(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError) as caught:
        checkpoint_folder("hf://me/waving")
    assert str(caught.value) == (
        "An hf:// address needs huggingface_hub 2, which is not installed. In the folder of kinema "
        'run pip install ".[hub]".'
    )
