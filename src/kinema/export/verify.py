"""Whether a written file gives the network's scores, and how fast it is.

Letters: B clips, T frames, H, W, K classes.
"""

import statistics
import time
from dataclasses import dataclass

import torch

from kinema.models.network import Run, VideoNetwork

# Timed runs of the network and of the file, in turns; the medians count.
RUNS = 5


@dataclass(frozen=True)
class Verification:
    """A file beside the network it was written from.

    Attributes:
        clips: On how many clips they were compared.
        max_abs_diff: Largest difference of a score.
        max_rel_diff: The same relative to the network's largest score.
        top1_agreement: Share of the clips with the same best class.
        speedup: The network's time (PyTorch, float32, channels_last) over that of the file.
    """

    clips: int
    max_abs_diff: float
    max_rel_diff: float
    top1_agreement: float
    speedup: float


def verify(run: Run, net: VideoNetwork, clips_BTCHW: torch.Tensor) -> Verification:
    """Compares all clips, one by one and as one batch: a file must not depend on the batch."""
    with torch.inference_mode():
        wanted_BK = net(clips_BTCHW)
        got_BK = run(clips_BTCHW)
        single_BK = torch.cat([run(clip[None]) for clip in clips_BTCHW])
        times: dict[str, list[float]] = {"net": [], "file": []}
        for _ in range(RUNS):
            times["net"].append(_seconds(net, clips_BTCHW))
            times["file"].append(_seconds(run, clips_BTCHW))
    difference = max(_largest(got_BK - wanted_BK), _largest(single_BK - wanted_BK))
    agreement = min(
        float((scores.argmax(1) == wanted_BK.argmax(1)).float().mean())
        for scores in (got_BK, single_BK)
    )
    return Verification(
        clips=len(clips_BTCHW),
        max_abs_diff=difference,
        max_rel_diff=difference / max(_largest(wanted_BK), 1e-12),
        top1_agreement=agreement,
        speedup=statistics.median(times["net"]) / statistics.median(times["file"]),
    )


def _largest(values: torch.Tensor) -> float:
    return float(values.abs().max())


def _seconds(run: Run, clips_BTCHW: torch.Tensor) -> float:
    start = time.perf_counter()
    run(clips_BTCHW)
    return time.perf_counter() - start
