"""Post-training quantization to 8 bits, calibrated with a few hundred real clips.

Letters: B clips, T frames, H, W.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from kinema.errors import missing_extra
from kinema.exporters.onnx_file import write_onnx
from kinema.exporters.openvino_file import save_openvino
from kinema.inference.graph import INPUT, Graph, quiet
from kinema.inference.openvino_model import openvino_model


def write_openvino_int8(graph: Graph, path: Path, *, calibration: Iterable[torch.Tensor]) -> None:
    """Writes an OpenVINO file with int8 convolutions and linear layers.

    Args:
        graph: The network.
        path: The .xml file.
        calibration: Clips (B, T, 3, H, W) that define the ranges of activations.
    """
    save_openvino(_quantized(openvino_model(graph), calibration), path)


def write_onnx_int8(graph: Graph, path: Path, *, calibration: Iterable[torch.Tensor]) -> None:
    """Writes an ONNX file with quantize and dequantize nodes around int8 layers."""
    import onnx

    write_onnx(graph, path)
    model = onnx.load_model(path)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    # ONNX Runtime has no kernels for int8 activations with a scale per channel.
    quantized = _quantized(model, calibration, scale_per_channel=False)
    onnx.helper.set_model_props(quantized, properties)
    onnx.save_model(quantized, path)


def _quantized(
    model: Any, calibration: Iterable[torch.Tensor], *, scale_per_channel: bool | None = None
) -> Any:
    """Quantizes a model; activations have a scale per channel if set, by default nncf's choice."""
    try:
        import nncf
        from nncf.quantization.advanced_parameters import (
            AdvancedQuantizationParameters,
            QuantizationParameters,
        )
    except ImportError as error:
        raise missing_extra("Quantizing to 8 bits", "nncf", "export") from error
    clips = [clip[None] for batch in calibration for clip in batch]
    dataset = nncf.Dataset(clips, lambda clip: {INPUT: clip.numpy()})
    activations = QuantizationParameters(per_channel=scale_per_channel)
    advanced = AdvancedQuantizationParameters(activations_quantization_params=activations)
    with quiet():
        return nncf.quantize(model, dataset, subset_size=len(clips), advanced_parameters=advanced)
