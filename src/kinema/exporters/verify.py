"""Verification of an exported file: agreement of scores with the network, and speed.

Letters: B clips, T frames, H, W, K classes.
"""

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from kinema.inference.graph import Call, Graph
from kinema.models.network import VideoNetwork

# Alternating timed runs of network and file; the medians count.
RUNS = 5


@dataclass(frozen=True)
class Verification:
    """Comparison of a file with its network.

    Attributes:
        clips: Number of compared clips, or frames of a stream.
        max_abs_diff: Maximum difference of a score.
        max_rel_diff: The same relative to the network's largest score.
        top1_agreement: Fraction of clips with the same top-1 class.
        speedup: Time of the network (PyTorch, float32, channels_last) over that of the file.
    """

    clips: int
    max_abs_diff: float
    max_rel_diff: float
    top1_agreement: float
    speedup: float


def verify_clips(call: Call, net: VideoNetwork, clips_BTCHW: torch.Tensor) -> Verification:
    """Compares all clips, one by one and as a batch: a file must not depend on the batch size."""
    net, clips_BTCHW = _as_exported(net), clips_BTCHW.cpu().float()
    with torch.inference_mode():
        wanted_BK = net(clips_BTCHW)
        (got_BK,) = call(clips_BTCHW)
        single_BK = torch.cat([call(clip[None])[0] for clip in clips_BTCHW])
        speedup = _speedup(lambda: net(clips_BTCHW), lambda: call(clips_BTCHW))
    wanted = torch.cat([wanted_BK, wanted_BK])
    return _compared(torch.cat([got_BK, single_BK]), wanted, len(clips_BTCHW), speedup)


def verify_stream(
    call: Call, net: VideoNetwork, graph: Graph, frames_BTCHW: torch.Tensor
) -> Verification:
    """Compares every frame of a video, feeding the state back; counts frames as clips."""
    net, frames_BTCHW = _as_exported(net), frames_BTCHW.cpu().float()
    shapes = graph.shapes[1:]
    zeros = tuple(torch.zeros([int(side) for side in shape]) for shape in shapes)
    step, state, got, wanted = net.streaming(batch=len(frames_BTCHW)), zeros, [], []
    with torch.inference_mode():
        for frames_BCHW in frames_BTCHW.unbind(1):
            scores_BK, *following = call(frames_BCHW, *state)
            state = tuple(following)
            got.append(scores_BK)
            wanted.append(step(frames_BCHW))
        first_BCHW = frames_BTCHW[:, 0]
        speedup = _speedup(lambda: step(first_BCHW), lambda: call(first_BCHW, *state))
    return _compared(torch.cat(got), torch.cat(wanted), frames_BTCHW.shape[1], speedup)


def _as_exported(net: VideoNetwork) -> VideoNetwork:
    """Returns the network in float32 on the CPU, as exported; a copy only if needed."""
    if all(w.device.type == "cpu" and w.dtype == torch.float32 for w in net.parameters()):
        return net
    return copy.deepcopy(net).cpu().float()


def _compared(
    got_BK: torch.Tensor, wanted_BK: torch.Tensor, clips: int, speedup: float
) -> Verification:
    difference, largest = (float(v.abs().max()) for v in (got_BK - wanted_BK, wanted_BK))
    return Verification(
        clips=clips,
        max_abs_diff=difference,
        max_rel_diff=difference / max(largest, 1e-12),
        top1_agreement=float((got_BK.argmax(1) == wanted_BK.argmax(1)).float().mean()),
        speedup=speedup,
    )


def _speedup(plain: Callable[[], object], file: Callable[[], object]) -> float:
    times = [(_seconds(plain), _seconds(file)) for _ in range(RUNS)]
    return statistics.median(p for p, _ in times) / statistics.median(f for _, f in times)


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
