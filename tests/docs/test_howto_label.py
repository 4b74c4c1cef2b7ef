"""The how-to "label an archive": its commands on real videos, its queries on the output."""

import shlex
import shutil
import subprocess
import sys

import pytest

from .pages import Page

PAGE = Page("docs/howto/label_an_archive.md")


def test_the_commands_of_a_cluster_are_those_of_one_machine():
    """tests/cli/test_label.py runs a cluster; here comparing the command lines is enough."""
    one, cluster = PAGE.commands
    assert cluster == one.replace(" --features", "") + " --address auto"


@pytest.mark.slow
def test_the_page_runs_from_list_to_queries(tmp_path, monkeypatch, checkpoint, color_set, capfd):
    shutil.copytree(checkpoint, tmp_path / "runs/first/best")
    shutil.copytree(color_set, tmp_path / "videos")
    (tmp_path / "videos" / "bad.mp4").write_text("no video")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KINEMA_CACHE", str(tmp_path / "cache"))
    find, label = PAGE.lines[:2]
    subprocess.run(find, shell=True, check=True)
    words = [sys.executable, "-m", *shlex.split(label)]
    subprocess.run(words, check=True, timeout=240)
    assert "7 videos: 6 labeled, 1 failed" in capfd.readouterr().out
    names: dict[str, object] = {}
    for number in range(len(PAGE.blocks("python"))):
        PAGE.run_python(number, names)
    shown = capfd.readouterr().out
    assert "mean_prob" in shown
    assert "bad.mp4" in shown
    assert "likeness" in shown
    assert (tmp_path / "labels.parquet").is_file()
