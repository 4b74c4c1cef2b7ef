"""Views of videos that may be broken in any way: no file can end or hold up the caller.

Letters: V views, T frames, H, W.
"""

import json
import math
import mmap
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kinema.errors import ClusterError, OptionError, UnreadableVideoError
from kinema.system.closing import Closing
from kinema.values import Preprocessing, Views

# A video that ends its decoder is tried again: the cause may have been the machine.
ATTEMPTS = 2
# The first line of a process.
READY = b"ready\n"


@dataclass(frozen=True)
class DecodeOrder:
    """What a decoder makes of every video, and what it may use.

    Attributes:
        preprocessing: How a video becomes clips.
        clips: Clips of each video.
        crops: Crops of each clip.
        seconds: Time for one video; the kernel ends the decoder after it.
        memory_mb: Memory on top of what the process has at its start.

    Raises:
        OptionError: a number is out of its range.
    """

    preprocessing: Preprocessing
    clips: int
    crops: int
    seconds: int = 60
    memory_mb: int = 2048

    def __post_init__(self) -> None:
        Views(clips=self.clips, crops=self.crops)
        if self.seconds < 1 or self.memory_mb < 1:
            raise OptionError(
                "A decoder needs at least 1 second and 1 MB, got "
                f"{self.seconds} s and {self.memory_mb} MB."
            )

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """(V, T, 3, H, W) of the views of one video."""
        how = self.preprocessing
        return self.clips * self.crops, how.frames, 3, how.crop_px, how.crop_px

    @property
    def most_s(self) -> int:
        """The longest that one video can take."""
        return ATTEMPTS * self.seconds

    def text(self) -> str:
        """The command-line form."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Reads the command-line form."""
        facts = json.loads(text)
        how = Preprocessing.from_dict(facts.pop("preprocessing"), source="the order")
        return cls(preprocessing=how, **facts)


class IsolatedDecoder(Closing):
    """Decodes in a process of its own, which is replaced when a video ends it.

    Args:
        order: What is wanted of every video.
    """

    def __init__(self, order: DecodeOrder) -> None:
        self._order = order
        self._shared = tempfile.TemporaryFile(prefix="kinema_views_")  # noqa: SIM115
        self._shared.truncate(math.prod(self._order.shape))
        self._map = mmap.mmap(self._shared.fileno(), 0)
        self._process: subprocess.Popen[bytes] | None = self._started()
        self._is_ready = False

    def read(self, path: Path) -> NDArray[np.uint8]:
        """The views of one video.

        Returns:
            (V, T, 3, H, W) uint8 RGB, of which the next call overwrites the memory.

        Raises:
            ClusterError: no decoder can be started.
            UnreadableVideoError: it cannot be read, or ended its decoder twice; the message says
                how.
        """
        died = ""
        for _ in range(ATTEMPTS):
            answer = self._ask(path)
            if "error" in answer:
                raise UnreadableVideoError(answer["error"])
            if "died" not in answer:
                return np.frombuffer(self._map, np.uint8).reshape(self._order.shape)
            died = self._way(answer["died"])
        raise UnreadableVideoError(f"{path} cannot be read: {died}, {ATTEMPTS} times.")

    def close(self) -> None:
        """Ends the process."""
        self._end()
        self._shared.close()

    def _ask(self, path: Path) -> dict[str, Any]:
        """What the process says of a path."""
        process = self._ready()
        assert process.stdin is not None, "it is a pipe"
        try:
            process.stdin.write(json.dumps(str(path)).encode() + b"\n")
            process.stdin.flush()
            line = _line(process)
        except BrokenPipeError:
            line = b""
        if not line.endswith(b"\n"):  # parent and decoder were killed together
            return {"died": self._end()}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ready(self) -> subprocess.Popen[bytes]:
        """The process, once it has said that it can work; what keeps it from that is no video."""
        code = 0
        for _ in range(ATTEMPTS):
            process = self._process = self._process or self._started()
            self._is_ready = self._is_ready or _line(process) == READY
            if self._is_ready:
                return process
            code = self._end()
        raise ClusterError(
            f"No decoder can be started here: it ends with exit code {code}. Its own words are on "
            "stderr, or in Ray's log of this worker."
        )

    def _end(self) -> int:
        """The exit code of the process, whose input ends."""
        process, self._process, self._is_ready = self._process, None, False
        if process is None:
            return 0
        process.communicate()
        return process.returncode

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "kinema.decoders.isolated_process"),
                *(self._order.text(), str(self._shared.fileno())),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[self._shared.fileno()],
        )

    def _way(self, code: int) -> str:
        """How a decoder ended, in words."""
        if code == -signal.SIGALRM:
            return f"decoding took more than {self._order.seconds} s"
        if code < 0:
            return f"the decoder was ended by {signal.Signals(-code).name}"
        return f"the decoder ended with exit code {code}"


def _line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None, "it is a pipe"
    return process.stdout.readline()
