"""Names become checkpoint folders: fetched from a real server, converted once, and used."""

import dataclasses
import hashlib
import io
import json
import re
import shutil

import pytest
import torch

import kinema
from kinema.class_lists import shipped_class_names
from kinema.errors import CheckpointError, FetchError, TensorMismatchError, UnknownNameError
from kinema.models.published import catalog
from kinema.models.published.catalog import find_published
from kinema.models.published.folder import adopt_file, checkpoint_folder, weights_folder
from kinema.models.saved import load_saved

from ....file_server import FileServer
from ....parity.test_reference_outputs import FRAMES, REFERENCE, assert_near, clips
from ....published_files import (
    GOLDENS,
    ONLINE,
    ONLINE_FILE,
    OTHER_BACKBONES,
    official_file,
    online_file,
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KINEMA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KINEMA_OFFLINE", raising=False)
    return tmp_path / "home"


@pytest.fixture
def mirror(monkeypatch):
    with FileServer() as running:
        monkeypatch.setenv("KINEMA_MIRROR", running.url)
        yield running


def with_hash(monkeypatch, name: str, data: bytes):
    """The entry of the catalog as if its publisher had published these bytes."""
    known = find_published(name)
    one = dataclasses.replace(known, sha256=hashlib.sha256(data).hexdigest()[:8])
    by_name = {**catalog._by_name(), **dict.fromkeys(one.names, one)}
    monkeypatch.setattr(catalog, "_by_name", lambda: by_name)
    return one


def test_a_name_is_fetched_converted_once_and_works_offline(mirror, home, monkeypatch):
    data = online_file()
    mirror.files[ONLINE_FILE] = data
    folder = checkpoint_folder(ONLINE)
    assert re.fullmatch(r"tsm_mobilenetv2_100-jester-online-[0-9a-f]{8}", folder.name)
    assert folder.parent == home / "published" / "networks"
    saved = load_saved(folder)
    assert saved.labels == shipped_class_names("jester:sorted")
    assert saved.preprocessing == find_published(ONLINE).preprocessing
    assert saved.net.reach.look_ahead == 0
    card = (folder / "README.md").read_text(encoding="utf-8")
    for fact in (
        f"- **SHA-256 of the file**: {hashlib.sha256(data).hexdigest()}",
        "- **Imported from**: TSM, authors: https://hanlab18.mit.edu/projects/tsm/models"
        "/mobilenetv2_jester_online.pth.tar "
        "(https://github.com/mit-han-lab/temporal-shift-module, commit 1f6a834b, "
        "online_demo/main.py)",
        "- **License**: code MIT, weights not stated",
        "- **Published as**: tsm_mobilenetv2_100:jester-online in the catalog of kinema (listed)",
    ):
        assert fact in card
    mirror.files.clear()
    monkeypatch.setenv("KINEMA_OFFLINE", "1")
    assert checkpoint_folder("tsm_mobilenetv2_100:jester") == folder
    assert len(mirror.requests) == 1


def test_without_network_and_cache_the_error_says_what_to_do(home, monkeypatch):
    monkeypatch.setenv("KINEMA_OFFLINE", "1")
    with pytest.raises(FetchError) as caught:
        kinema.Recognizer.load(ONLINE)
    assert str(caught.value) == (
        f"{ONLINE} is not in the cache ({home / 'published'}), and KINEMA_OFFLINE forbids to fetch "
        "it. Download https://hanlab18.mit.edu/projects/tsm/models/mobilenetv2_jester_online.pth"
        f".tar with any program, then: kinema fetch {ONLINE} --file FILE"
    )


def test_a_wrong_file_is_not_opened(mirror, monkeypatch):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("the file was opened",))

    data = online_file()
    one = with_hash(monkeypatch, ONLINE, data)
    buffer = io.BytesIO()
    torch.save(Trap(), buffer)
    mirror.files[ONLINE_FILE] = buffer.getvalue()
    one = dataclasses.replace(one, urls=(f"{mirror.url}{ONLINE_FILE}",))
    monkeypatch.setattr(catalog, "_by_name", lambda: {ONLINE: one})
    monkeypatch.setattr("kinema.models.convert.importer.read_tensors", pytest.fail)
    with pytest.raises(FetchError, match="wrong file: its SHA-256 is"):
        checkpoint_folder(ONLINE)


def test_without_a_hash_a_file_that_does_not_fit_is_fetched_again(mirror, home):
    mirror.files[ONLINE_FILE] = official_file("tsm_mobilenetv2_8f", 5)
    with pytest.raises(CheckpointError, match="has 5 classes, but the catalog has 27"):
        checkpoint_folder(ONLINE)
    mirror.files[ONLINE_FILE] = b"no weights"
    with pytest.raises(CheckpointError, match="not a weight file"):
        checkpoint_folder(ONLINE)
    mirror.files[ONLINE_FILE] = online_file()
    assert load_saved(checkpoint_folder(ONLINE)).net.classes == 27
    assert list((home / "published").rglob("*.part")) == []


def test_paths_come_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ONLINE).mkdir()
    assert str(checkpoint_folder(ONLINE)) == ONLINE
    assert str(checkpoint_folder("runs/first/best")) == "runs/first/best"
    (tmp_path / "kinetics400").write_bytes(b"")
    assert weights_folder("kinetics400", "tsm_resnet50") == "kinetics400"


def test_unknown_names(monkeypatch):
    for load in (kinema.Recognizer.load, checkpoint_folder):
        with pytest.raises(UnknownNameError, match="Did you mean 'tsm_resnet50:something_v2'"):
            load("tsm_resnet50:somethin_v2")
    with pytest.raises(UnknownNameError, match="no published weights 'tsm_resnet18:kinetics400'"):
        kinema.create_model("tsm_resnet18", classes=3, weights="kinetics400")


@pytest.mark.slow
def test_a_network_starts_from_published_weights(mirror, monkeypatch):
    mirror.files[ONLINE_FILE] = online_file()
    for weights in ("jester", "jester-online", ONLINE):
        net = kinema.create_model(
            "tsm_mobilenetv2_100", classes=12, frames=8, causal=True, weights=weights
        )
        trained = load_saved(checkpoint_folder(ONLINE)).net.state_dict()
        assert len(net.weights_report.new) == 2
        for name, tensor in net.state_dict().items():
            assert name.startswith("head.") or torch.equal(tensor, trained[name]), name
    with pytest.raises(CheckpointError, match="causal=True"):
        kinema.create_model("tsm_mobilenetv2_100", classes=12, weights="jester")


def test_a_file_by_hand(tmp_path, monkeypatch):
    (tmp_path / "online.tar").write_bytes(online_file())
    folder = adopt_file(find_published(ONLINE), tmp_path / "online.tar")
    monkeypatch.setenv("KINEMA_OFFLINE", "1")
    assert checkpoint_folder(ONLINE) == folder
    # Without a published hash the file that was given last counts.
    shutil.copytree(folder, tmp_path / "before")
    data = online_file() + b" "
    (tmp_path / "online.tar").write_bytes(data)
    assert adopt_file(find_published(ONLINE), tmp_path / "online.tar") == folder
    assert hashlib.sha256(data).hexdigest() in (folder / "README.md").read_text(encoding="utf-8")
    assert len(list(folder.parent.parent.glob("files/*.pth"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("golden", "name"), GOLDENS.items())
def test_names_score_as_the_authors_code(golden, name, mirror, monkeypatch, tmp_path):
    one = find_published(name)
    classes = one.classes
    data = official_file(golden, classes)
    if one.sha256:
        one = with_hash(monkeypatch, name, data)
    if one.state == "manual":
        (tmp_path / "file.pth").write_bytes(data)
        adopt_file(one, tmp_path / "file.pth")
    else:
        mirror.files[f"/{one.own_file_name}"] = data
    net = kinema.Recognizer.load(name, device="cpu").net.interpolate_frames(FRAMES)
    reference = json.loads((REFERENCE / f"{golden}.json").read_text())
    expected = torch.tensor(reference["inputs"]["B"]["expected_logits"])
    # As in the test of the goldens themselves.
    dtype = torch.float64 if "logits_computed_in" in reference else torch.float32
    with torch.inference_mode():
        got = net.to(dtype).frame_scores(clips("B").to(dtype)).float().mean(1)
    assert_near(got, expected[:, torch.arange(classes) % expected.shape[1]], 1e-5)
    # Frames of another number than the catalog's would be resampled in silence.
    if golden.startswith("tanet"):
        longer = find_published(name.replace("8f", "16f"))
        with pytest.raises(
            CheckpointError, match="was trained on 8 frames, but the catalog has 16"
        ):
            adopt_file(longer, tmp_path / "file.pth")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "state"), OTHER_BACKBONES.items())
def test_other_backbones_fit(name, state, tmp_path):
    one = find_published(name)
    classes = one.classes
    tensors = {
        key: t[:1].expand(classes, *t.shape[1:]).clone()
        if re.search(r"(?:new_fc|fc_cls)\.(?:weight|bias)$", key)
        else t
        for key, t in state().items()
    }
    torch.save({"state_dict": tensors}, tmp_path / "file.pth")
    known = dataclasses.replace(
        one, sha256=hashlib.sha256((tmp_path / "file.pth").read_bytes()).hexdigest()
    )
    saved = load_saved(adopt_file(known, tmp_path / "file.pth"))
    assert (saved.net.name, saved.net.frames, len(saved.labels)) == (one.model, one.frames, classes)


def test_classes_without_a_list_are_numbers(tmp_path, caplog):
    one = dataclasses.replace(
        find_published("tsm_mobilenetv2_100:kinetics400-dense-8f-100e-authors"),
        id="tsm_mobilenetv2_100:kinetics600-8f",
        classes=None,
        class_list=None,
    )
    (tmp_path / "file.pth").write_bytes(official_file("tsm_mobilenetv2_8f", 6))
    assert load_saved(adopt_file(one, tmp_path / "file.pth")).labels == tuple("012345")
    assert (
        "`kinema import tsm_mobilenetv2_100:kinetics600-8f --labels LIST --out FOLDER` names them"
        in caplog.text
    )


def test_another_network_is_refused(tmp_path):
    (tmp_path / "file.pth").write_bytes(official_file("tsm_mobilenetv2_8f", 174))
    with pytest.raises(TensorMismatchError, match="does not fit gst_resnet50"):
        adopt_file(find_published("gst_resnet50:something_v2"), tmp_path / "file.pth")
