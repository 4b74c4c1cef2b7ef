"""The forms in which `kinema bench model` runs a network, by name.

Letters: B clips, T frames, H, W.
"""

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from kinema.errors import OptionError, did_you_mean
from kinema.export.graph import source_of
from kinema.export.onnx_file import load_onnx, write_onnx
from kinema.export.openvino_file import load_openvino
from kinema.export.quantize import write_onnx_int8, write_openvino_int8
from kinema.export.torch_file import load_package, write_package
from kinema.memory import give_back_freed_memory, keep_freed_memory
from kinema.models.network import Run, VideoNetwork
from kinema.runtime import Form, build_run
from kinema.temporal.kernels.engine import as_the_authors

Build = Callable[[VideoNetwork, torch.Tensor], Run]
# Clips that int8 forms take their ranges from: enough for a time, not for accuracy.
_CALIBRATION_CLIPS = 4


def build_form(name: str, net: VideoNetwork, example: torch.Tensor) -> Run:
    """A function from clips to scores.

    Raises:
        OptionError: there is no form of this name.
        MissingExtraError: its runtime is not installed.
    """
    if name not in FORMS:
        raise OptionError(f"Unknown form {name!r}. " + did_you_mean(name, FORMS))
    return FORMS[name](net, example)


def prepare_memory(name: str) -> None:
    """Before a timed run: only the authors' form gives freed memory back after every step."""
    if name == "authors":
        give_back_freed_memory()
    else:
        keep_freed_memory()


def _authors(net: VideoNetwork, example: torch.Tensor) -> Run:
    plain = copy.deepcopy(net)
    plain.channels_last = False

    @torch.inference_mode()
    def run(clips_BTCHW: torch.Tensor) -> torch.Tensor:
        with as_the_authors():
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


def _in_file(suffix: str, build: Callable[[VideoNetwork, torch.Tensor, Path], Run]) -> Build:
    def from_file(net: VideoNetwork, example: torch.Tensor) -> Run:
        with tempfile.TemporaryDirectory(prefix="kinema-bench-") as folder:
            return build(net, example, Path(folder) / f"net{suffix}")

    return from_file


def _openvino_int8(net: VideoNetwork, example: torch.Tensor, path: Path) -> Run:
    source = source_of(net, size=example.shape[-1], facts={})
    write_openvino_int8(source, path, calibration=[example[:_CALIBRATION_CLIPS]])
    return load_openvino(path, precision="bf16")


def _onnx(net: VideoNetwork, example: torch.Tensor, path: Path) -> Run:
    write_onnx(source_of(net, size=example.shape[-1], facts={}), path)
    return load_onnx(path)


def _onnx_int8(net: VideoNetwork, example: torch.Tensor, path: Path) -> Run:
    source = source_of(net, size=example.shape[-1], facts={})
    write_onnx_int8(source, path, calibration=[example[:_CALIBRATION_CLIPS]])
    return load_onnx(path)


def _package(net: VideoNetwork, example: torch.Tensor, path: Path) -> Run:
    write_package(source_of(net, size=example.shape[-1], facts={}), path)
    return load_package(path)


FORMS: dict[str, Build] = {
    "authors": _authors,
    "eager-32": _eager,
    "folded-32": _runtime(Form("eager", "32")),
    "folded-bf16": _runtime(Form("eager", "bf16")),
    "fused-32": _runtime(Form("fused", "32")),
    "fused-bf16": _runtime(Form("fused", "bf16")),
    "compiled-32": _runtime(Form("compiled", "32")),
    "compiled-bf16": _runtime(Form("compiled", "bf16")),
    "aoti-32": _in_file(".aoti.pt2", _package),
    "onnx-32": _in_file(".onnx", _onnx),
    "onnx-int8": _in_file(".onnx", _onnx_int8),
    "openvino-32": _runtime(Form("openvino", "32")),
    "openvino-bf16": _runtime(Form("openvino", "bf16")),
    "openvino-int8": _in_file(".xml", _openvino_int8),
}
