"""OpenVINO models of networks, compiled for the CPU."""

import ctypes
import functools
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from kinema.errors import missing_extra
from kinema.inference.graph import FACTS_KEY, Call, Graph, quiet


def openvino_model(graph: Graph) -> Any:
    """Converts a graph to an OpenVINO model."""
    openvino = openvino_package()
    with quiet():
        model = openvino.convert_model(graph.program.run_decompositions())
    names = (*graph.inputs, *graph.outputs)
    for port, name in zip((*model.inputs, *model.outputs), names, strict=True):
        port.get_tensor().set_names({name})
    shapes = zip(graph.inputs, graph.shapes, strict=True)
    model.reshape({name: [-1 if n == "batch" else n for n in shape] for name, shape in shapes})
    model.set_rt_info(graph.facts, [FACTS_KEY])
    return model


def compile_openvino(model: Any, *, precision: Literal["32", "bf16"]) -> Call:
    """Compiles a model to a function of tensors on the CPU, with PyTorch's number of threads.

    Kernels are compiled once per shape of the first input, which takes a second or two; dynamic
    shapes would be slower in every run.
    """
    openvino = openvino_package()
    core, shared = openvino.Core(), openvino.Tensor
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32" if precision == "32" else "bf16",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    free = model.is_dynamic()
    lock = threading.Lock()  # a request has one buffer per input and output

    @functools.lru_cache(maxsize=4)
    def request_for(shape: tuple[int, ...]) -> Any:
        fixed = model.clone()
        if free:
            fixed.reshape({fixed.inputs[0].any_name: list(shape)})
        with _signal_stack_kept():
            return core.compile_model(fixed, "CPU", settings).create_infer_request()

    def call(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with lock:
            request = request_for(tuple(inputs[0].shape))
            # Own output memory: the next call overwrites that of the request.
            outputs = [torch.empty(list(port.shape)) for port in request.model_outputs]
            for place, tensor in enumerate(outputs):
                request.set_output_tensor(place, shared(tensor.numpy(), shared_memory=True))
            request.infer([tensor.numpy() for tensor in inputs], share_inputs=True)
        return tuple(outputs)

    return call


class _SignalStack(ctypes.Structure):
    """`stack_t` of sigaltstack(2)."""

    _fields_ = (
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    )


@contextmanager
def _signal_stack_kept() -> Iterator[None]:
    """Restores the thread's alternate signal stack.

    OpenVINO's CPU plugin sets its own for every compiled model and, if models are freed in
    another order than they were created, leaves a freed one: the next signal, such as SIGCHLD,
    would crash the process.
    """
    if platform.system() != "Linux":
        yield
        return
    libc, before = ctypes.CDLL(None), _SignalStack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)


def openvino_package() -> Any:
    """Imports openvino, or raises an error that names the extra."""
    try:
        import openvino
    except ImportError as error:
        raise missing_extra("This format", "openvino", "export") from error
    return openvino
