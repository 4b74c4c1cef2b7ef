"""The process that forks decoders, seen from the server."""

import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict

from kinema.decoders import wire
from kinema.decoders.jobs import DecoderCaps
from kinema.system.closing import Closing

# Importing PyTorch on a busy machine; a fork takes milliseconds.
_START_S = 120.0


class DecoderParent(Closing):
    """Forks decoders; its process is started at the latest when needed, and again if it dies."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._has_decoders = False
        self._closed = False

    def start(self) -> None:
        """Begins to start the process; importing PyTorch takes it some seconds."""
        with self._lock:
            self._started()

    def fork(self, caps: DecoderCaps) -> tuple[int, socket.socket]:
        """A new decoder: its process, and the channel to it.

        Raises:
            OSError: no process could be started.
        """
        ours, theirs = socket.socketpair()
        with self._lock, theirs:
            try:
                control = self._started()
                wire.send(control, {"do": "fork", "caps": asdict(caps)})
                socket.send_fds(control, [b"1"], [theirs.fileno()])
                pid = int(wire.receive(control, most_bytes=0).facts["pid"])
                self._has_decoders = True
            except (OSError, EOFError) as error:
                ours.close()
                self._stop()
                raise OSError("No decoder process could be started.") from error
        return pid, ours

    def end(self, pid: int) -> int | None:
        """Kills a decoder that is still alive; its exit code, None if it is not known."""
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
        """Ends it and all decoders."""
        with self._lock:
            self._closed = True
            self._stop()

    def _started(self) -> socket.socket:
        if self._closed:
            raise OSError("The server stops.")
        if self._control is not None:
            return self._control
        ours, theirs = socket.socketpair()
        ours.settimeout(_START_S)
        with theirs:
            # A group of its own: Ctrl-C is for the server. One thread: a fork copies only one.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "kinema.decoders.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=_environment(),
            )
        self._control = ours
        return ours

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            if self._has_decoders:  # it ends them, also those that hang
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(5)
            self._process.kill()
            self._process.wait()
        self._control = self._process = None
        self._has_decoders = False


def _environment() -> dict[str, str]:
    """What Python needs; keys and tokens of the server are not for decoders."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in ("HOME", "LANG", "PATH", "TMPDIR") or name.startswith(("LC_", "LD_", "PYTHON"))
    }
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**kept, **one, "CUDA_VISIBLE_DEVICES": ""}
