"""Export of a network: writes a file, runs it and compares it with the network.

Letters: B clips, T frames, H, W.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from kinema.errors import InputShapeError, OptionError, did_you_mean
from kinema.exporters.onnx_file import load_onnx, write_onnx
from kinema.exporters.openvino_file import load_openvino, write_openvino
from kinema.exporters.torch_file import load_exported, load_package, write_exported, write_package
from kinema.exporters.verify import Verification, verify_clips, verify_stream
from kinema.inference.graph import Call, Graph, clip_graph, stream_graph
from kinema.models.network import VideoNetwork
from kinema.system.files import check_writable, naming_write_errors, partial_of
from kinema.values import Preprocessing

# Maximum difference between the scores of a float file and of the network, relative to the largest
# score.
TOLERANCE = 1e-3
# A disk with less free space is full.
_HARDLY_FREE_BYTES = 1 << 20


@dataclass(frozen=True)
class Format:
    """File format."""

    suffix: str
    write: Callable[..., None]  # of a graph to a path
    load: Callable[[Path], Call]
    int8: bool = False  # `write` takes `calibration`, batches of clips
    companion: str | None = None  # suffix of a second file beside it


FORMATS = {
    "onnx": Format(".onnx", write_onnx, load_onnx, int8=True),
    "openvino": Format(".xml", write_openvino, load_openvino, int8=True, companion=".bin"),
    "exported": Format(".pt2", write_exported, load_exported),
    "aoti": Format(".aoti.pt2", write_package, load_package),
}


@dataclass(frozen=True)
class Facts:
    """Facts for users of the file, stored inside it as JSON.

    Attributes:
        labels: The K class names.
        preprocessing: Sampling and preprocessing of clips.
    """

    labels: tuple[str, ...]
    preprocessing: Preprocessing


@dataclass(frozen=True)
class ExportReport:
    """Result of an export.

    Attributes:
        path: The file.
        format: Format, a key of `FORMATS`.
        int8: True if it computes with 8 bits.
        inputs: Shape of every input by name; "batch" stands for a free number.
        bytes: Size of all files.
        verification: Comparison with the network; None if it was skipped.
    """

    path: Path
    format: str
    int8: bool
    inputs: dict[str, tuple[str | int, ...]]
    bytes: int
    verification: Verification | None


def export(  # noqa: PLR0913 - the public door to all formats
    net: VideoNetwork,
    path: str | Path,
    *,
    format: str | None = None,
    size: int = 224,
    facts: Facts | None = None,
    clips: torch.Tensor | None = None,
    calibration: Iterable[torch.Tensor] | None = None,
    verify: bool = True,
    overwrite: bool = False,
) -> ExportReport:
    """Exports a network to another runtime and verifies the file by running it.

    The file takes any number of clips of one size; its norms are folded.

    Args:
        net: The network, in eval mode.
        path: The file; its suffix selects the format: .onnx (opset 18), .xml (OpenVINO), .pt2
            (torch.export) or .aoti.pt2 (AOTInductor: machine code for this kind of processor).
        format: Format, if the suffix is another.
        size: Height and width of the frames in pixels.
        facts: Class names and preprocessing to store in the file.
        clips: Normalized clips (B, T, 3, size, size) for verification, preferably real ones;
            default: noise, which says nothing about the agreement of top-1 classes.
        calibration: Batches of real clips; if given, layers compute in int8 (ONNX, OpenVINO).
        verify: Runs the file and compares it with the network.
        overwrite: Allows replacing an older file, which happens after verification.

    Raises:
        OptionError: the format is unknown or has no int8, the network is in training mode, the
            file exists, or its scores differ by more than `TOLERANCE`.
        InputShapeError: the clips have another shape, or the network does not accept this size.
        MissingExtraError: the runtime is not installed.
        OutputError: the file cannot be written.

    Example:
        `export(net, "tsm.onnx", clips=clips).verification.max_abs_diff`
    """
    shape = (net.clip_frames, 3, size, size)
    samples = clips if clips is not None else torch.randn(2, *shape)
    if samples.ndim != 5 or len(samples) == 0 or samples.shape[1:] != shape:
        raise InputShapeError(
            f"The clips to verify with must have the shape (B, {net.clip_frames}, 3, {size}, "
            f"{size}), got {tuple(samples.shape)}."
        )
    target, kind = _target(path, format, int8=calibration is not None, overwrite=overwrite)
    graph = clip_graph(net, size=size, facts=_document(net, size, facts))
    compare = partial(verify_clips, net=net, clips_BTCHW=samples) if verify else None
    return _write(graph, target, kind, compare, calibration)


def export_stream(
    net: VideoNetwork,
    path: str | Path,
    *,
    format: str | None = None,
    size: int = 224,
    streams: int = 1,
    facts: Facts | None = None,
    video: torch.Tensor | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Exports a step of a causal network: from new frames and state to scores and next state.

    The first input is `frames` (streams, 3, size, size), followed by the tensors of the state,
    `state_0` and so on; the outputs are `scores` (streams, K) and `next_state_0` and so on, the
    state of the next step. A stream starts with a state of zeros.

    Args:
        net: A causal network in eval mode (`net.streaming`).
        path: See `export`.
        format: See `export`.
        size: See `export`.
        streams: Number of parallel streams.
        facts: See `export`.
        video: Normalized frames (streams, n, 3, size, size) for verification; default: 64 frames
            of noise.
        overwrite: See `export`.

    Raises:
        OptionError: see `export`; also if the network is not causal.
        InputShapeError: the video has another shape.
        MissingExtraError: the runtime is not installed.
    """
    frames = video if video is not None else torch.randn(streams, 64, 3, size, size)
    if frames.ndim != 5 or frames.shape[0] != streams or frames.shape[2:] != (3, size, size):
        raise InputShapeError(
            f"The video to verify with must have the shape ({streams}, n, 3, {size}, {size}), got "
            f"{tuple(frames.shape)}."
        )
    target, kind = _target(path, format, int8=False, overwrite=overwrite)
    graph = stream_graph(net, size=size, streams=streams, facts=_document(net, size, facts))
    compare = partial(verify_stream, net=net, graph=graph, frames_BTCHW=frames)
    return _write(graph, target, kind, compare, None)


def _target(
    path: str | Path, format: str | None, *, int8: bool, overwrite: bool
) -> tuple[Path, str]:
    """Path and format of the file, checked before the export."""
    target = Path(path)
    kind = _format_of(target, format)
    if int8 and not FORMATS[kind].int8:
        raise OptionError(f"The format {kind} has no int8 form. Use onnx or openvino.")
    there = [file for file in _files(target, kind) if file.exists()]
    if there and not overwrite:
        raise OptionError(f"{there[0]} exists. Choose another name or overwrite it (--overwrite).")
    check_writable(target)
    return target, kind


def _write(
    graph: Graph,
    target: Path,
    kind: str,
    compare: Callable[[Call], Verification] | None,
    calibration: Iterable[torch.Tensor] | None,
) -> ExportReport:
    """Writes and verifies a file beside the target, then moves it into place."""
    writer, int8 = FORMATS[kind], calibration is not None
    temporary = partial_of(target, suffix=target.suffix)
    try:
        with naming_write_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch()
        try:
            writer.write(graph, temporary, **({"calibration": calibration} if int8 else {}))
        except OSError:
            with naming_write_errors(target):
                raise
        except RuntimeError as error:  # a library in C++, which does not give the reason
            if shutil.disk_usage(target.parent).free > _HARDLY_FREE_BYTES:
                raise
            with naming_write_errors(target):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        result = None if compare is None else compare(writer.load(temporary))
        # NaN is not within any tolerance.
        if result is not None and not int8 and not result.max_rel_diff <= TOLERANCE:
            raise OptionError(
                f"The exported file differs from the network by {result.max_rel_diff:.1e} of the "
                f"largest score; allowed is {TOLERANCE:.0e}. Nothing was written."
            )
        written = _files(target, kind)
        with naming_write_errors(target):
            for old, new in zip(_files(temporary, kind), written, strict=True):
                os.replace(old, new)
    finally:
        for leftover in _files(temporary, kind):
            with suppress(OSError):  # on a read-only disk there is none
                leftover.unlink()
    return ExportReport(
        path=target,
        format=kind,
        int8=int8,
        inputs=dict(zip(graph.inputs, graph.shapes, strict=True)),
        bytes=sum(file.stat().st_size for file in written),
        verification=result,
    )


def _format_of(path: Path, format: str | None) -> str:
    if format is None:
        # The longest suffix first: .aoti.pt2 ends in .pt2 too.
        suffixes = sorted(FORMATS, key=lambda name: -len(FORMATS[name].suffix))
        format = next((n for n in suffixes if path.name.endswith(FORMATS[n].suffix)), None)
        if format is None:
            known = ", ".join(f"{f.suffix} ({name})" for name, f in FORMATS.items())
            raise OptionError(
                f"The name {path.name} does not imply a format. Valid suffixes are: {known}."
            )
    if format not in FORMATS:
        raise OptionError(f"Unknown format {format!r}. " + did_you_mean(format, FORMATS))
    suffix = FORMATS[format].suffix
    if not path.name.endswith(suffix):
        raise OptionError(f"A file of the format {format} ends in {suffix}, got {path.name}.")
    return format


def _document(net: VideoNetwork, size: int, facts: Facts | None) -> dict[str, Any]:
    return {
        "kinema": version("kinema"),
        "network": net.name,
        "frames": net.frames,
        "size_px": size,
        "labels": list(facts.labels) if facts else None,
        "preprocessing": facts.preprocessing.to_dict() if facts else None,
    }


def _files(path: Path, kind: str) -> list[Path]:
    companion = FORMATS[kind].companion
    return [path] if companion is None else [path.with_suffix(companion), path]
