"""What happens inside a network on a clip: attention, dynamic kernels, alignment, Grad-CAM."""

from kinema.models.insight.alignment import ALIGNING, Alignment, align_frames
from kinema.models.insight.attention import ATTENTION, ChannelAttention, channel_attention
from kinema.models.insight.capture import Kind, find_modules
from kinema.models.insight.grad_cam import CamMaps, grad_cam
from kinema.models.insight.kernels import (
    ADAPTIVE,
    AdaptiveKernels,
    adaptive_kernels,
    shared_kernels,
)

__all__ = [
    "ADAPTIVE",
    "ALIGNING",
    "ATTENTION",
    "AdaptiveKernels",
    "Alignment",
    "CamMaps",
    "ChannelAttention",
    "Kind",
    "adaptive_kernels",
    "align_frames",
    "channel_attention",
    "find_modules",
    "grad_cam",
    "shared_kernels",
]
