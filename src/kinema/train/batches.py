"""A batch on its way from the loader to its loss: device, network input, mixing, cross entropy.

Letters: B clips, T frames, N = B*T, H, W, K classes.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F

from kinema.data.loader import TrainBatch
from kinema.data.transforms import normalize
from kinema.system.image_libraries import tv_tensors, v2
from kinema.train.settings import TrainSettings
from kinema.values import Annotations, Preprocessing


class DeviceBatches:
    """Iterates over batches on the device; on CUDA the next one can be prefetched.

    On CUDA, `load_ahead` fetches a batch into pinned memory and copies it on a side stream while
    the device computes. On other devices it does nothing.

    Attributes:
        wait_s: Seconds spent waiting for data, not hidden by computation.
    """

    def __init__(self, batches: Iterable[TrainBatch], device: torch.device) -> None:
        self._batches = iter(batches)
        self._device = device
        self._copying: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # as torch has it
        self._ahead: TrainBatch | None = None
        self.wait_s = 0.0

    def __iter__(self) -> Iterator[TrainBatch]:
        return self

    def __next__(self) -> TrainBatch:
        batch, self._ahead = self._ahead, None
        if batch is None:
            started = time.perf_counter()
            batch = self._sent(next(self._batches))
            self.wait_s += time.perf_counter() - started
        if self._copying is not None:
            computing = torch.cuda.current_stream(self._device)
            computing.wait_stream(self._copying)
            for tensor in (batch.clips_BTCHW, batch.labels_B):
                # The allocator must not reuse this memory while the computing stream reads it.
                tensor.record_stream(computing)
        return batch

    def load_ahead(self) -> None:
        """Starts copying the next batch, if any, while the device computes."""
        if self._copying is None:
            return
        started = time.perf_counter()
        batch = next(self._batches, None)
        self._ahead = None if batch is None else self._sent(batch)
        if torch.cuda.current_stream(self._device).query():
            # The device was idle meanwhile, so this time was lost.
            self.wait_s += time.perf_counter() - started

    def _sent(self, batch: TrainBatch) -> TrainBatch:
        if self._copying is None:
            return TrainBatch(batch.clips_BTCHW.to(self._device), batch.labels_B.to(self._device))
        with torch.cuda.stream(self._copying):
            return TrainBatch(
                batch.clips_BTCHW.pin_memory().to(self._device, non_blocking=True),
                batch.labels_B.pin_memory().to(self._device, non_blocking=True),
            )


def network_input(
    clips_BTCHW: torch.Tensor, how: Preprocessing, *, channels_last: bool
) -> torch.Tensor:
    """Normalizes uint8 clips to float32 clips (B, T, 3, H, W) on the same device.

    With `channels_last` the frames are reordered while they are still bytes, a quarter of the
    memory traffic of doing it in the network.
    """
    frames_NCHW = clips_BTCHW.flatten(0, 1)
    if channels_last:
        frames_NCHW = frames_NCHW.contiguous(memory_format=torch.channels_last)
    frames_NCHW = normalize(frames_NCHW, how.mean, how.std)
    return torch.unflatten(frames_NCHW, 0, clips_BTCHW.shape[:2])


Mixing = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def build_mixing(settings: TrainSettings, *, classes: int) -> Mixing | None:
    """Builds mixup or CutMix: clips (B, T, 3, H, W), labels (B,) to mixed clips, targets (B, K).

    Each clip is mixed with its neighbor in the shuffled batch, with torch's global generator.
    None if the recipe uses neither.
    """
    alphas = ((v2.MixUp, settings.mixup_alpha), (v2.CutMix, settings.cutmix_alpha))
    kinds = [kind(alpha=a, num_classes=classes) for kind, a in alphas if a is not None]
    if not kinds:
        return None
    chosen = kinds[0] if len(kinds) == 1 else v2.RandomChoice(kinds)

    def mix(clips_BTCHW: torch.Tensor, labels_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        clips, targets_BK = chosen(tv_tensors.Video(clips_BTCHW), labels_B)
        return clips.as_subclass(torch.Tensor), targets_BK

    return mix


def balanced_weights(labels: Sequence[int], *, classes: int) -> torch.Tensor:
    """Class weights (K,) inverse to the number of videos, with a mean of 1 over all videos.

    A class without videos has weight 0.
    """
    counts_K = torch.bincount(torch.tensor(labels), minlength=classes)
    present = int((counts_K > 0).sum())
    weights_K = len(labels) / (present * counts_K.clamp(min=1).float())
    return weights_K * (counts_K > 0)


class ClipLoss:
    """Cross entropy between scores (B, K) and labels (B,) or soft targets (B, K).

    Averages over the B clips regardless of their weights, so that accumulated gradients equal
    those of the whole batch (torch would divide by the sum of the weights of each part).
    """

    def __init__(self, settings: TrainSettings, weights_K: torch.Tensor | None = None) -> None:
        self.smoothing = settings.label_smoothing
        self.weights_K = weights_K

    def __call__(self, scores_BK: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The mean loss of a batch, a scalar."""
        if self.weights_K is not None:
            self.weights_K = self.weights_K.to(scores_BK.device)
            if targets.ndim == 1:
                targets = F.one_hot(targets, scores_BK.shape[1]).to(scores_BK.dtype)
        return F.cross_entropy(
            scores_BK, targets, weight=self.weights_K, label_smoothing=self.smoothing
        )


def build_loss(settings: TrainSettings, videos: Annotations, *, classes: int) -> ClipLoss:
    """The loss of a recipe for these training videos."""
    if settings.class_weights is None:
        return ClipLoss(settings)
    labels = [sample.label for sample in videos.samples if sample.label is not None]
    return ClipLoss(settings, balanced_weights(labels, classes=classes))
