"""Strict import of published checkpoints: every tensor of both sides must match."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kinema.errors import CheckpointError, TensorMismatchError
from kinema.models.convert.names import common_name, common_names, is_never_used, is_pooled
from kinema.models.network import VideoNetwork
from kinema.models.weights import COUNTER, read_config_text, read_tensors, some
from kinema.models.zoo import create_model

_log = logging.getLogger(__name__)

OWN_CLASSIFIER = "head.classifier.weight"
# Common form of the names in the head of a TRN.
_SCALES = "head.relations.scales."
# Number of names that an error message shows of each list; the error object holds all.
SHOWN = 8


@dataclass(frozen=True)
class Imported:
    """Imported network, and the tensor of the file that filled each of its own.

    `file_frames` is the T of the file, if a weight depends on it.
    """

    net: VideoNetwork
    matched: tuple[tuple[str, str], ...]
    file_frames: int | None = None


def import_checkpoint(
    file: str | Path, *, model: str, frames: int | None = None, causal: bool = False, **options: Any
) -> Imported:
    """Builds the network `model` and fills it from a published checkpoint.

    Supports the files of the authors of TSM (ResNet-50, non-local, MobileNetV2 and its online
    form), TEA, TAM, GST, GSF, ACTION-Net, MSNet, CT-Net, SmallBigNet and TDN, of mmaction2's TSN,
    TSM, TIN, TRN and TANet, of torchvision and timm for networks without temporal weights, and
    files that `torch.save(net.state_dict(), FILE)` writes of a kinema network. The number of
    classes is read from the file.

    Args:
        file: A torch or safetensors file; code in it is not executed.
        model: Name of the network, such as "tsm_resnet50".
        frames: T. If weights depend on it (TANet, TIN), the default is the file's T and another T
            resamples them, which TRN refuses. Otherwise the default is that of the configuration
            that mmaction2 stores in its files; without one it is 8, with a warning.
        causal: For checkpoints of causal (online) networks.
        **options: Options of `create_model`, such as beta=1 for GST-Large, or mode for mmaction2's
            non-local blocks if the file does not hold its configuration. `temporal_pool` is set
            for files of TSM's code whose names show it.

    Raises:
        TensorMismatchError: tensors of the file or of the network have no counterpart.
        CheckpointError: the file cannot be read, a shape differs, or `mode` is needed.
    """
    tensors = read_tensors(file)
    ours_alone = OWN_CLASSIFIER in tensors  # torch.save(net.state_dict()) of a kinema network
    renamed = {n: common_name(n) for n in tensors} if ours_alone else common_names(tensors)
    by_common = {
        renamed[name]: name
        for name in tensors
        if not (name.endswith(COUNTER) or is_never_used(name))
    }
    own_frames = _frames_in(tensors, renamed)
    if is_pooled(tensors):
        options["temporal_pool"] = True
    if any(common.endswith(".nl.g.0.weight") for common in by_common):
        options = _nonlocal_options(file, tensors, by_common, options) | options
    net = create_model(
        model,
        classes=_classes_in(file, tensors, by_common),
        frames=own_frames or frames or _frames_trained_on(file),
        causal=causal,
        **options,
    )
    ours = {common_name(n): n for n in net.state_dict() if not n.endswith(COUNTER)}
    _check_complete(file, model, ours, by_common)
    matched = tuple((by_common[common], own) for common, own in ours.items())
    state = net.state_dict()
    state |= {own: _shaped(file, name, tensors[name], state[own]) for name, own in matched}
    net.load_state_dict(state)
    if frames is not None and frames != net.frames:
        net.interpolate_frames(frames)
    return Imported(net.eval(), matched, own_frames)


def _classes_in(
    file: str | Path, tensors: dict[str, torch.Tensor], by_common: dict[str, str]
) -> int:
    # The first linear layer of mmaction2's TRN reduces features; the last ones have the classes.
    for common in (f"{_SCALES}0.3.bias", "head.bias", "head.weight"):
        if common in by_common:
            return int(tensors[by_common[common]].shape[0])
    raise CheckpointError(
        f"{file} holds no classifier (new_fc, fc, classifier or cls_head.fc_cls), so it is not "
        "a checkpoint of a recognition network. A new network can start from a backbone's weights: "
        "kinema import FILE --classes K, or model.weights = FILE in a recipe."
    )


def _frames_in(tensors: dict[str, torch.Tensor], renamed: dict[str, str]) -> int | None:
    """T of the file, if a weight depends on it."""
    for name, tensor in tensors.items():
        if renamed[name].endswith((".tam.G.0.weight", ".tin.offset.fc1.weight")):
            return int(tensor.shape[1])
    # TRN has a network for every number of frames from T down to 2.
    scales = {name.split(".")[3] for name in renamed.values() if name.startswith(_SCALES)}
    return len(scales) + 1 if scales else None


def _frames_trained_on(file: str | Path) -> int:
    """T of the configuration in a file; 8, with a warning, if there is none."""
    stated = set(re.findall(r"\bnum_segments\s*=\s*(\d+)", read_config_text(file)))
    if len(stated) == 1:
        return int(stated.pop())
    _log.warning(
        "%s does not say how many frames its clips had, so 8 are taken. If its name or page says "
        "otherwise (segment16, 1x1x16), or that its clips were dense, import it again with "
        "frames=16 (kinema import --frames 16), or --dense.",
        file,
    )
    return 8


def _nonlocal_options(
    file: str | Path,
    tensors: dict[str, torch.Tensor],
    by_common: dict[str, str],
    given: dict[str, Any],
) -> dict[str, Any]:
    """Options of the non-local blocks of a file.

    mmaction2's blocks of mode "embedded_gaussian" and "dot_product" have the same tensors.
    """
    found: dict[str, Any] = {}
    if not any(".nl.W.0.bias" in common for common in by_common):
        found["out_bias"] = False
    if not any(".nl.theta." in common for common in by_common):
        found["mode"] = "gaussian"
    elif "mode" not in given and any(".non_local_block." in name for name in tensors):
        modes = set(re.findall(r"\bmode\s*=\s*['\"](\w+)['\"]", read_config_text(file)))
        if len(modes) != 1:
            raise CheckpointError(
                f"{file} does not say how its non-local blocks compare positions. Give "
                "mode='embedded_gaussian' or mode='dot_product', as the page that publishes the "
                "file says (on the command line: --option mode=dot_product)."
            )
        found["mode"] = modes.pop()
    return found


def _check_complete(
    file: str | Path, model: str, ours: dict[str, str], by_common: dict[str, str]
) -> None:
    missing = tuple(own for common, own in ours.items() if common not in by_common)
    unused = tuple(name for common, name in by_common.items() if common not in ours)
    if not missing and not unused:
        return
    lines = [f"{file} does not fit {model}."]
    if unused:
        lines.append(f"{len(unused)} tensors of the file have no place: {some(unused, SHOWN)}.")
    if missing:
        lines.append(
            f"{len(missing)} tensors of the network are not filled: {some(missing, SHOWN)}."
        )
    lines.append("Name the network that the file was trained as.")
    raise TensorMismatchError(" ".join(lines), unused=unused, missing=missing)


def _shaped(
    file: str | Path, name: str, tensor: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    """Reshapes a tensor to the target's shape, which may differ by axes of length 1 only."""
    if [s for s in tensor.shape if s != 1] != [s for s in target.shape if s != 1]:
        raise CheckpointError(
            f"{file}: {name} has shape {tuple(tensor.shape)}, the network expects "
            f"{tuple(target.shape)}."
        )
    return tensor.reshape(target.shape)
