"""The how-to "use published networks by name", against a local server, and its list."""

import runpy
import shutil

import pytest

from ..file_server import FileServer
from ..hub_server import HubServer
from ..published_files import ONLINE_FILE, online_file
from .pages import REPOSITORY, Page, run_kinema

PAGE = Page("docs/howto/published_networks.md")
# The list of the page has only one network without a hash that is small.
SMALL = ("tsm_resnet50:kinetics400", "tsm_mobilenetv2_100:jester-online")


@pytest.mark.slow
def test_the_page_runs(tmp_path, monkeypatch, checkpoint, color_set, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KINEMA_HOME", str(tmp_path / "home"))
    (tmp_path / "video.mp4").write_bytes((color_set / "green" / "1.mp4").read_bytes())
    (tmp_path / ONLINE_FILE[1:]).write_bytes(online_file())
    shutil.copytree(checkpoint, "runs/first/best")
    with FileServer({ONLINE_FILE: online_file()}) as server, HubServer() as hub:
        monkeypatch.setenv("KINEMA_MIRROR", server.url)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", hub.token)
        assert len(PAGE.commands) == 7
        for command in PAGE.commands:
            run_kinema(command, [SMALL] if SMALL[0] in command else ())
        capsys.readouterr()
        PAGE.run_python(0)
        assert len(server.requests) == 1
    assert capsys.readouterr().out.count("\n") == 1


def test_the_list_is_up_to_date():
    script = runpy.run_path(str(REPOSITORY / "scripts/published_page.py"))
    text = script["TARGET"].read_text(encoding="utf-8")
    assert script["BEGIN"] in text
    assert script["written"](text) == text, "run python scripts/published_page.py"
