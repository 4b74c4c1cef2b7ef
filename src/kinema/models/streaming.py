"""Online networks: each frame of a stream is computed once, with the scores of the whole video.

A causal network needs, besides the newest frame, only the memory of its temporal modules: a tuple
of tensors that is passed from step to step.

Letters: B streams, T new frames of each, N = B*T, C channels, H, W, D features, K classes.
"""

import contextvars
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from kinema.errors import InputShapeError, OptionError, check_range
from kinema.models.cost import outermost
from kinema.models.sites import SiteLayer
from kinema.temporal import TemporalModule
from kinema.temporal.memory import Memory, State

if TYPE_CHECKING:  # network.py imports this module
    from kinema.models.network import VideoNetwork

# Memory of the running step, since the backbone between the modules cannot pass it.
_MEMORY: contextvars.ContextVar[Memory] = contextvars.ContextVar("memory_of_the_step")


class StreamingNetwork:
    """Causal network that scores the frames of B streams step by step.

    Frame t gets the same scores as from `VideoNetwork.frame_scores` on the whole video. Shares
    the weights of the network; move that to its device first.

    Args:
        net: A causal network in eval mode.
        batch: B, the number of streams.

    Raises:
        OptionError: the network looks ahead, drops frames, or is in training mode.

    Example:
        >>> import torch
        >>> from kinema import create_model
        >>> net = create_model("tsm_resnet18", classes=5, frames=8, causal=True).eval()
        >>> step = net.streaming(batch=2)
        >>> step(torch.randn(2, 3, 64, 64)).shape
        torch.Size([2, 5])
        >>> step.reset([1])  # a new video begins in the second stream
        >>> step(torch.randn(2, 4, 3, 64, 64)).shape  # four frames at once
        torch.Size([2, 4, 5])
    """

    def __init__(self, net: "VideoNetwork", *, batch: int = 1) -> None:
        check_range(at_least=1, batch=batch)
        _check(net)
        self.batch = batch
        self.module = StepModule(net)
        self._name = net.name
        self._state: State = ()

    @property
    def state(self) -> State:
        """Memory of the streams, with streams as first axis; () before the first frame."""
        return self._state

    @state.setter
    def state(self, state: Sequence[torch.Tensor]) -> None:
        self._check_state(tuple(state))
        self._state = tuple(state)

    def reset(self, rows: Sequence[int] | None = None) -> None:
        """Restarts the given streams, or all of them.

        Raises:
            OptionError: the stream does not exist.
        """
        for row in rows or ():
            if not 0 <= row < self.batch:
                raise OptionError(f"There is no stream {row}: they are 0 to {self.batch - 1}.")
        self._state = () if rows is None else reset_rows(self._state, rows)

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        """Scores the next frames, without gradients.

        Args:
            frames: Next frame of each stream (B, 3, H, W), float, normalized, or several, (B, T,
                3, H, W). All frames of a stream have the same size.

        Returns:
            (B, K), or (B, T, K), scores before softmax.

        Raises:
            InputShapeError: the frames have another shape or type.
        """
        with torch.no_grad():
            scores, self._state = self.advance(frames, self._state)
        return scores

    def advance(self, frames: torch.Tensor, state: State = ()) -> tuple[torch.Tensor, State]:
        """Returns the scores of the next frames and the state after them, without side effects.

        Args:
            frames: As in a call.
            state: State of the previous step; () for new streams.

        Raises:
            InputShapeError: the frames or the state have another shape or type.
        """
        self._check_frames(frames)
        self._check_state(state)
        scores, *after = self.module(frames, *state)
        return scores, tuple(after)

    def _check_frames(self, frames: torch.Tensor) -> None:
        shape, channels_at = tuple(frames.shape), frames.ndim - 3
        wrong = frames.ndim not in (4, 5) or shape[0] != self.batch or shape[channels_at] != 3
        if wrong or 0 in shape:
            raise InputShapeError(
                f"{self._name} with {self.batch} streams expects frames of shape ({self.batch}, 3, "
                f"H, W) or ({self.batch}, T, 3, H, W), got {shape}."
            )
        check_floating(self._name, "frames", frames)

    def _check_state(self, state: State) -> None:
        for place, tensor in enumerate(state):
            if tensor.ndim == 0 or tensor.shape[0] != self.batch:
                raise InputShapeError(
                    f"Tensor {place} of the state has the shape {tuple(tensor.shape)}, but there "
                    f"are {self.batch} streams."
                )


class StepModule(nn.Module):
    """Step of streams as a function of tensors, for graphs.

    Shares the weights of the network.
    """

    def __init__(self, net: "VideoNetwork") -> None:
        super().__init__()
        # A copy of the structure with the same tensors: temporal modules become their steps here,
        # while the network stays usable on clips.
        memo = {id(item): item for item in _not_to_copy(net)}
        self.backbone = _in_steps(copy.deepcopy(net.backbone, memo))
        self.head = copy.deepcopy(net.head, memo)
        self.channels_last = net.channels_last

    def forward(self, frames: torch.Tensor, *state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns the scores of the frames and the tensors of the next state.

        Args:
            frames: (B, 3, H, W) or (B, T, 3, H, W), float, normalized.
            *state: Tensors of the state; none for new streams.
        """
        several = frames.ndim == 5
        count = frames.shape[1] if several else 1
        x_NCHW = frames.flatten(0, 1) if several else frames
        if self.channels_last:
            x_NCHW = x_NCHW.contiguous(memory_format=torch.channels_last)
        # The backbone's layers pass on one tensor, so the memory reaches the temporal modules
        # through a context variable.
        memory = Memory(state, frames=count)
        token = _MEMORY.set(memory)
        try:
            scores_BTK: torch.Tensor = self.head(self.backbone(x_NCHW), count)
        finally:
            _MEMORY.reset(token)
        return scores_BTK if several else scores_BTK[:, 0], *memory.state()


class _InSteps(nn.Module):
    """Temporal module that gets the newest frames only."""

    def __init__(self, module: TemporalModule) -> None:
        super().__init__()
        module.set_frames(1)
        self.module = module

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        return self.module.step(x_NCHW, _MEMORY.get())


def _not_to_copy(net: nn.Module) -> Iterator[torch.Tensor | nn.Module]:
    """Objects not to copy: weights, those of fused convolutions, and replaced layers."""
    yield from net.parameters()
    yield from net.buffers()
    for module in net.modules():
        yield from (value for value in vars(module).values() if isinstance(value, torch.Tensor))
        if isinstance(module, SiteLayer):
            yield from module.replaced


def _in_steps(backbone: nn.Module) -> nn.Module:
    """Wraps every temporal module in `_InSteps`, in place."""
    # Outermost only: TEA's MTA or TSI's CTI make their own steps of the modules inside.
    modules = {id(module) for _, module in outermost(backbone)}
    for parent in list(backbone.modules()):
        for name, child in parent.named_children():
            if id(child) in modules and isinstance(child, TemporalModule):
                setattr(parent, name, _InSteps(child))
    return backbone


def _check(net: "VideoNetwork") -> None:
    if net.training:
        raise OptionError(f"{net.name} is in training mode: call net.eval() before streaming.")
    if net.snippet > 1:
        raise OptionError(
            f"{net.name} takes snippets of {net.snippet} neighboring frames, {net.snippet // 2} of "
            "them behind the center, so it cannot work frame by frame. Use a network without "
            "snippets, such as tsm, with create_model(..., causal=True)."
        )
    if net.facts.frame_stride != 1:
        raise OptionError(
            f"{net.facts.name} computes a part of itself on every {net.facts.frame_stride}th frame "
            "only and looks ahead there, so it cannot work frame by frame. Use another backbone, "
            "with create_model(..., causal=True)."
        )
    if net.facts.pooled:
        raise OptionError(
            f"{net.name} halves the frames in front of res3 and looks ahead there, so it cannot "
            "work frame by frame. Train it without temporal_pool."
        )
    for _, module in net.temporal_modules():
        module.check_streaming()


def check_floating(network: str, what: str, given: torch.Tensor) -> None:
    """Raises InputShapeError for pixels that are not normalized floating-point numbers."""
    if not given.is_floating_point():
        raise InputShapeError(
            f"{network} expects normalized floating-point {what}, got {given.dtype}. "
            "kinema.data.transforms.normalize turns uint8 RGB into them."
        )


def reset_rows(state: State, rows: Sequence[int]) -> State:
    """Resets the state of some streams: zeros mean no past frames."""
    if not state:
        return ()
    # `where` instead of a product: a state with inf or nan times zero would stay nan.
    keep_B = torch.ones(state[0].shape[0], dtype=torch.bool, device=state[0].device)
    keep_B[list(rows)] = False
    return tuple(
        torch.where(keep_B.reshape(-1, *(1,) * (x.ndim - 1)), x, torch.zeros_like(x)) for x in state
    )


@dataclass(frozen=True)
class StepGraph:
    """Step with its example inputs, for exporters.

    Attributes:
        module: Module whose forward maps `inputs` to a tensor per name in `output_names`.
        inputs: Example inputs: frames (B, 3, H, W), then the state of new streams.
        input_names: "frames", then a name per tensor of the state.
        output_names: "scores", then a name per tensor of the next state, in the order of the
            inputs.
    """

    module: StepModule
    inputs: tuple[torch.Tensor, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    def dynamic_shapes(self, batch: torch.export.Dim) -> dict[str, Any]:
        """Dynamic shapes for `torch.export.export`: any number of streams."""
        return {"frames": {0: batch}, "state": tuple({0: batch} for _ in self.inputs[1:])}


def step_graph(net: "VideoNetwork", *, size: int | tuple[int, int], batch: int = 1) -> StepGraph:
    """Builds a step of `batch` streams with the state as inputs and outputs.

    Args:
        net: The network; see `StreamingNetwork`.
        size: Side of the frames in pixels, or (height, width).
        batch: B; at least 2 to export any number of streams.

    Raises:
        OptionError: the network is not causal.
    """
    step = StreamingNetwork(net, batch=batch)
    sides = (size, size) if isinstance(size, int) else size
    frames = next(net.parameters()).new_zeros((batch, 3, *sides))
    with torch.inference_mode(False), torch.no_grad():  # graphs cannot hold inference tensors
        # One step shows the number and the shapes of the state's tensors, which depend on the
        # modules and on the size of the frames.
        _, after = step.advance(frames)
    start = tuple(torch.zeros_like(tensor) for tensor in after)
    places = range(len(start))
    return StepGraph(
        module=step.module,
        inputs=(frames, *start),
        input_names=("frames", *(f"state_{place}" for place in places)),
        output_names=("scores", *(f"next_state_{place}" for place in places)),
    )
