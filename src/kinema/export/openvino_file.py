"""OpenVINO's intermediate representation: an .xml file with its .bin file."""

from pathlib import Path
from typing import Any, Literal

import torch

from kinema.export.graph import FACTS_KEY, INPUT, OUTPUT, Source, missing, quiet, traced
from kinema.runtime import Run


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


def load_openvino(path: Path, *, precision: Literal["32", "bf16"] = "32", batch: int = 0) -> Run:
    """The file as a function from clips to scores, on the CPU with PyTorch's number of threads.

    Args:
        path: The .xml file.
        precision: Of the computation; int8 layers stay int8.
        batch: A fixed number of clips, which is faster; 0 leaves it free.
    """
    openvino = _openvino()
    core = openvino.Core()
    model = core.read_model(path)
    return compile_openvino(model, precision=precision, batch=batch)


def compile_openvino(model: Any, *, precision: Literal["32", "bf16"], batch: int = 0) -> Run:
    """See `load_openvino`."""
    if batch:
        model.reshape({INPUT: [batch, *list(model.inputs[0].partial_shape)[1:]]})
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32" if precision == "32" else "bf16",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    request = _openvino().Core().compile_model(model, "CPU", settings).create_infer_request()

    def run(clips_BTCHW: torch.Tensor) -> torch.Tensor:
        scores_BK = request.infer({INPUT: clips_BTCHW.numpy()})[OUTPUT]
        return torch.from_numpy(scores_BK.copy())

    return run


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise missing("openvino", "This format") from error
    return openvino
