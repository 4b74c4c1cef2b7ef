"""The scores of windows: runs of neighbors on the grid, in batches through the network.

Letters: T frames of a window, B windows of a batch, N frames of a batch, C channels, H, W,
K classes.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle, islice
from typing import TypeVar

import torch

from kinema.data.transforms import normalize
from kinema.errors import OptionError
from kinema.inference.predict import ClipRecognizer

Run = Callable[[torch.Tensor], torch.Tensor]
Item = TypeVar("Item")


def count_windows(count: int, frames: int, hop: int) -> int:
    """How many runs `runs` makes."""
    return 1 + max(0, -((frames - count) // hop))


def runs(items: Iterable[Item], length: int, hop: int) -> Iterator[list[Item]]:
    """Every `hop`th run of `length` neighbors; the last one ends at the end.

    Fewer items than `length` begin again, as in `DenseSampling`.
    """
    newest: deque[Item] = deque(maxlen=length)
    count = covered = 0
    for count, item in enumerate(items, 1):
        newest.append(item)
        if count >= length and (count - length) % hop == 0:
            covered = count
            yield list(newest)
    if covered < count:
        yield list(islice(cycle(newest), length))


def scored(
    recognizer: ClipRecognizer,
    frames: Iterator[torch.Tensor],
    hop: int,
    *,
    stream: bool,
    batch: int,
) -> Iterator[torch.Tensor]:
    """The scores (K,) of each window.

    Where a frame's scores do not need the other frames of its window, they are computed once.

    Args:
        recognizer: The network.
        frames: The frames of the grid, (3, H, W) uint8 RGB each.
        hop: Places of the grid from window to window.
        stream: Whether frame by frame with the memory of a causal network.
        batch: Windows of one pass through the network.

    Raises:
        OptionError: frame by frame is wanted, but the network looks ahead or was made fast.
    """
    length = recognizer.net.frames
    run = _frame_run(recognizer, stream=stream)
    if run is not None:
        scores = _in_batches(run, recognizer, frames, batch * length)
        return (torch.stack(window).mean(0) for window in runs(scores, length, hop))
    clips = (torch.stack(window) for window in runs(frames, length, hop))
    return _in_batches(recognizer.score, recognizer, clips, batch)


def _frame_run(recognizer: ClipRecognizer, *, stream: bool) -> Run | None:
    """What scores single frames (N, 3, H, W) -> (N, K), if the network can do that.

    A network that was made fast scores clips, and is taken as it is.

    Raises:
        OptionError: frame by frame is wanted, but the network looks ahead or was made fast.
    """
    net = recognizer.net
    if stream and recognizer.score is not net:
        raise OptionError("A network that was made fast scores clips: choose stream or fast.")
    if stream:
        step = net.streaming()
        return lambda frames_NCHW: step(frames_NCHW.unsqueeze(0))[0]
    alone = net.reach.receptive_field == 1 and net.facts.frame_stride == 1
    if alone and recognizer.score is net:
        return lambda frames_NCHW: net.frame_scores(frames_NCHW.unsqueeze(1))[:, 0]
    return None


def _in_batches(
    run: Run, recognizer: ClipRecognizer, items: Iterator[torch.Tensor], size: int
) -> Iterator[torch.Tensor]:
    """The scores (K,) of each uint8 item.

    The last batch is filled up with zeros: kernels may round differently for another size.
    """
    how = recognizer.preprocessing
    while block := list(islice(items, size)):
        filling = [torch.zeros_like(block[0])] * (size - len(block))
        batch = torch.stack(block + filling).to(recognizer.device)
        with torch.inference_mode():
            scores = run(normalize(batch, how.mean, how.std)).float().cpu()
        yield from scores[: len(block)]
