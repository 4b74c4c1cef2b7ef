"""The number of threads follows the cores that are free, or the run that is continued."""

import json
import logging
import os
import subprocess
import sys

import pytest
import torch

from kinema.system import threads
from kinema.system.threads import choose_threads, free_cores


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch):
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def busy(monkeypatch, tmp_path):
    """Sets how many of two cores are idle, as the system counts them."""
    stat = tmp_path / "stat"
    monkeypatch.setattr(threads, "_STAT", stat)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 3})

    def idle(*shares: float) -> None:
        counts = iter((0, 100))

        def sleep(_: float) -> None:
            write(next(counts))

        def write(ticks: int) -> None:
            rows = [
                f"cpu{core} {ticks - round(ticks * share)} 0 0 {round(ticks * share)} 0 0 0 0 0 0"
                for core, share in zip((0, 3), shares, strict=True)
            ]
            stat.write_text("\n".join(["cpu 1 2 3 4", *rows, "cpu7 0 0 0 9 0 0 0 0 0 0", ""]))

        write(next(counts))
        monkeypatch.setattr("time.sleep", sleep)

    return idle


@pytest.mark.parametrize(
    ("idle", "count"), [((1, 1), 2), ((0.9, 0.8), 2), ((0.5, 0.5), 1), ((0, 0.1), 1), ((0, 0), 1)]
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes")
def test_threads_are_the_free_cores(busy, idle, count, tmp_path, caplog):
    caplog.set_level(logging.INFO, "kinema")
    busy(*idle)
    choose_threads(tmp_path / "run.json")
    assert torch.get_num_threads() == count
    said = "Other programs use the cores: computing with 1 of 2 threads. OMP_NUM_THREADS"
    assert (said in caplog.text) == (count == 1)


def test_an_environment_variable_is_a_choice(busy, monkeypatch, tmp_path):
    busy(0, 0)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    choose_threads(tmp_path / "run.json")
    assert torch.get_num_threads() == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes")
def test_a_run_keeps_its_number(busy, tmp_path):
    busy(0, 0)
    facts = tmp_path / "run.json"
    facts.write_text(json.dumps({"machine": {"threads": 2}}))
    choose_threads(facts)
    assert torch.get_num_threads() == 2
    facts.write_text("{")
    choose_threads(facts)
    assert torch.get_num_threads() == 1


def test_without_counts_all_cores_count_as_free(monkeypatch, tmp_path):
    monkeypatch.setattr(threads, "_STAT", tmp_path / "gone")
    assert free_cores(7) == 7


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/stat is Linux's")
def test_a_busy_process_takes_its_core():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        found = free_cores(99)
        other.kill()
    assert found <= len(os.sched_getaffinity(0)) - 0.5
