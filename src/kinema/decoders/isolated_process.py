"""A process that decodes videos and may die of them; `IsolatedDecoder` is its other side.

`python -m kinema.decoders.isolated_process ORDER` forks a decoder, which reads paths from stdin, one
JSON string per line, and says on stdout what became of each. The clips themselves go through a
file that both sides have mapped, so that no message is ever cut in the middle. When a decoder dies
its parent says so in its place and forks the next one, which takes milliseconds because all
imports are done.

Letters: V views, T frames, H, W.
"""

import json
import mmap
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kinema.data.sampling import sampling_of
from kinema.data.transforms import ViewTransform
from kinema.decoders.isolated import READY, DecodeOrder
from kinema.errors import KinemaError
from kinema.system.process import bound_memory
from kinema.values import Views
from kinema.video.decode import open_source


def main(order: DecodeOrder, shared: int) -> None:
    """Keeps one decoder alive until stdin ends.

    Args:
        order: For every video.
        shared: Descriptor of the file for the views.
    """
    torch.set_num_threads(1)
    answers = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no answer
    os.write(answers, READY)
    while True:
        pid = os.fork()
        if pid == 0:
            _decode(order, shared, answers)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == 0:
            return
        try:
            _say(answers, {"died": code})
        except BrokenPipeError:
            return


def _decode(order: DecodeOrder, shared: int, answers: int) -> None:
    """The life of a decoder; never returns."""
    code = 1
    try:
        _confine(order)
        views_VTCHW = np.frombuffer(mmap.mmap(shared, 0), np.uint8).reshape(order.shape)
        with open(0, "rb", closefd=False) as requests:
            for line in requests:
                signal.alarm(order.seconds)  # its default action ends the process, also in C code
                answer = _answer(Path(json.loads(line)), order, views_VTCHW)
                signal.alarm(0)
                _say(answers, answer)
        code = 0
    except BrokenPipeError:
        code = 0
    finally:
        os._exit(code)  # nothing of the parent's is to be cleaned up here


def _confine(order: DecodeOrder) -> None:
    """Limits memory and leaves no core files; SIGALRM is to end the process."""
    bound_memory(order.memory_mb * 2**20)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _answer(path: Path, order: DecodeOrder, views_VTCHW: NDArray[np.uint8]) -> dict[str, Any]:
    """Fills the views, or says why there are none."""
    try:
        _read_views(path, order, views_VTCHW)
    except KinemaError as error:
        return {"error": str(error)}
    except Exception as error:  # the outer skin: a video that meets a fault costs one row
        return {"error": f"{path} cannot be read: {type(error).__name__}: {error}."}
    return {}


def _read_views(path: Path, order: DecodeOrder, views_VTCHW: NDArray[np.uint8]) -> None:
    """One clip at a time is in memory."""
    transform = ViewTransform(order.preprocessing, Views(clips=order.clips, crops=order.crops))
    with open_source(path) as source:
        chosen = sampling_of(order.preprocessing).test(source.info.frames, order.clips)
        for number, frame_indices in enumerate(chosen):
            crops_XTCHW = transform(source.read(frame_indices))
            first = number * order.crops
            views_VTCHW[first : first + order.crops] = crops_XTCHW.numpy()


def _say(answers: int, answer: dict[str, Any]) -> None:
    left = json.dumps(answer).encode() + b"\n"
    while left:
        left = left[os.write(answers, left) :]


if __name__ == "__main__":
    main(DecodeOrder.from_text(sys.argv[1]), int(sys.argv[2]))
    os._exit(0)  # Python would take its time to unload PyTorch
