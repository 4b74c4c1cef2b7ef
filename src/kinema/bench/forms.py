"""Forms of networks for `kinema bench model`, by name.

Letters: B clips, T frames, H, W.
"""

import copy
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from kinema.errors import OptionError, did_you_mean
from kinema.exporters.onnx_file import load_onnx, write_onnx
from kinema.exporters.openvino_file import load_openvino
from kinema.exporters.quantize import write_onnx_int8, write_openvino_int8
from kinema.exporters.torch_file import load_package, write_package
from kinema.inference.graph import Call, Graph, clip_graph
from kinema.inference.runtime import Form, build_run
from kinema.models.network import Run, VideoNetwork
from kinema.system.process import give_back_freed_memory, keep_freed_memory
from kinema.temporal.kernels.dispatch import reference_backend

Build = Callable[[VideoNetwork, torch.Tensor], Run]
_CALIBRATION_CLIPS = 4


def build_form(name: str, net: VideoNetwork, example: torch.Tensor) -> Run:
    """Builds a form of a network, a function from clips to scores.

    Raises:
        OptionError: the form does not exist.
        MissingExtraError: its runtime is not installed.
    """
    if name not in FORMS:
        raise OptionError(f"Unknown form {name!r}. " + did_you_mean(name, FORMS))
    return FORMS[name](net, example)


def prepare_memory(name: str) -> None:
    """Prepares memory for a timed run: only the authors' form returns freed memory."""
    if name == "authors":
        give_back_freed_memory()
    else:
        keep_freed_memory()


def _authors(net: VideoNetwork, example: torch.Tensor) -> Run:
    plain = copy.deepcopy(net)
    plain.channels_last = False

    @torch.inference_mode()
    def run(clips_BTCHW: torch.Tensor) -> torch.Tensor:
        with reference_backend():
            scores: torch.Tensor = plain(clips_BTCHW)
        return scores

    return run


def _eager(net: VideoNetwork, example: torch.Tensor) -> Run:
    laid_out = copy.deepcopy(net).lay_out_weights()

    @torch.inference_mode()
    def run(clips_BTCHW: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = laid_out(clips_BTCHW)
        return scores

    return run


def _runtime(form: Form) -> Build:
    return lambda net, example: build_run(net, form, example)


def _in_file(
    suffix: str, write: Callable[[Graph, Path], None], load: Callable[[Path], Call]
) -> Build:
    def build(net: VideoNetwork, example: torch.Tensor) -> Run:
        with tempfile.TemporaryDirectory(prefix="kinema-bench-") as folder:
            path = Path(folder) / f"net{suffix}"
            write(clip_graph(net, size=example.shape[-1], facts={}), path)
            call = load(path)
        return lambda clips_BTCHW: call(clips_BTCHW)[0]

    return build


def _int8(write: Callable[..., None]) -> Callable[[Graph, Path], None]:
    """Quantizes with ranges from noise, which is right for timing but not for accuracy."""

    def write_from_noise(graph: Graph, path: Path) -> None:
        shape = [int(side) for side in graph.shapes[0][1:]]
        write(graph, path, calibration=[torch.randn(_CALIBRATION_CLIPS, *shape)])

    return write_from_noise


FORMS: dict[str, Build] = {
    "authors": _authors,
    "eager-32": _eager,
    "folded-32": _runtime(Form("eager", "32")),
    "folded-bf16": _runtime(Form("eager", "bf16")),
    "fused-32": _runtime(Form("fused", "32")),
    "fused-bf16": _runtime(Form("fused", "bf16")),
    "compiled-32": _runtime(Form("compiled", "32")),
    "compiled-bf16": _runtime(Form("compiled", "bf16")),
    "aoti-32": _in_file(".aoti.pt2", write_package, load_package),
    "onnx-32": _in_file(".onnx", write_onnx, load_onnx),
    "onnx-int8": _in_file(".onnx", _int8(write_onnx_int8), load_onnx),
    "openvino-32": _runtime(Form("openvino", "32")),
    "openvino-bf16": _runtime(Form("openvino", "bf16")),
    "openvino-int8": _in_file(
        ".xml", _int8(write_openvino_int8), partial(load_openvino, precision="bf16")
    ),
}
