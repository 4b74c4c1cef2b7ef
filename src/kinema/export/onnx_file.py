"""ONNX files, run by ONNX Runtime."""

from pathlib import Path
from typing import Any

import torch

from kinema.errors import OptionError
from kinema.export.graph import FACTS_KEY, INPUT, OUTPUT, Source, missing, quiet, traced
from kinema.models.network import Run

OPSET = 18


def write_onnx(source: Source, path: Path) -> None:
    """Writes one file with the weights inside and a free number of clips."""
    onnx = _onnx()
    with quiet():
        program = torch.onnx.export(
            traced(source),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        model = program.model_proto
    _name_the_batch(model)
    onnx.helper.set_model_props(model, {FACTS_KEY: source.facts})
    onnx.checker.check_model(model)
    onnx.save_model(model, path)


def load_onnx(path: Path) -> Run:
    """The file as a function from clips to scores, on the CPU with PyTorch's number of threads."""
    try:
        import onnxruntime
    except ImportError as error:
        raise missing("onnxruntime", "Running an ONNX file") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(clips_BTCHW: torch.Tensor) -> torch.Tensor:
        (scores_BK,) = session.run([OUTPUT], {INPUT: clips_BTCHW.numpy()})
        return torch.from_numpy(scores_BK)

    return run


def opset_of(path: Path) -> int:
    """The version of the standard operators that a file uses."""
    model = _onnx().load_model(path, load_external_data=False)
    return int(next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")))


def _name_the_batch(model: Any) -> None:
    """The exporter invents a name for the free dimension; ours is part of the interface."""
    for value in (*model.graph.input, *model.graph.output):
        batch = value.type.tensor_type.shape.dim[0]
        if not batch.dim_param:
            raise OptionError("The number of clips was fixed while exporting to ONNX.")
        batch.dim_param = "batch"


def _onnx() -> Any:
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ImportError as error:
        raise missing("onnx and onnxscript", "Writing an ONNX file") from error
    return onnx
