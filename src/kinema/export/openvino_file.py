"""OpenVINO's intermediate representation: an .xml file with its .bin file."""

import ctypes
import functools
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from kinema.export.graph import FACTS_KEY, INPUT, OUTPUT, Source, missing, quiet, traced
from kinema.models.network import Run


def openvino_model(source: Source) -> Any:
    """The network as an OpenVINO model with a free number of clips."""
    openvino = _openvino()
    with quiet():
        model = openvino.convert_model(traced(source).run_decompositions())
    model.inputs[0].get_tensor().set_names({INPUT})
    model.outputs[0].get_tensor().set_names({OUTPUT})
    model.reshape({INPUT: [-1, *source.example.shape[1:]]})
    model.set_rt_info(source.facts, [FACTS_KEY])
    return model


def write_openvino(source: Source, path: Path) -> None:
    """Writes the .xml file and, beside it, the .bin file with float32 weights."""
    save_openvino(openvino_model(source), path)


def save_openvino(model: Any, path: Path) -> None:
    """Writes a model as it is."""
    _openvino().save_model(model, path, compress_to_fp16=False)


def load_openvino(path: Path, *, precision: Literal["32", "bf16"] = "32") -> Run:
    """The file as a function from clips to scores, on the CPU with PyTorch's number of threads.

    Args:
        path: The .xml file.
        precision: Of the computation; int8 layers stay int8.
    """
    return compile_openvino(_openvino().Core().read_model(path), precision=precision)


def compile_openvino(model: Any, *, precision: Literal["32", "bf16"]) -> Run:
    """See `load_openvino`.

    The kernels are made for every number of clips when it first comes: that takes a second or
    two, but a free batch would be slower in every run.
    """
    core = _openvino().Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32" if precision == "32" else "bf16",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }

    @functools.lru_cache(maxsize=4)
    def request_for(clips: int) -> Any:
        fixed = model.clone()
        fixed.reshape({INPUT: [clips, *list(model.inputs[0].partial_shape)[1:]]})
        with _signal_stack_kept():
            return core.compile_model(fixed, "CPU", settings).create_infer_request()

    def run(clips_BTCHW: torch.Tensor) -> torch.Tensor:
        request = request_for(len(clips_BTCHW))
        scores_BK = request.infer({INPUT: clips_BTCHW.numpy()})[OUTPUT]
        return torch.from_numpy(scores_BK.copy())

    return run


class _SignalStack(ctypes.Structure):
    """`stack_t` of sigaltstack(2)."""

    _fields_ = (
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    )


@contextmanager
def _signal_stack_kept() -> Iterator[None]:
    """Puts back the thread's alternate signal stack.

    OpenVINO's CPU plugin sets one of its own for every compiled model and, when models are freed
    in another order than they were made, leaves one that is freed already: the next signal, such
    as that of an ended child process, would then crash the process.
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


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise missing("openvino", "This format") from error
    return openvino
