"""Moves the loader's uint8 batches to the training device and turns them into network input.

Letters: B clips, T frames, N = B*T, H, W.
"""

import time
from collections.abc import Iterable, Iterator

import torch

from kinema.data.loader import TrainBatch
from kinema.data.transforms import normalize
from kinema.values import Preprocessing


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
