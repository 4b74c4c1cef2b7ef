"""The ways to run a network for inference: what computes it, and in which precision.

Letters: B clips, T frames, H, W, K classes.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch

from kinema.errors import OptionError, did_you_mean
from kinema.export.graph import clip_graph
from kinema.export.openvino_file import compile_openvino, openvino_model
from kinema.memory import keep_freed_memory
from kinema.models.fold import fold_batch_norms
from kinema.models.fuse import can_fuse, fuse_convolutions
from kinema.models.network import Run, VideoNetwork
from kinema.temporal.kernels.native import cache_folder

Precision = Literal["32", "bf16"]
RuntimeName = Literal["eager", "fused", "compiled", "openvino"]
RUNTIMES: tuple[RuntimeName, ...] = get_args(RuntimeName)

_DTYPES = {"32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Form:
    """One way to run a network.

    Attributes:
        runtime: "eager" calls PyTorch's operators one by one, "fused" joins convolutions with what
            follows them (CPU only), "compiled" lets PyTorch's compiler make the kernels, "openvino"
            converts the network for that runtime (CPU only, extra `export`). Norms are folded in
            all of them, and memory is channels_last in PyTorch's.
        precision: "32" or "bf16", of weights and activations.
        chunk: Clips of one forward pass; 0 takes the whole batch at once.
    """

    runtime: RuntimeName
    precision: Precision
    chunk: int = 0

    def __str__(self) -> str:
        parts = [self.runtime, "float32" if self.precision == "32" else "bfloat16"]
        if self.chunk:
            parts.append(f"{self.chunk} clips at a time")
        return ", ".join(parts)


def checked_runtimes(names: Iterable[str] | None, example: torch.Tensor) -> list[RuntimeName]:
    """The wanted runtimes; by default the fastest of those that start at once.

    Raises:
        OptionError: a name is unknown, or there is none.
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
    """A function from clips to scores that runs a copy of the network in this form.

    Args:
        net: The network, in eval mode; later changes of its weights do not reach the copy.
        form: How to run it.
        example: Clips (B, T, 3, H, W) of the usual size, on the device. Other sizes work too,
            slower.

    Returns:
        (B, T, 3, H, W) float -> (B, K) float32 scores before softmax.

    Raises:
        OptionError: the form does not exist on this device.
    """
    if form.runtime == "openvino":
        return _in_chunks(_openvino(net, form, example), torch.float32, form.chunk)
    dtype = _DTYPES[form.precision]
    folded = fold_batch_norms(net).to(dtype).lay_out_weights()
    run: Run = folded
    if form.runtime == "fused":
        run = fuse_convolutions(folded, example.to(dtype))
    elif form.runtime == "compiled":
        run = _compiled(folded, example.device)

    return _in_chunks(run, dtype, form.chunk)


def streaming_copy(net: VideoNetwork, precision: Precision, example: torch.Tensor) -> VideoNetwork:
    """A copy to be streamed faster: norms folded and, on a CPU that can, convolutions fused.

    Args:
        net: A causal network in eval mode.
        precision: Of weights, activations, frames and state.
        example: Frames (B, 3, H, W) of one step of B streams, on the device.
    """
    dtype = _DTYPES[precision]
    copy = fold_batch_norms(net).to(dtype).lay_out_weights()
    frames_BTCHW = example.to(dtype).unsqueeze(1)
    if example.device.type == "cpu":
        keep_freed_memory()
    return fuse_convolutions(copy, frames_BTCHW) if can_fuse(frames_BTCHW) else copy


def _in_chunks(run: Run, dtype: torch.dtype, chunk: int) -> Run:
    """Runs `chunk` clips at a time (0: all of them), in another type."""

    def scores(clips_BTCHW: torch.Tensor) -> torch.Tensor:
        size = chunk or max(len(clips_BTCHW), 1)
        with torch.inference_mode():
            parts = [run(part.to(dtype)).float() for part in torch.split(clips_BTCHW, size)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    return scores


def _openvino(net: VideoNetwork, form: Form, example: torch.Tensor) -> Run:
    if example.device.type != "cpu":
        raise OptionError(f"The runtime openvino runs on the CPU, not on {example.device.type}.")
    height, width = example.shape[-2:]
    if height != width:
        raise OptionError(f"The runtime openvino wants square frames, got {height} x {width}.")
    model = openvino_model(clip_graph(net, size=height, facts={}))
    call = compile_openvino(model, precision=form.precision)
    return lambda clips_BTCHW: call(clips_BTCHW)[0]


def _compiled(net: VideoNetwork, device: torch.device) -> Run:
    """Compiled kernels, kept in the cache folder for later processes."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))
    # On a GPU the launches of a whole pass become one: a CUDA graph.
    mode = "reduce-overhead" if device.type == "cuda" else None
    compiled: Run = torch.compile(net, mode=mode)
    if mode is None:
        return compiled
    # The output of a CUDA graph is overwritten by its next run.
    return lambda clips_BTCHW: compiled(clips_BTCHW).clone()
