"""Watchdog: ends the processes of a job when the process that started them has ended.

Ray's agents would stay for a minute after their job was killed. The watchdog is a process that
waits for the end of its input, which comes however the job ends, and then kills every process that
has the job's mark in its environment, and their children. It runs as a program with the standard
library alone.
"""

import os
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_MARK = "KINEMA_JOB"
_PERIOD_S = 1.0  # between two looks at the processes of the job
_ROUNDS, _PAUSE_S = 100, 0.05  # a process may start another while it is looked for


@contextmanager
def watched() -> Iterator[None]:
    """Kills what processes of the block are left at its end, or when this process dies.

    On Linux; elsewhere it does nothing.
    """
    if not Path("/proc/self/environ").exists():
        yield
        return
    os.environ[_MARK] = secrets.token_hex(16)
    with subprocess.Popen(
        [sys.executable, "-I", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is not for it
    ):
        try:
            yield
        finally:
            del os.environ[_MARK]


def _marked(before: dict[int, str]) -> dict[int, str]:
    """Living processes of the job with their start times: marked, known before, or their children.

    Ray's processes overwrite their environment with a title, and only their parents are marked.
    """
    mark, own = f"{_MARK}={os.environ[_MARK]}".encode(), os.getpid()
    parents, starts, found = {}, {}, set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or belongs to another user
            number = int(folder.name)
            # The name before may contain spaces: state, parent, ... and the start in field 22.
            state, parent, *others = (folder / "stat").read_text().rpartition(") ")[2].split()
            if number == own or state == "Z":
                continue
            parents[number], starts[number] = int(parent), others[17]
            environment = (folder / "environ").read_bytes().split(b"\0")
            if before.get(number) == others[17] or mark in environment:
                found.add(number)
    while more := {number for number, parent in parents.items() if parent in found} - found:
        found |= more
    return {number: starts[number] for number in found}


def _watch() -> None:
    known: dict[int, str] = {}
    while not select.select([sys.stdin], [], [], _PERIOD_S)[0]:
        known = _marked(known)
    for _ in range(_ROUNDS):
        known = _marked(known)
        if not known:
            break
        for number in known:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        time.sleep(_PAUSE_S)


if __name__ == "__main__":
    _watch()
