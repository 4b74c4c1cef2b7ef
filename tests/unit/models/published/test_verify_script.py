"""`scripts/verify_published.py` against a local server, on a catalog of its own."""

import hashlib
import importlib.util
import shutil

import pytest

from kinema import Recognizer
from kinema.models.published.catalog import read_catalog

from ....conftest import REPOSITORY
from ....file_server import FileServer
from ....published_files import ONLINE, ONLINE_FILE, online_file

HANDS = "tsm_mobilenetv2_100:jester-hands"
PACKAGED = REPOSITORY / "src" / "kinema" / "models" / "published" / "catalog.toml"


@pytest.fixture(scope="module")
def script():
    path = REPOSITORY / "scripts" / "verify_published.py"
    spec = importlib.util.spec_from_file_location("verify_published", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def server():
    with FileServer({ONLINE_FILE: online_file()}) as running:
        yield running


@pytest.fixture
def catalog(tmp_path, monkeypatch, server):
    """A publisher, a network without a hash, and one whose hash is another file's."""
    monkeypatch.setenv("KINEMA_HOME", str(tmp_path / "home"))
    text = PACKAGED.read_text(encoding="utf-8")
    publishers = text[: text.index("# gsf_resnet50")]
    start = text.index(f'[[networks]]\nid = "{ONLINE}"')
    entry = text[start : text.index("\n\n", start)]
    entry = entry.replace("https://hanlab18.mit.edu/projects/tsm/models", server.url)
    other = entry.replace(ONLINE, HANDS).replace(':jester"', ':hands"') + '\nsha256 = "0123abcd"'
    file = tmp_path / "catalog.toml"
    file.write_text(f"{publishers}{entry}\n\n{other}\n", encoding="utf-8")
    return file


def test_the_packaged_catalog_keeps_its_form(script):
    text = PACKAGED.read_text(encoding="utf-8")
    for one in (read_catalog(text)[0], read_catalog(text)[-1]):
        changed = script.with_facts(text, one.id, {"sha256": "f" * 64, "size_bytes": 7})
        (found,) = (new for new in read_catalog(changed) if new.id == one.id)
        assert (found.sha256, found.size_bytes, found.state) == ("f" * 64, 7, one.state)
        assert len(read_catalog(changed)) == len(read_catalog(text))
        assert script.with_facts(changed, one.id, {}) == changed


@pytest.mark.slow
def test_states_are_written(script, catalog, color_set, tmp_path, capsys):
    assert script.main(["--catalog", str(catalog)]) == 1
    out = capsys.readouterr().out
    assert f"{ONLINE}: hash and size only: no clip of its data" in out
    assert f"{HANDS}: FAILED: {HANDS} could not be fetched." in out
    online, hands = read_catalog(catalog.read_text(encoding="utf-8"))
    sha256 = hashlib.sha256(online_file()).hexdigest()
    assert (online.state, online.sha256) == ("listed", sha256)
    assert online.size_bytes == len(online_file())
    assert (hands.state, hands.sha256, hands.size_bytes) == ("listed", "0123abcd", None)

    video = color_set / "green" / "1.mp4"
    folder = next((tmp_path / "home" / "published" / "networks").iterdir())
    recognizer = Recognizer.load(folder)
    best = recognizer.predict(video).top[0].name
    worst = recognizer.labels[recognizer.predict(video).scores.argmin()]
    clips = tmp_path / "clips" / "jester"
    clips.mkdir(parents=True)
    for name, failures, state in ((worst, 1, "listed"), (best, 0, "verified")):
        shutil.rmtree(clips)
        clips.mkdir()
        shutil.copy(video, clips / f"{name}.mp4")
        words = ["--catalog", str(catalog), "--clips", str(clips.parent), ONLINE]
        assert script.main(words) == failures
        assert read_catalog(catalog.read_text(encoding="utf-8"))[0].state == state
    assert f"{worst}.mp4 is not recognized, but as {best}, " in capsys.readouterr().out
