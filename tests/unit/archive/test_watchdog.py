"""No process of a job is left, however the job ends."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from kinema.archive.watchdog import watched

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
SLEEPER = "import subprocess, sys; subprocess.Popen(['sleep', '1000']); print(1, flush=True)"
JOB = f"""
import subprocess, sys, time
from kinema.archive.watchdog import watched
with watched():
    subprocess.Popen([sys.executable, "-c", {SLEEPER!r}], start_new_session=True).wait()
    time.sleep(1000)
"""


def sleepers() -> set[int]:
    found = set()
    for process in psutil.process_iter(["pid", "cmdline"]):
        with suppress(psutil.NoSuchProcess):
            if process.info["cmdline"] == ["sleep", "1000"]:
                found.add(process.info["pid"])
    return found


def wait_until_gone(numbers: set[int]) -> None:
    until = time.monotonic() + 10
    while numbers & sleepers():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_what_is_left_is_killed_at_the_end_of_the_block():
    other = subprocess.Popen(["sleep", "1000"])
    before = sleepers()
    try:
        with watched():
            subprocess.run([sys.executable, "-c", SLEEPER], check=True, capture_output=False)
            left = sleepers() - before
            assert len(left) == 1
        wait_until_gone(left)
        assert other.poll() is None
        assert "KINEMA_JOB" not in os.environ
    finally:
        other.kill()
        other.wait()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_is_left_is_killed_when_the_job_dies(number):
    before = sleepers()
    with subprocess.Popen([sys.executable, "-c", JOB], stdout=subprocess.PIPE) as job:
        assert job.stdout.readline() == b"1\n"
        left = sleepers() - before
        assert len(left) == 1
        job.send_signal(number)
    wait_until_gone(left)
