"""ONNX files, run by ONNX Runtime."""

from collections.abc import Iterable
from pathlib import Path

import torch

from kinema.errors import OptionError, missing_extra
from kinema.exporters.quantize import quantized
from kinema.inference.graph import FACTS_KEY, Call, Graph, quiet

OPSET = 18


def write_onnx(
    graph: Graph, path: Path, *, calibration: Iterable[torch.Tensor] | None = None
) -> None:
    """Writes an ONNX file with its weights inside.

    With batches of clips for calibration, layers are int8, between nodes that quantize and
    dequantize.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ImportError as error:
        raise missing_extra("Writing an ONNX file", error.name, "export") from error
    with quiet():
        program = torch.onnx.export(
            graph.program,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        model = program.model_proto
    if graph.shapes[0][0] == "batch":
        # The name of the free dimension is part of the interface.
        for value in (*model.graph.input, *model.graph.output):
            batch = value.type.tensor_type.shape.dim[0]
            if not batch.dim_param:
                raise OptionError("The exporter fixed the number of clips in the ONNX file.")
            batch.dim_param = "batch"
    onnx.checker.check_model(model)
    if calibration is not None:
        # ONNX Runtime has no kernels for int8 activations with a scale per channel.
        model = quantized(model, calibration, scale_per_channel=False)
    onnx.helper.set_model_props(model, {FACTS_KEY: graph.facts})
    onnx.save_model(model, path)


def load_onnx(path: Path) -> Call:
    """Loads the file as a function of tensors, on the CPU with PyTorch's number of threads."""
    try:
        import onnxruntime
    except ImportError as error:
        raise missing_extra("Running an ONNX file", "onnxruntime", "export") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def call(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return tuple(torch.from_numpy(array) for array in session.run(None, given))

    return call
