"""Published networks by name: `kinema models --published`, `kinema fetch`, and all commands."""

import json
import signal
import subprocess
import sys
import urllib.request

import pytest

from kinema import Recognizer
from kinema.cli.serve import named_folders
from kinema.models.published.catalog import list_published

from ..file_server import FileServer
from ..hub_server import HubServer
from ..published_files import ONLINE, ONLINE_FILE, online_file
from ..small_recipe import DATA_AND_OPTIMIZER


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KINEMA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KINEMA_OFFLINE", raising=False)
    return tmp_path / "home" / "published"


@pytest.fixture
def mirror(monkeypatch):
    with FileServer({ONLINE_FILE: online_file()}) as running:
        monkeypatch.setenv("KINEMA_MIRROR", running.url)
        yield running


def test_published_networks_are_listed(kinema):
    answer = kinema("models", "--published")
    assert answer.code == 0
    assert "None of them has been fetched and verified with kinema yet." in answer.err
    for network in list_published():
        assert network.id in answer.out
    answer = kinema("models", "tsm_mobilenetv2_100:*", "--published")
    assert [line.split() for line in answer.out.splitlines()[2:4]] == [
        [
            *("tsm_mobilenetv2_100:kinetics400-8f-100e", "kinetics400,", "kinetics400-8f"),
            *("8", "2.4", "68.71", "listed", "code", "Apache-2.0,", "weights", "not", "stated"),
            *("MMAction2", "1.x"),
        ],
        [
            *("tsm_mobilenetv2_100:kinetics400-dense-8f-100e-320p", "8", "2.4", "68.46", "listed"),
            *("code", "Apache-2.0,", "weights", "not", "stated", "MMAction2", "0.x"),
        ],
    ]
    assert "listed, no hash" in answer.out


def test_a_document_has_every_fact(kinema):
    (one,) = kinema("models", ONLINE, "--published", "--json").document
    assert (one["id"], one["data"], one["frames"], one["state"]) == (ONLINE, "jester", 8, "listed")
    assert one["publisher"]["weights_license"] == "not stated"
    assert one["printed"] == []
    answer = kinema("models", "--published", "tsm_resnet50:kinetic400")
    assert answer.code == 1
    assert "Did you mean 'tsm_resnet50:kinetics400'?" in answer.err


def test_fetch_says_where_the_network_is(kinema, mirror, home, tmp_path, monkeypatch):
    answer = kinema("fetch", "tsm_mobilenetv2_100:jester", "--json")
    assert answer.document["id"] == ONLINE
    folder = answer.document["folder"]
    assert folder.startswith(str(home / "networks"))
    assert f"{ONLINE} is now in {folder} (code MIT, weights not stated)." in answer.err
    monkeypatch.setenv("KINEMA_OFFLINE", "1")
    again = kinema("fetch", ONLINE)
    assert (again.out, again.err) == (f"{folder}\n", "")
    (tmp_path / "mine.tar").write_bytes(online_file())
    assert kinema("fetch", ONLINE, "--file", tmp_path / "mine.tar").out == f"{folder}\n"
    answer = kinema("fetch", "gst_resnet50:something_v2")
    assert answer.code == 1
    assert "must be downloaded by hand" in answer.err
    answer = kinema("fetch", "runs/first/best")
    assert "'runs/first/best' is neither a folder nor a published network" in answer.err


def test_a_folder_goes_to_the_hub_and_commands_take_its_address(
    kinema, checkpoint, color_set, monkeypatch
):
    video = color_set / "green" / "1.mp4"
    with HubServer() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        answer = kinema("push", checkpoint, "hf://me/colors")
        assert (answer.code, "hf://me/colors cannot be uploaded: 401" in answer.err) == (1, True)
        assert "A private repository needs HF_TOKEN." in answer.err
        monkeypatch.setenv("HF_TOKEN", hub.token)
        pushed = kinema("push", checkpoint, "hf://me/colors", "--private", "--json").document
        assert pushed["commit"] == f"{hub.url}/me/colors/commit/{hub.branches['me/colors']['main']}"
        assert hub.private == {"me/colors"}
        predicted = kinema("predict", "hf://me/colors", video, "--json").document
    assert predicted == kinema("predict", checkpoint, video, "--json").document
    assert predicted == kinema("predict", "hf://me/colors@main", video, "--json").document
    assert "3 classes" in kinema("describe", "hf://me/colors").out
    answer = kinema("push", checkpoint, "me/colors")
    assert (answer.code, "expected hf://OWNER/REPOSITORY" in answer.err) == (1, True)


def test_offline_and_without_a_cache(kinema, color_set, monkeypatch):
    monkeypatch.setenv("KINEMA_OFFLINE", "1")
    video = color_set / "green" / "1.mp4"
    for words in (("predict", ONLINE, video), ("stream", ONLINE, video), ("serve", ONLINE)):
        answer = kinema(*words)
        assert (answer.code, answer.out) == (1, "")
        assert f"then: kinema fetch {ONLINE} --file FILE" in answer.err


@pytest.mark.slow
def test_commands_take_the_name(kinema, mirror, color_set, tmp_path):
    video = color_set / "green" / "1.mp4"
    predicted = kinema("predict", ONLINE, video, "--json").document[0]["top"]
    recognizer = Recognizer.load(ONLINE)
    assert predicted == [c.to_dict(digits=6) for c in recognizer.predict(video).top]
    assert len(mirror.requests) == 1
    rows = [json.loads(line) for line in kinema("stream", ONLINE, video).out.splitlines()]
    assert [row["frame"] for row in rows] == list(range(12))
    names = recognizer.labels
    (tmp_path / "val.csv").write_text(f"path,label\ngreen/1.mp4,{names[3]}\n", encoding="utf-8")
    words = ("--data", tmp_path / "val.csv", "--root", color_set, "--json")
    assert kinema("evaluate", ONLINE, *words).document["videos"] == 1
    assert kinema("timeline", ONLINE, video, "--json").code == 0
    assert "27 classes" in kinema("describe", ONLINE).out
    named = kinema("import", ONLINE, "--labels", "jester:sorted", "--out", tmp_path / "named")
    assert named.code == 0
    assert len(mirror.requests) == 1


RECIPE = (
    """
[model]
name = "tsm_mobilenetv2_100"
frames = 8
causal = true
weights = "jester-online"
"""
    + DATA_AND_OPTIMIZER
    + """[train]
epochs = 1
batch_size = 2
"""
)


@pytest.mark.slow
@pytest.mark.usefixtures("mirror")
def test_training_starts_from_the_name(kinema, color_set, tmp_path, caplog):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(set=color_set), encoding="utf-8")
    answer = kinema("train", recipe, "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    assert "(tsm_mobilenetv2_100, 27 classes): 312 tensors copied" in caplog.text
    words = ("preprocessing.mean=[0.5, 0.5, 0.5]", "--out", tmp_path / "other")
    answer = kinema("train", recipe, *words)
    assert answer.code == 1
    assert "was trained with mean [0.485, 0.456, 0.406]" in answer.err


@pytest.mark.slow
@pytest.mark.usefixtures("mirror")
def test_the_service_takes_the_name():
    command = [sys.executable, "-m", "kinema.cli.main", "serve", ONLINE, "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            ready = json.loads(process.stdout.readline())
            assert ready["models"] == [ONLINE]
            with urllib.request.urlopen(f"{ready['url']}/v1/models") as answer:
                assert ONLINE in answer.read().decode()
        finally:
            process.send_signal(signal.SIGTERM)


def test_a_service_names_networks_by_their_published_names():
    assert list(named_folders([ONLINE, f"hands={ONLINE}"])) == [ONLINE, "hands"]
