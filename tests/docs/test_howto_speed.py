"""The how-tos "run faster" and "export a network", and the page of benchmarks."""

import runpy
from pathlib import Path

import pytest

from .pages import REPOSITORY, Page, run_kinema, trained_on_colors

FASTER = Page("docs/howto/run_faster.md")
EXPORT = Page("docs/howto/export_a_network.md")
# Small networks and few rounds instead of those on the pages.
SMALL = (
    ("tsn_resnet50", "tsn_test_resnet"),
    ("tsm_resnet50", "tsm_test_resnet"),
)


@pytest.fixture
def workplace(tmp_path, monkeypatch, checkpoint, color_set) -> Path:
    """Folder with the network, videos, annotations and program of the pages."""
    trained_on_colors(tmp_path, checkpoint, color_set)
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KINEMA_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    "command",
    [line for page in (FASTER, EXPORT) for line in page.commands],
)
def test_every_command_runs(command):
    rounds = " --rounds 1" if command.startswith("kinema bench") else ""
    run_kinema(command + rounds, SMALL)


@pytest.mark.slow
@pytest.mark.usefixtures("workplace")
def test_the_python_block_runs(capsys):
    FASTER.run_python(0)
    assert "times as fast as the plain network" in capsys.readouterr().out


def test_the_benchmarks_page_is_up_to_date():
    script = runpy.run_path(str(REPOSITORY / "scripts/benchmark_tables.py"))
    assert script["page"]() == script["TARGET"].read_text(encoding="utf-8"), (
        "run python scripts/benchmark_tables.py"
    )
