"""Post-training quantization to 8 bits, calibrated with a few hundred real clips.

Letters: B clips, T frames, H, W.
"""

from collections.abc import Iterable
from typing import Any

import torch

from kinema.errors import missing_extra
from kinema.inference.graph import INPUT, quiet


def quantized(
    model: Any, calibration: Iterable[torch.Tensor], *, scale_per_channel: bool | None = None
) -> Any:
    """Quantizes an ONNX or OpenVINO model to int8 convolutions and linear layers.

    Args:
        model: The model.
        calibration: Batches of clips (B, T, 3, H, W) that define the ranges of activations.
        scale_per_channel: Activations have a scale per channel; default: nncf's choice.
    """
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
