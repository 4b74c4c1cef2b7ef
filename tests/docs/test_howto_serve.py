"""The how-to "serve networks over HTTP", against servers started by its own commands."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer import Context
from typer.main import get_command

from kinema.cli.main import app

from ..causal import save_causal
from .pages import Page

PAGE = Page("docs/howto/serve.md")
STARTS = [line for line in PAGE.lines if "kinema serve" in line]
PLACE = "127.0.0.1:8000"
KEY = "choose-a-long-one"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, color_set) -> Path:
    """Folder with the network and the videos of the page."""
    folder = tmp_path_factory.mktemp("workplace")
    save_causal(folder / "runs/live/best")
    for name in ("video.mp4", "long.mp4"):
        (folder / name).symlink_to(color_set / "red" / "0.mp4")
    return folder


@pytest.fixture(scope="module")
def started(workplace) -> Iterator[Callable[[str], str]]:
    """Runs a command of the page on a free port; returns its address."""
    running: dict[str, tuple[subprocess.Popen[str], str]] = {}

    def start(line: str) -> str:
        if line not in running:
            command = line.replace(
                "kinema serve", f"exec {shlex.quote(sys.executable)} -m kinema serve"
            )
            process = subprocess.Popen(
                ["bash", "-c", f"{command} --port 0 --json --device cpu"],
                stdout=subprocess.PIPE,
                text=True,
                cwd=workplace,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            running[line] = process, ""
            running[line] = process, json.loads(process.stdout.readline())["url"]
        return running[line][1].removeprefix("http://")

    yield start
    for process, _ in running.values():
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode == 0


@pytest.mark.slow
def test_the_commands_run(started, workplace):
    place, ran = "", 0
    for line in PAGE.lines:
        if line in STARTS:
            place = started(line)
        elif line.startswith("curl"):
            # The last commands of the page are meant for a server without a key.
            open_again = "metrics" in line and KEY not in line
            here = started(STARTS[0]) if open_again else place
            answer = subprocess.run(
                [*shlex.split(line.replace(PLACE, here)), "--silent"],
                capture_output=True,
                text=True,
                cwd=workplace,
                check=False,
            )
            assert answer.returncode == 0, (line, answer.stdout, answer.stderr)
            ran += 1
    assert (len(STARTS), ran) == (2, 8)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_the_programs_run(started, workplace, number):
    program = PAGE.blocks("python")[number].replace(PLACE, started(STARTS[0]))
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=workplace, check=False
    )
    assert answer.returncode == 0, answer.stderr
    lines = {0: 3, 1: 12}.get(number)  # classes; frames
    assert lines is None or len(answer.stdout.splitlines()) == lines


@pytest.mark.slow
def test_a_page_behind_a_proxy_is_no_other_site(started):
    """Requests are accepted with the allowed host of the proxy and refused without it."""
    place = started(f"{STARTS[0]} --allowed-host video.example")
    for host, status in (("video.example", 422), ("127.0.0.1", 403), ("other.example", 421)):
        command = ["curl", "-s", "-o", os.devnull, "-w", "%{http_code}", "-F", "top=1"]
        headers = ["-H", f"Host: {host}", "-H", "Origin: https://video.example"]
        answer = subprocess.run(
            [*command, *headers, f"http://{place}/v1/predict"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert answer.stdout == str(status), host  # 422: let in, but there is no video


@pytest.mark.slow
def test_the_metrics_of_the_page_exist(started):
    url = f"http://{started(STARTS[0])}/metrics"
    text = subprocess.run(["curl", "-s", url], capture_output=True, text=True, check=True).stdout
    names = set(re.findall(r"`(kinema_\w+)`", PAGE.text))
    assert len(names) == 9
    for name in names:
        assert f"# TYPE {name.removesuffix('_total')}" in text, name


def test_the_limits_of_the_page_are_those_of_the_program():
    rows = re.findall(r"^\| `--([a-z-]+)` \| ([\d.]+) \|", PAGE.text, flags=re.MULTILINE)
    command = get_command(app).commands["serve"]
    context = Context(command)
    defaults = {p.name: p.get_default(context) for p in command.params}
    assert {name: float(value) for name, value in rows} == {
        name: float(defaults[name.replace("-", "_")]) for name, _ in rows
    }
    limits = {n for n in defaults if n.startswith(("max_", "worker"))} | {"timeout"}
    assert {name.replace("-", "_") for name, _ in rows} == limits
