"""OpenVINO files: an .xml file with its .bin file."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch

from kinema.exporters.quantize import quantized
from kinema.inference.graph import Call, Graph
from kinema.inference.openvino_model import compile_openvino, openvino_model, openvino_package


def write_openvino(
    graph: Graph, path: Path, *, calibration: Iterable[torch.Tensor] | None = None
) -> None:
    """Writes the .xml file and, beside it, the .bin file with uncompressed weights.

    With batches of clips for calibration, convolutions and linear layers are int8.
    """
    model = openvino_model(graph)
    if calibration is not None:
        model = quantized(model, calibration)
    openvino_package().save_model(model, path, compress_to_fp16=False)


def load_openvino(path: Path, *, precision: Literal["32", "bf16"] = "32") -> Call:
    """Loads the file as a function of tensors, on the CPU with PyTorch's number of threads.

    Args:
        path: The .xml file.
        precision: Precision of the computation; int8 layers stay int8.
    """
    return compile_openvino(openvino_package().Core().read_model(path), precision=precision)
