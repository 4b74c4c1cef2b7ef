"""`kinema serve`: names of networks and wrong use; tests/serve has the service itself."""

import socket
import sys
from pathlib import Path

import pytest

from kinema.cli.serve import named_folders
from kinema.decoders.pool import DecoderSettings
from kinema.errors import OptionError
from kinema.serve.limits import Limits


def test_networks_are_named_by_their_folders(tmp_path):
    words = [str(tmp_path / "gestures" / "best"), "falls=runs/x/best"]
    assert named_folders(words) == {
        "gestures": tmp_path / "gestures" / "best",
        "falls": Path("runs/x/best"),
    }


def test_a_folder_may_have_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("lr=0.1", "best")
    folder.mkdir(parents=True)
    assert named_folders([str(folder)]) == {"lr=0.1": folder}


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["a/x/best", "b/x/last"], "Two networks would be called 'x'"),
        (["=runs/x"], "has no name before the equals sign"),
    ],
)
def test_names_that_do_not_work(words, part):
    with pytest.raises(OptionError, match=part):
        named_folders(words)


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        ((), 2, "Missing argument 'CHECKPOINT...'"),
        (("--port", 99999), 2, "Invalid value for '--port'"),
        (("nowhere",), 1, "nowhere is not a kinema checkpoint"),
        (("nowhere", "--allow-folder", "none"), 1, "--allow-folder none is not a folder"),
        (("nowhere", "--max-mb", 0), 1, "The limit upload_bytes"),
        (("nowhere", "--max-mb", "inf"), 2, "Invalid value for '--max-mb'"),
        (("nowhere", "--api-key", ""), 1, "--api-key is empty"),
        (("nowhere", "--api-key", "schl\u00fcssel"), 1, "--api-key must be printable ASCII"),
        (("nowhere", "--allowed-host", "https://a.b"), 1, "--allowed-host: 'https://a.b' is no"),
        (("nowhere", "--host", "256.1.1.1"), 1, "Cannot listen on 256.1.1.1"),
    ],
)
def test_wrong_use(kinema, words, code, part):
    answer = kinema("serve", *words, *(() if "--port" in words else ("--port", 0)))
    assert (answer.code, answer.out) == (code, "")
    assert part in " ".join(answer.err.replace("│", " ").split())


def test_a_port_in_use(kinema):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = kinema("serve", "nowhere", "--port", port)
    assert answer.code == 1
    assert f"Cannot listen on 127.0.0.1 port {port}: Address already in use" in answer.err


def test_without_the_extra(kinema, monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "fastapi" or "kinema.serve" in n]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    answer = kinema("serve", "nowhere")
    assert answer.code == 1
    assert 'pip install ".[serve]"' in answer.err


def test_defaults_are_those_of_the_settings(kinema):
    words = " ".join(kinema("serve", "--help").out.replace("│", " ").split())
    for default in (Limits().pixels, Limits().upload_bytes >> 20, DecoderSettings().cpu_s):
        assert f"[default: {default}]" in words
