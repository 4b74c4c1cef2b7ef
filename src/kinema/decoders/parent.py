"""Handle on the process that forks decoders (see `kinema.decoders.worker`)."""

import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict

from kinema.decoders import wire
from kinema.decoders.jobs import DecoderCaps
from kinema.errors import ClusterError
from kinema.system.closing import Closing

# Importing PyTorch takes seconds, on a busy machine many of them; a fork takes milliseconds.
_START_S = 120.0
# A process that was killed while idle is noticed only when it is asked; then a new one is started.
_ATTEMPTS = 2


class DecoderParent(Closing):
    """Forks decoders in a process of its own, started on demand and again if it dies.

    Thread-safe: one request is on its way to the process at a time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._has_decoders = False
        self._closed = False

    def start(self) -> None:
        """Starts the process without waiting for its imports."""
        with self._lock:
            self._ensure_started()

    def fork(self, caps: DecoderCaps) -> tuple[int, socket.socket]:
        """Forks a decoder; returns its process id and the channel to it.

        Raises:
            ClusterError: no decoder can be started on this machine.
        """
        reason = ""
        with self._lock:
            for _ in range(_ATTEMPTS):
                ours, theirs = socket.socketpair()
                with theirs:
                    try:
                        return self._request_fork(caps, theirs), ours
                    except (OSError, EOFError) as error:
                        ours.close()
                        code = self._stop()
                        reason = f"its process ends with exit code {code}"
                        if isinstance(error, TimeoutError):  # a second wait would not help
                            reason = f"its process does not answer within {_START_S:g} s"
                            break
        raise ClusterError(
            f"No decoder can be started here: {reason}. The process writes the cause to stderr, "
            "which for Ray is the log of this worker."
        )

    def end(self, pid: int) -> int | None:
        """Kills a decoder if it is still alive; returns its exit code, None if unknown."""
        with self._lock:
            if self._control is None:
                return None
            try:
                wire.send(self._control, {"do": "end", "pid": pid})
                status: int | None = wire.receive(self._control, most_bytes=0).facts["status"]
                return status
            except (OSError, EOFError):
                self._stop()
                return None

    def close(self) -> None:
        """Ends the process and all decoders."""
        with self._lock:
            self._closed = True
            self._stop()

    def _request_fork(self, caps: DecoderCaps, channel: socket.socket) -> int:
        control = self._ensure_started()
        wire.send(control, {"do": "fork", "caps": asdict(caps)})
        socket.send_fds(control, [b"1"], [channel.fileno()])
        pid = int(wire.receive(control, most_bytes=0).facts["pid"])
        self._has_decoders = True
        return pid

    def _ensure_started(self) -> socket.socket:
        if self._closed:
            raise ClusterError("The decoders have been stopped.")
        if self._control is not None:
            return self._control
        ours, theirs = socket.socketpair()
        ours.settimeout(_START_S)
        with theirs:
            # A session of its own, because Ctrl-C is for the caller. One thread, because a fork
            # copies only the thread that calls it.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "kinema.decoders.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=_environment(),
            )
        self._control = ours
        return ours

    def _stop(self) -> int | None:
        """Ends the process; returns its exit code."""
        code = None
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            if self._has_decoders:  # give it time to kill them, even those that hang
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(5)
            self._process.kill()
            code = self._process.wait()
        self._control = self._process = None
        self._has_decoders = False
        return code


def _environment() -> dict[str, str]:
    """Variables that Python needs; API keys and tokens of the caller are not for decoders."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in ("HOME", "LANG", "PATH", "TMPDIR") or name.startswith(("LC_", "LD_", "PYTHON"))
    }
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**kept, **one, "CUDA_VISIBLE_DEVICES": ""}
