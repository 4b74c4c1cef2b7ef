"""The how-to "add your own backbone": its file and its commands."""

import sys

import pytest

from kinema.models import blocks

from .pages import REPOSITORY, Page, run_kinema

PAGE = Page("docs/howto/add_a_backbone.md")


@pytest.fixture(autouse=True)
def _workplace(tmp_path, monkeypatch):
    (tmp_path / "tiny_resnet.py").write_text(PAGE.blocks("python")[0], encoding="utf-8")
    (tmp_path / "recipes").symlink_to(REPOSITORY / "src" / "kinema" / "recipes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("KINEMA_PLUGINS", "")
    monkeypatch.setattr(blocks, "_ROWS", dict(blocks._ROWS))
    monkeypatch.setattr(blocks, "_BACKBONES", dict(blocks._BACKBONES))
    yield
    for name in ("tiny_resnet", "kinema_plugin_tiny_resnet"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_every_command_knows_the_backbone():
    assert len(PAGE.commands) == 5
    printed = [run_kinema(command) for command in PAGE.commands]
    assert "tsm_tiny_resnet" in printed[0].split()
    assert "res5.0 before_conv1" in printed[1]


def test_python_knows_the_backbone_once_imported(capsys):
    PAGE.run_python(1)
    assert capsys.readouterr().out == "['res4.0 before_conv1', 'res5.0 before_conv1']\n"


def test_every_argument_of_the_page_exists():
    from inspect import signature

    arguments = signature(blocks.register_blocks).parameters
    table = PAGE.text.split("| argument | meaning |")[1].split("\n\n")[0]
    named = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert len(named) == 5
    assert set(named) <= set(arguments)
