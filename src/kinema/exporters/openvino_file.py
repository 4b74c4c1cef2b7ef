"""OpenVINO files: an .xml file with its .bin file."""

from pathlib import Path
from typing import Any, Literal

from kinema.inference.graph import Call, Graph
from kinema.inference.openvino_model import compile_openvino, openvino_model, openvino_package


def write_openvino(graph: Graph, path: Path) -> None:
    """Writes the .xml file and, beside it, the .bin file with float32 weights."""
    save_openvino(openvino_model(graph), path)


def save_openvino(model: Any, path: Path) -> None:
    """Writes a model without compressing its weights."""
    openvino_package().save_model(model, path, compress_to_fp16=False)


def load_openvino(path: Path, *, precision: Literal["32", "bf16"] = "32") -> Call:
    """Loads the file as a function of tensors, on the CPU with PyTorch's number of threads.

    Args:
        path: The .xml file.
        precision: Precision of the computation; int8 layers stay int8.
    """
    return compile_openvino(openvino_package().Core().read_model(path), precision=precision)
