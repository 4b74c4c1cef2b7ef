"""Scores sliding windows over the grid, in batches.

Letters: T frames of a window, B windows of a batch, N frames of a batch, C channels, H, W,
K classes.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import cycle, islice
from typing import TypeVar

import torch

from kinema.data.transforms import normalize
from kinema.errors import OptionError
from kinema.inference.predict import ClipRecognizer
from kinema.models.network import Run

Item = TypeVar("Item")


def count_windows(count: int, frames: int, hop: int) -> int:
    """Number of windows that `sliding_windows` yields."""
    return 1 + max(0, -((frames - count) // hop))


def sliding_windows(items: Iterable[Item], length: int, hop: int) -> Iterator[list[Item]]:
    """Yields windows of `length` items, one every `hop` items; the last one ends at the end.

    Fewer items than `length` are repeated from the start, as in `DenseSampling`.
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


def score_windows(
    recognizer: ClipRecognizer,
    frames: Iterator[torch.Tensor],
    hop: int,
    *,
    stream: bool,
    batch: int,
) -> Iterator[torch.Tensor]:
    """Yields the scores (K,) of each window.

    If the scores of a frame do not depend on other frames of its window, overlapping windows share
    them.

    Args:
        recognizer: The network.
        frames: Frames of the grid, (3, H, W) uint8 RGB each, or snippets (S, 3, H, W).
        hop: Grid frames from one window to the next.
        stream: Runs a causal network frame by frame with its memory.
        batch: Windows per forward pass.

    Raises:
        OptionError: `stream` with a network that looks ahead or was loaded with `fast`.
    """
    length = recognizer.net.frames
    run = _frame_run(recognizer, stream=stream)
    if run is not None:
        scores = _in_batches(run, recognizer, frames, batch * length)
        return (torch.stack(window).mean(0) for window in sliding_windows(scores, length, hop))
    # With snippets every frame of the grid comes with its neighbors, (S, 3, H, W).
    join = torch.stack if recognizer.net.snippet == 1 else torch.cat
    clips = (join(window) for window in sliding_windows(frames, length, hop))
    return _in_batches(recognizer.score, recognizer, clips, batch)


def _frame_run(recognizer: ClipRecognizer, *, stream: bool) -> Run | None:
    """Function that scores single frames, (N, 3, H, W) -> (N, K); None if windows are needed.

    Raises:
        OptionError: `stream` with a network that looks ahead or was loaded with `fast`.
    """
    net = recognizer.net
    if stream and recognizer.score is not net:
        raise OptionError("A fast network scores whole clips: choose stream or fast.")
    if stream:
        step = net.streaming()
        return lambda frames_NCHW: step(frames_NCHW.unsqueeze(0))[0]
    # Without temporal mixing a frame scores the same in every window. The fast form takes clips.
    alone = net.reach.receptive_field == 1 and net.facts.frame_stride == 1 and net.snippet == 1
    if alone and recognizer.score is net:
        return lambda frames_NCHW: net.frame_scores(frames_NCHW.unsqueeze(1))[:, 0]
    return None


def _in_batches(
    run: Run, recognizer: ClipRecognizer, items: Iterator[torch.Tensor], size: int
) -> Iterator[torch.Tensor]:
    """Yields the scores (K,) of each uint8 item."""
    preprocessing = recognizer.preprocessing
    while block := list(islice(items, size)):
        # Pad the last batch: kernels may round differently for another batch size.
        padding = [torch.zeros_like(block[0])] * (size - len(block))
        batch = torch.stack(block + padding).to(recognizer.device)
        with torch.inference_mode():
            scores = run(normalize(batch, preprocessing.mean, preprocessing.std)).float().cpu()
        yield from scores[: len(block)]
