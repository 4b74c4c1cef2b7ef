"""The graph of a network, from which every format is written.

Letters: B clips, T frames, H, W.
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kinema.errors import InputShapeError, MissingExtraError
from kinema.models.fold import fold_batch_norms
from kinema.models.network import VideoNetwork

INPUT, OUTPUT = "clips", "scores"
# The key of the class names and the preprocessing inside a file.
FACTS_KEY = "kinema"


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        net: The network in eval mode with its norms folded.
        example: Clips (2, T, 3, H, W): the size of every input; any number of clips is accepted.
        facts: JSON with class names and preprocessing, kept inside the file.
    """

    net: VideoNetwork
    example: torch.Tensor
    facts: str


def source_of(net: VideoNetwork, *, size: int, facts: dict[str, Any]) -> Source:
    """Folds the norms of a copy, ready to be traced.

    Raises:
        InputShapeError: the network cannot take frames of this size.
    """
    example = torch.zeros(2, net.frames, 3, size, size)
    folded = fold_batch_norms(net).cpu().float()
    try:
        with torch.inference_mode():
            folded(example)
    except RuntimeError as error:
        raise InputShapeError(
            f"{net.name} cannot take frames of {size} x {size} pixels: {error}"
        ) from error
    return Source(folded, example, json.dumps(facts))


def traced(source: Source) -> torch.export.ExportedProgram:
    """The graph of PyTorch's operators, with any number of clips."""
    batch = torch.export.Dim("batch", min=1, max=4096)
    with quiet(), torch.no_grad():
        return torch.export.export(source.net, (source.example,), dynamic_shapes=({0: batch},))


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' own notes about their own insides."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "nncf")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def missing(package: str, wanted: str) -> MissingExtraError:
    """The error for a runtime that is not installed."""
    return MissingExtraError(
        f"{wanted} needs the package {package}. Install it with: pip install 'kinema[export]'"
    )


def temporary_beside(path: Path) -> Path:
    """A name in the same folder with the same suffix, for a file that is not whole yet."""
    return path.with_name(f".part-{path.name}")
