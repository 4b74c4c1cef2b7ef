"""Forms of a network for inference: runtime and precision.

Letters: B clips, T frames, H, W, K classes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, cast, get_args

import torch

from kinema.errors import InputShapeError, OptionError, did_you_mean
from kinema.inference.fold import fold_batch_norms
from kinema.inference.fuse import can_fuse, fuse_convolutions
from kinema.inference.graph import clip_graph, stream_graph
from kinema.inference.openvino_model import compile_openvino, openvino_model
from kinema.models.network import Run, VideoNetwork
from kinema.models.streaming import StreamingNetwork
from kinema.system.compiler_cache import check_cpp_compiler, keep_compilers_private
from kinema.temporal.memory import State

Precision = Literal["32", "bf16"]
RuntimeName = Literal["eager", "fused", "compiled", "openvino"]
RUNTIMES: tuple[RuntimeName, ...] = get_args(RuntimeName)

_DTYPES = {"32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Form:
    """Form of a network for inference.

    Attributes:
        runtime: "eager" runs PyTorch operators one by one, "fused" joins convolutions with the
            following operators (CPU only), "compiled" uses torch.compile, "openvino" converts the
            network to OpenVINO (CPU only, extra `export`). All fold norms; those of PyTorch use
            channels_last.
        precision: Precision of weights and activations, "32" or "bf16".
        chunk: Clips per forward pass; 0 for the whole batch.
    """

    runtime: RuntimeName
    precision: Precision
    chunk: int = 0

    def __str__(self) -> str:
        precision = "float32" if self.precision == "32" else "bfloat16"
        chunk = f", {self.chunk} clips at a time" if self.chunk else ""
        return f"{self.runtime}, {precision}{chunk}"


def checked_runtimes(names: Iterable[str] | None, example: torch.Tensor) -> list[RuntimeName]:
    """Checks runtime names; by default returns the fastest one without compilation.

    Raises:
        OptionError: a name is unknown, or the list is empty.
    """
    if names is None:
        return ["fused" if can_fuse(example) else "eager"]
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if name not in RUNTIMES:
            raise OptionError(f"Unknown runtime {name!r}. " + did_you_mean(name, RUNTIMES))
    if not wanted:
        raise OptionError(f"No runtime was named. There are: {', '.join(RUNTIMES)}.")
    return cast(list[RuntimeName], wanted)


def build_run(net: VideoNetwork, form: Form, example: torch.Tensor) -> Run:
    """Builds a copy of the network in this form, as a function from clips to scores.

    Args:
        net: The network, in eval mode; later changes of its weights do not reach the copy.
        form: The form.
        example: Clips (B, T, 3, H, W) of the usual size, on the device; others are slower.

    Returns:
        Function from float clips (B, T, 3, H, W) to float32 scores (B, K) before softmax.

    Raises:
        OptionError: the form is not available on this device.
    """
    if form.runtime == "openvino":
        graph = clip_graph(net, size=_square_side(example), facts={})
        call = compile_openvino(openvino_model(graph), precision=form.precision)
        return _in_chunks(lambda clips: call(clips)[0], torch.float32, form.chunk)
    dtype = _DTYPES[form.precision]
    run: Run = _converted(net, form, example.to(dtype))
    if form.runtime == "compiled":
        run = _compiled(run, example.device)
    return _in_chunks(run, dtype, form.chunk)


class Step(Protocol):
    """Stateless step of B streams: the state is an input and an output."""

    def advance(self, frames: torch.Tensor, state: State = ()) -> tuple[torch.Tensor, State]:
        """Maps frames (B, 3, H, W) and the previous state to scores (B, K) and the next state.

        An empty state starts new streams.
        """


def build_step(net: VideoNetwork, form: Form, example: torch.Tensor) -> Step:
    """Builds a step of streams with a copy of the network in this form.

    Args:
        net: A causal network in eval mode.
        form: The form: "eager", "fused" or "openvino", in whole batches.
        example: Frames (B, 3, H, W) of one step, float, on the device.

    Raises:
        OptionError: the form is not available for streams or on this device, or the network is
            not causal.
    """
    if form.runtime == "openvino":
        return _OpenVinoStep(net, form.precision, example)
    if form.runtime == "compiled":
        raise OptionError("Streams run as eager, fused or openvino, not compiled.")
    dtype = _DTYPES[form.precision]
    copy = _converted(net, form, example.to(dtype).unsqueeze(1))
    return _TorchStep(copy.streaming(len(example)), dtype)


def _converted(net: VideoNetwork, form: Form, example: torch.Tensor) -> VideoNetwork:
    copy = fold_batch_norms(net).to(example.dtype).lay_out_weights()
    return fuse_convolutions(copy, example) if form.runtime == "fused" else copy


@dataclass(frozen=True)
class _TorchStep:
    """Step in another dtype; scores are float32, the state has that dtype."""

    step: StreamingNetwork
    dtype: torch.dtype

    def advance(self, frames: torch.Tensor, state: State = ()) -> tuple[torch.Tensor, State]:
        with torch.no_grad():
            scores, state = self.step.advance(_in_type(frames, self.dtype), state)
        return scores.float(), state


class _OpenVinoStep:
    """Exported graph of a step; frames and state are float32 on the CPU."""

    def __init__(self, net: VideoNetwork, precision: Precision, example: torch.Tensor) -> None:
        side = _square_side(example)
        graph = stream_graph(net, size=side, streams=len(example), facts={})
        frames_shape, *state_shapes = [tuple(map(int, shape)) for shape in graph.shapes]
        self._start = tuple(torch.zeros(shape) for shape in state_shapes)
        self._frames_shape = frames_shape
        self._call = compile_openvino(openvino_model(graph), precision=precision)

    def advance(self, frames: torch.Tensor, state: State = ()) -> tuple[torch.Tensor, State]:
        if tuple(frames.shape) != self._frames_shape:
            raise InputShapeError(
                f"This step was made for frames of shape {self._frames_shape}, got "
                f"{tuple(frames.shape)}."
            )
        floats = (_in_type(frames, torch.float32), *(part.float() for part in state or self._start))
        scores, *after = self._call(*floats)
        return scores, tuple(after)


def _in_chunks(run: Run, dtype: torch.dtype, chunk: int) -> Run:
    """Runs `chunk` clips at a time (0: all of them) in another dtype."""

    def scores(clips_BTCHW: torch.Tensor) -> torch.Tensor:
        size = chunk or max(len(clips_BTCHW), 1)
        with torch.inference_mode():
            split = torch.split(clips_BTCHW, size)
            parts = [run(_in_type(part, dtype)).float() for part in split]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    return scores


def _in_type(pictures: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Converts to another floating-point type; rejects bytes, which are not normalized."""
    if not pictures.is_floating_point():
        raise InputShapeError(
            f"Expected normalized floating-point frames, got {pictures.dtype}. "
            "kinema.data.transforms.normalize turns uint8 RGB into them."
        )
    return pictures.to(dtype)


def _square_side(example: torch.Tensor) -> int:
    """Side of square frames for OpenVINO."""
    if example.device.type != "cpu":
        raise OptionError(f"The runtime openvino runs on the CPU, not on {example.device.type}.")
    height, width = example.shape[-2:]
    if height != width:
        raise OptionError(f"The runtime openvino expects square frames, got {height} x {width}.")
    return int(height)


def _compiled(net: Run, device: torch.device) -> Run:
    """Compiles the network; kernels are cached in a folder for later processes."""
    if device.type == "cpu":
        check_cpp_compiler("The runtime compiled")
    keep_compilers_private()
    # On a GPU a CUDA graph replaces the kernel launches of a whole pass.
    mode = "reduce-overhead" if device.type == "cuda" else None
    compiled: Run = torch.compile(net, mode=mode)
    if mode is None:
        return compiled
    # The next run of a CUDA graph overwrites its output.
    return lambda clips_BTCHW: compiled(clips_BTCHW).clone()
