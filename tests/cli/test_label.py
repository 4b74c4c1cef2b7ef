"""`kinema label` on real Ray processes, killed in the middle."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from kinema.synthetic.motion_set import MotionSettings, render_motion_set

from ..decoder_faults import with_faults

VIDEOS = 300
# Many views, so that there is time to kill something.
WORDS = ("--clips", 2, "--crops", 3, "--workers", 2, "--decoders", 1, "--file-rows", 20, "--json")
MOST_S = 240
# Ray otherwise takes a routable address, even for a cluster inside one machine.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "disabled"}
CLUSTER = """\
import sys
from ray.cluster_utils import Cluster

store = {"object_store_memory": 100_000_000}
head = {"num_cpus": 3, "include_dashboard": False, **store}
cluster = Cluster(initialize_head=True, head_node_args=head)
second = cluster.add_node(num_cpus=2, **store)
print(cluster.address, flush=True)
sys.stdin.readline()
cluster.remove_node(second, allow_graceful=False)
print("lost", flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


def damaged(content: bytes, number: int) -> bytes:
    """Empty, cut, overwritten at the start, overwritten in the middle, or no video at all."""
    half = len(content) // 2
    return (
        b"",
        content[: len(content) // 3],
        b"\0" * 200 + content[200:],
        content[:64] + b"\xff" * half + content[64 + half :],
        b"this is a note\n" * 20,
    )[number % 5]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of 300 videos, every tenth of them damaged."""
    root = tmp_path_factory.mktemp("archive")
    settings = MotionSettings(
        train_per_class=18, val_per_class=4, size_px=48, min_frames=8, max_frames=10
    )
    motion = render_motion_set(root / "motion", settings=settings, workers=0)
    videos = sorted(path.relative_to(root) for path in motion.rglob("*.mp4"))[:VIDEOS]
    for number, video in enumerate(videos[::10]):
        (root / video).write_bytes(damaged((root / video).read_bytes(), number))
    (root / "videos.txt").write_text("".join(f"{video}\n" for video in videos), encoding="utf-8")
    return root / "videos.txt"


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "kinema", "label", *map(str, words)]


@contextmanager
def started(*words: object, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command(*words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def first_imported(folder: Path) -> dict[str, str]:
    """The environment in which modules of this folder come first."""
    folders = [str(folder), os.environ.get("PYTHONPATH")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, folders))}


def finished(process: subprocess.Popen[str]) -> tuple[Any, str]:
    """The document and what stood on stderr."""
    out, err = process.communicate(timeout=MOST_S)
    assert process.returncode == 0, err
    return json.loads(out), err


def run(*words: object, **environment: str) -> Any:
    with started(*words, **environment) as process:
        document, err = finished(process)
    # Ray itself notes that its actors could not be restarted without the driver; and on a slow
    # machine the job tells its progress after a minute.
    expected = re.compile(r".*core_worker\.cc.*|labeling: \d+ of \d+")
    assert [line for line in err.splitlines() if not expected.fullmatch(line)] == []
    return document


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    until = time.monotonic() + MOST_S
    while not (answer := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.02)
    return answer


def below(process: subprocess.Popen[str], word: str = "") -> list[psutil.Process]:
    """The living processes of a job whose command line has the word."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a zombie, or gone by now
            if word in " ".join(child.cmdline()):
                found.append(child)
    return found


def named(process: subprocess.Popen[str], name: str) -> list[psutil.Process]:
    """The processes of a job that run a program."""
    return [child for child in below(process) if child.name() == name]


def is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def addresses(processes: list[psutil.Process]) -> set[str]:
    """Every address that the processes listen at or talk to."""
    found = set()
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            for link in process.net_connections(kind="inet"):
                found |= {end.ip for end in (link.laddr, link.raddr) if end}
    return found


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    rows = pq.read_table(folder).to_pylist()
    by_path = {row["path"]: row for row in rows}
    assert len(by_path) == len(rows), "a row is doubled"
    return by_path


def assert_same_rows(got: Path, wanted: Path) -> None:
    got_rows, wanted_rows = rows_of(got), rows_of(wanted)
    assert set(got_rows) == set(wanted_rows)
    for path, row in wanted_rows.items():
        other = got_rows[path]
        assert other["error"] == row["error"]
        if row["error"] is None:
            assert [entry["name"] for entry in other["top"]] == [e["name"] for e in row["top"]]
            probs = [entry["prob"] for entry in other["top"]]
            assert probs == pytest.approx([e["prob"] for e in row["top"]], abs=1e-5)


@pytest.fixture(scope="module")
def labeled(archive: Path, checkpoint: Path) -> tuple[Path, Any]:
    """The folder and the document of a job that nothing happened to."""
    out = archive.parent / "labels"
    return out, run(checkpoint, archive, "--out", out, *WORDS)


@pytest.mark.slow
def test_a_bad_file_is_a_row_with_its_error(labeled, archive):
    out, document = labeled
    assert document["videos"] == document["written"] == VIDEOS
    assert document["ok"] + document["failed"] == VIDEOS
    assert document["steady_videos_per_s"] > document["videos_per_s"] > 0
    rows = rows_of(out)
    listed = archive.read_text().splitlines()
    assert set(rows) == set(listed)
    failed = {path for path, row in rows.items() if row["error"]}
    assert len(failed) == document["failed"]
    # Where only a part in the middle is overwritten the decoder may still find its frames.
    assert failed <= set(listed[::10])
    assert len(failed) >= VIDEOS // 10 - 6
    assert all(row["top"] is None for row in rows.values() if row["error"])
    assert all(
        row["error"].startswith(str(archive.parent)) for row in rows.values() if row["error"]
    )


@pytest.mark.slow
def test_killed_workers_change_no_row(labeled, archive, checkpoint, tmp_path):
    out = tmp_path / "labels"
    with started(checkpoint, archive, "--out", out, *WORDS) as process:
        for kind in ("kinema.decoders.worker", "DecodeStage)).submit"):
            wait_for(lambda kind=kind: below(process, kind), process)[-1].kill()
        for files in (1, 3):
            wait_for(lambda files=files: len(list(out.glob("*.parquet"))) >= files, process)
            below(process, "LabelStage")[0].kill()
        open_to = addresses(below(process))
        document, _ = finished(process)
    assert (document["videos"], document["written"]) == (VIDEOS, VIDEOS)
    assert open_to <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert_same_rows(out, labeled[0])


@pytest.mark.slow
def test_a_killed_job_goes_on_where_it_was(labeled, archive, checkpoint, tmp_path):
    out = tmp_path / "labels"
    words = (checkpoint, archive, "--out", out, *WORDS)
    with started(*words) as process:
        wait_for(lambda: len(list(out.glob("*.parquet"))) >= 3, process)
        everything = below(process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    until = time.monotonic() + 10
    while left := [child for child in everything if is_alive(child)]:
        assert time.monotonic() < until, f"processes of the killed job are left: {left}"
        time.sleep(0.1)
    before = len(rows_of(out))
    assert 0 < before < VIDEOS
    document = run(*words)
    assert document["videos"] == VIDEOS
    assert document["written"] == VIDEOS - before
    assert_same_rows(out, labeled[0])
    again = run(*words)
    assert (again["written"], again["videos"]) == (0, VIDEOS)


@pytest.mark.slow
def test_failed_videos_are_tried_again_when_asked(labeled, archive, checkpoint, tmp_path):
    """Two that failed stand in the list: one is mended now, and one is not."""
    out, before = tmp_path / "labels", rows_of(labeled[0])
    shutil.copytree(labeled[0], out)
    good = next(path for path, row in before.items() if not row["error"])
    mended, bad = [path for path, row in before.items() if row["error"]][:2]
    for path, source in ((good, good), (mended, good), (bad, bad)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes((archive.parent / source).read_bytes())
    some = tmp_path / "some.txt"
    some.write_text(f"{good}\n{mended}\n{bad}\n", encoding="utf-8")
    document = run(checkpoint, some, "--out", out, *WORDS, "--retry-failed")
    assert (document["ok"], document["failed"], document["written"]) == (2, 1, 2)
    after = rows_of(out)
    assert after.keys() == before.keys()
    assert after[mended]["top"] == before[good]["top"]
    assert after[bad]["error"]
    assert {p for p in after if after[p] != before[p]} <= {mended, bad}


@pytest.mark.slow
def test_videos_that_end_their_decoder_cost_themselves(archive, checkpoint, tmp_path):
    good = (archive.parent / archive.read_text().splitlines()[1]).read_bytes()
    for name in ("crash", "hang", *map(str, range(20))):
        (tmp_path / f"{name}.mp4").write_bytes(good)
    faults = tmp_path / "faults"
    faults.mkdir()
    words = ("--decode-seconds", 10, "--out", tmp_path / "out", "--workers", 1, "--json")
    document = run(checkpoint, tmp_path, *words, **first_imported(with_faults(faults)))
    rows = rows_of(tmp_path / "out")
    errors = {name: row["error"] for name, row in rows.items() if row["error"]}
    assert errors.keys() == {"crash.mp4", "hang.mp4"}, errors
    assert (document["ok"], document["failed"]) == (20, 2)
    assert "in 2 attempts: The decoder was ended by SIGSEGV" in errors["crash.mp4"]
    assert "in 2 attempts: Decoding takes more than 10 s" in errors["hang.mp4"]


@pytest.mark.slow
def test_decoding_waits_for_the_network(archive, checkpoint, tmp_path):
    """The clips of all videos are twice the store; without back-pressure Ray spills to disk."""
    some = archive.with_name("some.txt")
    some.write_text("\n".join(archive.read_text().splitlines()[:140]) + "\n", encoding="utf-8")
    many = ("--clips", 10, "--crops", 10)
    words = ("--out", tmp_path, *WORDS, *many, "--store-mb", 80, "--workers", 1)
    with started(checkpoint, some, *words) as process:
        document, _ = finished(process)
    assert document["videos"] == 140
    (session,) = Path("/tmp/ray").glob(f"session_*_{process.pid}")
    assert "Spilled" not in (session / "logs" / "raylet.out").read_text()


@contextmanager
def two_machines() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Ray's own stand-in for a cluster; a line to it and the second machine is lost."""
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | LOOPBACK,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process
    finally:
        process.communicate("\n\n")


@pytest.mark.slow
def test_a_lost_machine_of_a_cluster_changes_no_row(labeled, archive, checkpoint, tmp_path):
    out = tmp_path / "labels"
    with two_machines() as (address, cluster):
        words = ("--address", address, "--out", out, *WORDS, "--decoders", 2)
        with started(checkpoint, archive, *words, **LOOPBACK) as process:
            wait_for(lambda: len(list(out.glob("*.parquet"))) > 1, process)
            before = {child.pid for child in below(cluster, "Stage")}
            cluster.stdin.write("\n")
            cluster.stdin.flush()
            assert cluster.stdout.readline() == "lost\n"
            lost = before - {child.pid for child in below(cluster, "Stage")}
            document, _ = finished(process)
    assert lost, "the second machine had no part in it"
    assert document["written"] == VIDEOS
    assert_same_rows(out, labeled[0])


def test_what_is_wrong_is_said_before_ray_starts(kinema, checkpoint, color_set, tmp_path):
    out = tmp_path / "labels"
    answer = kinema("label", tmp_path, color_set, "--out", out)
    assert answer.code == 1
    assert "is not a kinema checkpoint" in answer.err
    answer = kinema("label", checkpoint, tmp_path / "gone.txt", "--out", out)
    assert answer.code == 1
    assert "gone.txt does not exist" in answer.err
    answer = kinema("label", checkpoint, color_set, "--out", color_set)
    assert answer.code == 1
    assert "holds no labels" in answer.err
    answer = kinema("label", checkpoint, color_set, "--out", out, "--crops", 2)
    assert answer.code == 1
    assert "crops must be 1, 3 or 10, got 2" in answer.err
    assert not out.exists()


@pytest.mark.slow
def test_a_fault_of_the_machine_is_no_fault_of_the_videos(checkpoint, color_set, tmp_path):
    fault = "import os, sys\nif 'kinema.decoders.worker' in sys.orig_argv: os._exit(3)\n"
    (tmp_path / "sitecustomize.py").write_text(fault)
    out = tmp_path / "labels"
    with started(checkpoint, color_set, "--out", out, **first_imported(tmp_path)) as process:
        _, said = process.communicate(timeout=MOST_S)
    assert process.returncode == 1
    assert "The job stopped: kinema.errors.ClusterError: No decoder can be started here" in said
    assert "start it again to resume" in said
    assert list(out.glob("*.parquet")) == []


@pytest.mark.slow
def test_an_address_where_nothing_listens(checkpoint, color_set, tmp_path):
    words = (checkpoint, color_set, "--out", tmp_path, "--address", "127.0.0.1:1")
    answer = subprocess.run(command(*words), capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert "Error: Ray at 127.0.0.1:1 cannot be reached: Connection refused. " in answer.stderr
    assert "Check that it runs there (ray status --address 127.0.0.1:1)" in answer.stderr


@pytest.mark.slow
def test_ray_that_does_not_start_in_time(checkpoint, color_set, tmp_path):
    """Its main process is stopped as soon as it is there."""
    with started(checkpoint, color_set, "--out", tmp_path / "labels") as process:
        (raylet, *_) = wait_for(lambda: named(process, "raylet"), process)
        raylet.suspend()
        everything = below(process)
        _, said = process.communicate(timeout=MOST_S)
    assert process.returncode == 1
    assert "Error: Ray did not start on this machine: The current node timed out" in said
    assert "Check that there is memory left, that /dev/shm and " in said
    assert "Traceback" not in said
    until = time.monotonic() + 10
    while left := [child for child in everything if is_alive(child)]:
        assert time.monotonic() < until, f"processes are left: {left}"
        time.sleep(0.1)
