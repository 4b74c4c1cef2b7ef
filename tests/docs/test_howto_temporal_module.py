"""The how-to "add your own temporal module": its file, its commands, its diff."""

import sys

import pytest

from kinema.models import families, zoo
from kinema.temporal.base import _REGISTRY

from .pages import REPOSITORY, Page, run_kinema

PAGE = Page("docs/howto/add_a_temporal_module.md")


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    (tmp_path / "temporal_blur.py").write_text(PAGE.blocks("python")[0], encoding="utf-8")
    (tmp_path / "recipes").symlink_to(REPOSITORY / "src" / "kinema" / "recipes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("KINEMA_PLUGINS", "")
    yield tmp_path
    _REGISTRY.pop("blur", None)
    for name in ("temporal_blur", "kinema_plugin_temporal_blur"):
        sys.modules.pop(name, None)


@pytest.mark.slow
@pytest.mark.usefixtures("workplace")
def test_every_command_knows_the_module():
    assert len(PAGE.commands) == 6
    for command in PAGE.commands:
        run_kinema(command)


@pytest.mark.usefixtures("workplace")
def test_python_knows_the_module_once_imported(capsys):
    PAGE.run_python(1)
    assert int(capsys.readouterr().out) == sum((64, 64, 64, 128, 128, 256, 256, 512))


def test_the_diff_adds_a_network(monkeypatch):
    added = [line[1:] for line in PAGE.blocks("diff")[0].splitlines() if line.startswith("+")]
    rows = eval("{" + "\n".join(added) + "}", vars(families))
    monkeypatch.setattr(families, "FAMILIES", {**families.FAMILIES, **rows})
    assert "tim5_me_resnet18" in zoo.list_models("tim5_me_*")
    net = zoo.create_model("tim5_me_resnet18", classes=3)
    assert {s.modules for s in net.sites() if s.modules} == {("tim", "me")}


def test_the_unchanged_lines_of_the_diff_are_in_the_table():
    source = (REPOSITORY / "src/kinema/models/families.py").read_text(encoding="utf-8")
    for line in PAGE.blocks("diff")[0].splitlines():
        if not line.startswith("+"):
            assert line[1:] in source


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "registers nothing"), (None, "does not exist. Name a Python file")],
)
def test_a_plugin_that_adds_nothing_is_an_error(tmp_path, content, message):
    from kinema.errors import OptionError
    from kinema.plugin import load_plugin

    file = tmp_path / "empty.py"
    if content is not None:
        file.write_text(content)
    with pytest.raises(OptionError, match=message):
        load_plugin(file)
    sys.modules.pop("kinema_plugin_empty", None)


def test_two_plugins_of_one_name_are_an_error(workplace):
    from kinema.errors import OptionError
    from kinema.plugin import load_plugin

    assert load_plugin("temporal_blur.py") == ["blur"]
    assert load_plugin("temporal_blur.py") == []
    (workplace / "other").mkdir()
    other = workplace / "other" / "temporal_blur.py"
    other.touch()
    with pytest.raises(OptionError, match=r"has the name of .*temporal_blur.py, which is loaded"):
        load_plugin(other)
