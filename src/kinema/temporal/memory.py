"""Memory of temporal modules between the frames of a stream, and the steps that they share.

A causal module needs its past only through delays: the value that some tensor had one frame
earlier. `Memory` returns the values of the previous step and stores those of this step. At the
start of a stream they are zero, which equals the zero padding of a clip at every layer.

Letters: B streams, T new frames of each, N = B*T folded frames (stream-major), C and O channels,
H, W, K taps, P past frames, h x w window, ... any further axes.
"""

import torch
import torch.nn.functional as F

from kinema.errors import InputShapeError
from kinema.temporal.kernels import native
from kinema.temporal.kernels.dispatch import uses_reference_backend
from kinema.temporal.kernels.eager import runs_eagerly
from kinema.temporal.kernels.gate import gate_reference
from kinema.temporal.kernels.rows import rows_like

# Contents of a memory: tensors with the stream axis first, zero for a stream that starts now.
State = tuple[torch.Tensor, ...]


class Memory:
    """Memory of B streams during one step.

    Requests are matched to stored tensors by their order, in which the network runs at every step.
    A stored tensor must not be a module's input, which other layers may overwrite in place.

    Args:
        state: Result of `state()` of the previous step; empty when all streams start now.
        frames: T, number of new frames of each stream.
    """

    def __init__(self, state: State = (), *, frames: int = 1) -> None:
        self._old = state
        self._new: list[torch.Tensor] = []
        self._frames = frames
        self._started_N1: torch.Tensor | None = None
        self._all_started = False

    def delay(self, x_N: torch.Tensor) -> torch.Tensor:
        """(N, ...) -> (N, ...): value of the previous frame, zeros at a stream's first frame."""
        if self._frames == 1:
            past_B = self._recall(x_N)
            self._new.append(x_N)
            return past_B
        x_BT = torch.unflatten(_channels_last(x_N), 0, (-1, self._frames))
        past_B = _channels_last(self._recall(_channels_first(x_BT[:, 0])))
        self._new.append(_channels_first(x_BT[:, -1].clone()))
        delayed_N = torch.cat([past_B.unsqueeze(1), x_BT[:, :-1]], 1).flatten(0, 1)
        return _channels_first(delayed_N)

    def window(self, x_N: torch.Tensor, frames: int) -> torch.Tensor:
        """(N, ...) -> (N, frames, ...): each value preceded by those of the frames before it."""
        x_BT = torch.unflatten(x_N, 0, (-1, self._frames))
        past_BP = self._recall(x_BT[:, :1].expand(-1, frames - 1, *x_BT.shape[2:]))
        all_BT = torch.cat([past_BP, x_BT], 1)
        self._new.append(all_BT[:, self._frames :].clone())
        if self._frames == 1:
            return all_BT
        windows = [all_BT[:, t : t + frames] for t in range(self._frames)]
        return torch.stack(windows, 1).flatten(0, 1)

    def is_native(self, x_NCHW: torch.Tensor, taps: int = 1, kernel: str = "convolve_step") -> bool:
        """True if a kernel of native.py can process this step: one new frame of each stream."""
        return (
            self._frames == 1
            and not torch.is_grad_enabled()
            and native.takes(x_NCHW, taps, kernel)
            and not uses_reference_backend()
        )

    def where_started(self, x_N: torch.Tensor, otherwise: float = 0) -> torch.Tensor:
        """x, except `otherwise` at a stream's first frame."""
        if self._started_N1 is None:  # all modules share one flag
            ones_N1 = torch.ones_like(x_N.flatten(1)[:, :1])
            self._started_N1 = self.delay(ones_N1) > 0
            # Reading the flag would synchronize a GPU, and a graph has to be valid for all states.
            readable = x_N.device.type == "cpu" and runs_eagerly(x_N)
            self._all_started = readable and bool(self._started_N1.all())
        if self._all_started:
            return x_N
        started_N = self._started_N1.reshape(-1, *(1,) * (x_N.ndim - 1))
        return torch.where(started_N, x_N, torch.full_like(x_N, otherwise))

    def state(self) -> State:
        """State for the next step.

        Raises:
            InputShapeError: the network has not requested all tensors of the old state.
        """
        if self._old and len(self._old) != len(self._new):
            raise self._other_network()
        return tuple(self._new)

    def _recall(self, like_B: torch.Tensor) -> torch.Tensor:
        """The next tensor of the old state; zeros of the same shape when the streams start."""
        if not self._old:
            return torch.zeros_like(like_B)
        place = len(self._new)
        if place == len(self._old):
            raise self._other_network()
        past_B = self._old[place]
        if past_B.shape[1:] != like_B.shape[1:]:
            raise InputShapeError(
                f"Tensor {place} of the state has shape {tuple(past_B.shape)}, but these frames "
                f"need {tuple(like_B.shape)}: it is the state of another network or of frames of "
                "another size. Pass an empty state, (), to restart the streams."
            )
        # A caller may have converted it, but native.c reads it in the dtype of the frames.
        same = past_B.dtype == like_B.dtype and past_B.device == like_B.device
        return past_B if same else past_B.to(like_B)

    def _other_network(self) -> InputShapeError:
        return InputShapeError(
            f"The state has {len(self._old)} tensors, a number that this network does not have: "
            "it is the state of another network. Pass an empty state, (), to restart the streams."
        )


def _channels_last(x_NC: torch.Tensor) -> torch.Tensor:
    """Moves the channels of maps to the end, so that `cat` keeps channels_last memory."""
    return x_NC.movedim(1, -1) if x_NC.ndim == 4 else x_NC


def _channels_first(x_NC: torch.Tensor) -> torch.Tensor:
    return x_NC.movedim(-1, 1) if x_NC.ndim == 4 else x_NC


def depthwise_step(x_NCHW: torch.Tensor, weight_C1K1: torch.Tensor, memory: Memory) -> torch.Tensor:
    """Step of a causal depth-wise convolution along time; see `kernels.depthwise`."""
    return dynamic_step(x_NCHW, weight_C1K1[:, 0, :, 0].unsqueeze(0), memory)


def conv_step(
    x_NCHW: torch.Tensor,
    weight_OCKhw: torch.Tensor,
    memory: Memory,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    groups: int = 1,
) -> torch.Tensor:
    """Step of a causal convolution over time and space; see `kernels.dense`.

    The memory holds partial sums of outputs, which are smaller than inputs if there is a stride.
    """
    out_NOHW: torch.Tensor | None = None
    for weight_OChw in weight_OCKhw.unbind(2):
        part_NOHW = F.conv2d(x_NCHW, weight_OChw, stride=stride, padding=padding, groups=groups)
        out_NOHW = part_NOHW if out_NOHW is None else part_NOHW + memory.delay(out_NOHW)
    assert out_NOHW is not None
    return out_NOHW


def dynamic_step(
    x_NCHW: torch.Tensor,
    kernels_NCK: torch.Tensor,
    memory: Memory,
    gate_NC: torch.Tensor | None = None,
) -> torch.Tensor:
    """Step of a causal convolution along time with kernels of each frame; see `kernels.dynamic`.

    Args:
        x_NCHW: Newest frames.
        kernels_NCK: (N, C, K), or (1, C, K) for all frames.
        memory: Memory of the streams; it holds K-1 past frames.
        gate_NC: Factors for the channels of the newest frames, before the convolution.
    """
    taps = kernels_NCK.shape[2]
    if memory.is_native(x_NCHW, taps):
        kept_NCHW = rows_like(x_NCHW)
        # `kept` enters the memory now; the kernel fills it.
        past = [memory.delay(kept_NCHW)]  # newest first
        while len(past) < taps - 1:
            past.append(memory.delay(past[-1]))
        # A caller may have changed the layout of the state.
        oldest_first = [p.contiguous(memory_format=torch.channels_last) for p in past[::-1]]
        weights_NKC = kernels_NCK.transpose(1, 2)
        return native.convolve_step(x_NCHW, oldest_first, weights_NKC, kept_NCHW, gate_NC)
    taps_NC11 = kernels_NCK.to(x_NCHW.dtype)[..., None, None].unbind(2)
    past_NCHW = x_NCHW.clone() if gate_NC is None else gate_reference(x_NCHW, gate_NC)
    out_NCHW = past_NCHW * taps_NC11[-1]
    for kernel_NC11 in taps_NC11[-2::-1]:
        past_NCHW = memory.delay(past_NCHW)
        out_NCHW = torch.addcmul(out_NCHW, past_NCHW, kernel_NC11)
    return out_NCHW
