"""A short run of the fuzzing harness; `make fuzz` runs it at length."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")
GUIDED = Path(__file__).with_name("guided.py")


def fuzz(*words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(RUN), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("target", "count"),
    [
        ("recordings", 150),
        ("annotations", 600),
        ("recipes", 400),
        ("checkpoints", 120),
        ("imports", 120),
    ],
)
def test_damaged_files_end_in_a_result_or_a_typed_error(target, count):
    done = fuzz("--target", target, "--count", count, "--first", 100_000, "--jobs", 1)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    report = json.loads(done.stdout)
    assert sum(report["kinds"].values()) == count
    assert report["kinds"].keys() <= {"result", "error"}
    assert report["kinds"]["error"] > 0


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("target", "count"), [("videos", 200), ("index_caches", 60)])
def test_damaged_videos_end_in_labels_or_a_typed_error(data_dir, target, count):
    words = ("--target", target, "--count", count, "--first", 100_000, "--jobs", 1)
    done = fuzz(*words, "--data", data_dir)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert sum(json.loads(done.stdout)["kinds"].values()) == count


@pytest.mark.slow
@pytest.mark.parametrize("target", ["annotations", "recipes"])
def test_a_search_guided_by_coverage_finds_nothing(tmp_path, target):
    pytest.importorskip("atheris", reason="atheris has no build for this system")
    command = [sys.executable, str(GUIDED), target, "--seconds", "8", "--kept", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done " in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_harness_sees_what_it_looks_for(tmp_path):
    """A target that crashes, hangs, leaks or raises what is no typed error is found out."""
    (tmp_path / "targets.py").write_text(
        """
import os, time
from dataclasses import dataclass
from kinema.errors import KinemaError

@dataclass(frozen=True)
class Originals:
    data: object
    kept: object
    work: object

HELD = []

def wrong(originals, seed):
    if seed == 0: os._exit(3)
    if seed == 1: raise KeyError("x")
    if seed == 2: raise KinemaError("no name of a file")
    if seed == 3: time.sleep(60)
    if seed == 4: return bytearray(1 << 40)
    HELD.append(open("/dev/null"))

TARGETS = {"wrong": wrong}
"""
    )
    script = RUN.read_text().replace("SECONDS = 30.0", "SECONDS = 2.0")
    (tmp_path / "run.py").write_text(script)
    command = [sys.executable, str(tmp_path / "run.py"), "--target", "wrong", "--count", "15"]
    done = subprocess.run(
        [*command, "--jobs", "1", "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    found = {entry["number"]: entry["kind"] for entry in json.loads(done.stdout)["findings"]}
    assert found[0] == "crash"
    assert found[1] == "untyped"
    assert found[2] == "nameless"
    assert found[3] == "hang"
    assert found[4] == "untyped"  # MemoryError
    assert "leak" in found.values()
