"""No process of a job is left, however the job ends."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from kinema.archive.watchdog import watched

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
PARENT = """
import subprocess
print(subprocess.Popen(["sleep", "1000"], stdout=subprocess.DEVNULL).pid, flush=True)
"""
JOB = f"""
import subprocess, sys, time
from kinema.archive.watchdog import watched
with watched():
    subprocess.Popen([sys.executable, "-c", {PARENT!r}], start_new_session=True).wait()
    time.sleep(1000)
"""


def runs(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(number: int) -> None:
    until = time.monotonic() + 10
    while runs(number):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_what_is_left_is_killed_at_the_end_of_the_block():
    other = subprocess.Popen(["sleep", "1000"])
    try:
        with watched():
            left = int(subprocess.check_output([sys.executable, "-c", PARENT]))
            assert runs(left)
        wait_until_gone(left)
        assert other.poll() is None
        assert "KINEMA_JOB" not in os.environ
    finally:
        other.kill()
        other.wait()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_is_left_is_killed_when_the_job_dies(number):
    with subprocess.Popen([sys.executable, "-c", JOB], stdout=subprocess.PIPE) as job:
        try:
            left = int(job.stdout.readline())
            assert runs(left)
        finally:
            job.send_signal(number)
    wait_until_gone(left)
