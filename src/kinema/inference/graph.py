"""Traced graph of a network, the source of every export format.

Letters: B clips, T frames, H, W.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from kinema.errors import InputShapeError
from kinema.inference.fold import fold_batch_norms
from kinema.models.network import VideoNetwork
from kinema.models.streaming import step_graph

INPUT, OUTPUT = "clips", "scores"
# A loaded file as a function from its inputs to its outputs.
Call = Callable[..., tuple[torch.Tensor, ...]]
# Key of the class names and preprocessing inside a file.
FACTS_KEY = "kinema"


@dataclass(frozen=True)
class Graph:
    """Traced network for exporters, with the names of its inputs and outputs.

    Attributes:
        shapes: Shape of each input; "batch" is a free dimension.
        facts: JSON with class names and preprocessing, stored in the file.
    """

    program: torch.export.ExportedProgram
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: tuple[tuple[int | str, ...], ...]
    facts: str


def clip_graph(net: VideoNetwork, *, size: int, facts: dict[str, Any]) -> Graph:
    """Traces clips (batch, T, 3, size, size) to scores (batch, K), with folded norms.

    Raises:
        InputShapeError: the network does not accept frames of this size.
        OptionError: the network is in training mode.
    """
    example = torch.zeros(2, net.clip_frames, 3, size, size)
    folded = fold_batch_norms(net).cpu().float()
    try:
        with torch.inference_mode():
            folded(example)
    except RuntimeError as error:
        raise InputShapeError(
            f"{net.name} does not accept frames of {size} x {size} pixels: {error}"
        ) from error
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = _traced(folded, (example,), ({0: batch},))
    shape = ("batch", *example.shape[1:])
    return Graph(program, (INPUT,), (OUTPUT,), (shape,), json.dumps(facts))


def stream_graph(net: VideoNetwork, *, size: int, streams: int, facts: dict[str, Any]) -> Graph:
    """Traces a step: frames (streams, 3, size, size), state to scores (streams, K), next state.

    Raises:
        OptionError: the network is not causal, or is in training mode.
    """
    step = step_graph(fold_batch_norms(net).cpu().float(), size=size, batch=streams)
    shapes = tuple(tuple(tensor.shape) for tensor in step.inputs)
    program = _traced(step.module, step.inputs, None)
    return Graph(program, step.input_names, step.output_names, shapes, json.dumps(facts))


def _traced(
    module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], free: Any
) -> torch.export.ExportedProgram:
    with quiet(), torch.no_grad():
        program = torch.export.export(module, inputs, dynamic_shapes=free)
    for part in program.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            # Files would name the source files of this machine.
            node.meta.pop("stack_trace", None)
    return program


@contextmanager
def quiet() -> Iterator[None]:
    """Silences log messages and warnings of the exporters."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "nncf")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
