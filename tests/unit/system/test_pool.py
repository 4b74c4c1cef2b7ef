"""Work in several processes: order, this process for none, and workers that are killed."""

import os
import signal

import pytest

from kinema.errors import KinemaError
from kinema.system.pool import map_in_processes


def process_of(item: int, _: str) -> tuple[int, int]:
    return item, os.getpid()


def killed(item: int) -> int:
    if item == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_without_workers_this_process_does_the_work():
    done = list(map_in_processes(process_of, [3, 1, 2], "shared", workers=0))
    assert done == [(item, os.getpid()) for item in (3, 1, 2)]


@pytest.mark.slow
def test_workers_keep_the_order():
    done = list(map_in_processes(process_of, range(6), "shared", workers=2))
    assert [item for item, _ in done] == list(range(6))
    assert os.getpid() not in {process for _, process in done}


@pytest.mark.slow
def test_a_killed_worker_is_an_error_with_the_fix():
    with pytest.raises(KinemaError, match="worker process was killed.*fewer workers"):
        list(map_in_processes(killed, range(4), workers=1))
