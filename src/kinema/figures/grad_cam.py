"""Grad-CAM per frame of clips whose frames are folded into the batch.

Letters: B clips, T frames, N = B*R frames at a layer (R is T, or fewer), C channels, h, w,
K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kinema.errors import OptionError, UnknownNameError, did_you_mean
from kinema.figures.capture import check_eval
from kinema.models.network import VideoNetwork


@dataclass(frozen=True)
class CamMaps:
    """Grad-CAM maps of one class per clip.

    Attributes:
        layer: Name of the layer in the backbone.
        classes: Class of each clip, (B,).
        scores: Scores before softmax, (B, K).
        maps: Grad-CAM (B, R, h, w), non-negative and unscaled; R is T, or fewer if the layer sees
            only every (T/R)th frame.
    """

    layer: str
    classes: tuple[int, ...]
    scores: NDArray[np.float32]
    maps: NDArray[np.float32]


def grad_cam(
    net: VideoNetwork,
    clips: torch.Tensor,
    *,
    classes: Sequence[int] | None = None,
    layer: str | None = None,
    source: str | None = None,
) -> CamMaps:
    """Computes Grad-CAM (Selvaraju et al., ICCV 2017, arXiv 1610.02391, eq. 1-2) of every frame.

    Each frame has its own channel weights: the spatial mean of the gradient of the clip's score
    at this frame. A frame that the score depends on more, also through later temporal modules,
    thus has larger values. Clips do not influence each other.

    Args:
        net: The network, in eval mode.
        clips: (B, T, 3, H, W) float, normalized.
        classes: Class per clip; default: the predicted ones.
        layer: Name in the backbone, such as "layer4.1", or a stage, such as "res5"; default: the
            last stage.
        source: Source of the network, for messages.

    Raises:
        UnknownNameError: the layer does not exist.
        OptionError: a class does not exist, or the layer's output is not a feature map of frames.
    """
    check_eval(net)
    source = source or net.name
    _check_classes(net, classes, len(clips), source)
    name = layer_named(net, layer, source=source)
    leaves: list[torch.Tensor] = []

    def cut(_: nn.Module, inputs: tuple[object, ...], output: object) -> torch.Tensor:
        """Starts the gradient at this layer; earlier ones need none."""
        leaf_NChw = _feature_map(output, len(clips), name).detach().requires_grad_()
        leaves.append(leaf_NChw)
        return leaf_NChw.clone()  # later layers may work in place

    handle = net.backbone.get_submodule(name).register_forward_hook(cut)
    try:
        with torch.enable_grad():
            scores_BK = net(clips.to(next(net.parameters()).device))
    finally:
        handle.remove()
    if len(leaves) != 1:
        raise OptionError(
            f"Layer {name!r} runs {len(leaves)} times in a pass through {net.name}; Grad-CAM needs "
            "one that runs once."
        )
    chosen = scores_BK.argmax(1) if classes is None else torch.tensor(classes).to(scores_BK.device)
    wanted = scores_BK.gather(1, chosen[:, None]).sum()
    (gradient_NChw,) = torch.autograd.grad(wanted, leaves)
    weights_NC = gradient_NChw.mean((2, 3))
    maps_Nhw = torch.einsum("nc,nchw->nhw", weights_NC, leaves[0].detach()).relu()
    return CamMaps(
        layer=name,
        classes=tuple(chosen.tolist()),
        scores=scores_BK.detach().float().cpu().numpy(),
        maps=torch.unflatten(maps_Nhw, 0, (len(clips), -1)).float().cpu().numpy(),
    )


def _check_classes(
    net: VideoNetwork, classes: Sequence[int] | None, clips: int, source: str
) -> None:
    if classes is not None and len(classes) != clips:
        raise OptionError(f"One class for each of the {clips} clips, got {len(classes)}.")
    for label in classes or ():
        if not 0 <= label < net.classes:
            raise OptionError(
                f"{source} has classes 0 to {net.classes - 1}, so there is no class {label}."
            )


def layer_named(net: VideoNetwork, layer: str | None, *, source: str) -> str:
    """Returns the backbone's name of a layer or stage; of the last stage for None.

    Raises:
        UnknownNameError: it does not exist; the message has the nearest name.
    """
    ends = net.facts.stage_ends
    if layer is None:
        return ends[-1][0]
    stages = {f"res{stage}": name for name, stage in reversed(ends)}
    names = {name for name, _ in net.backbone.named_modules() if name}
    if layer in stages:
        return stages[layer]
    if layer not in names:
        raise UnknownNameError(
            f"{source} ({net.name}) has no layer {layer!r}. "
            + did_you_mean(layer, {*stages, *(name for name in names if name.count(".") < 2)})
        )
    return layer


def _feature_map(output: object, clips: int, name: str) -> torch.Tensor:
    if not isinstance(output, torch.Tensor) or output.ndim != 4 or len(output) % clips:
        got = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise OptionError(
            f"Grad-CAM needs a layer that returns feature maps (frames, C, h, w); {name!r} "
            f"returns {got}. Choose a convolution, a block or a stage, such as res5."
        )
    return output
