"""Forms of networks for `kinema bench model`, by name.

Letters: B clips, T frames, H, W.
"""

import copy
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch

from kinema.errors import OptionError, did_you_mean
from kinema.exporters import FORMATS as FILES
from kinema.exporters.openvino_file import load_openvino
from kinema.inference.graph import Call, clip_graph
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


def _eager(net: VideoNetwork, example: torch.Tensor, *, as_authors: bool = False) -> Run:
    plain = copy.deepcopy(net)
    if as_authors:
        plain.channels_last = False
    else:
        plain.lay_out_weights()

    @torch.inference_mode()
    def run(clips_BTCHW: torch.Tensor) -> torch.Tensor:
        with reference_backend() if as_authors else nullcontext():
            scores: torch.Tensor = plain(clips_BTCHW)
        return scores

    return run


def _runtime(form: Form) -> Build:
    return lambda net, example: build_run(net, form, example)


def _in_file(
    format: str, *, int8: bool = False, load: Callable[[Path], Call] | None = None
) -> Build:
    """Form of an exported file, in int8 with ranges from noise: right for timing only."""

    def build(net: VideoNetwork, example: torch.Tensor) -> Run:
        file, shape = FILES[format], (_CALIBRATION_CLIPS, *example.shape[1:])
        options = {"calibration": [torch.randn(shape)]} if int8 else {}
        with tempfile.TemporaryDirectory(prefix="kinema-bench-") as folder:
            path = Path(folder) / f"net{file.suffix}"
            file.write(clip_graph(net, size=example.shape[-1], facts={}), path, **options)
            call = (load or file.load)(path)
        return lambda clips_BTCHW: call(clips_BTCHW)[0]

    return build


FORMS: dict[str, Build] = {
    "authors": partial(_eager, as_authors=True),
    "eager-32": _eager,
    "folded-32": _runtime(Form("eager", "32")),
    "folded-bf16": _runtime(Form("eager", "bf16")),
    "fused-32": _runtime(Form("fused", "32")),
    "fused-bf16": _runtime(Form("fused", "bf16")),
    "compiled-32": _runtime(Form("compiled", "32")),
    "compiled-bf16": _runtime(Form("compiled", "bf16")),
    "aoti-32": _in_file("aoti"),
    "onnx-32": _in_file("onnx"),
    "onnx-int8": _in_file("onnx", int8=True),
    "openvino-32": _runtime(Form("openvino", "32")),
    "openvino-bf16": _runtime(Form("openvino", "bf16")),
    "openvino-int8": _in_file("openvino", int8=True, load=partial(load_openvino, precision="bf16")),
}
