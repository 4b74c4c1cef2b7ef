"""What happens inside a network on a clip: attention, dynamic kernels, alignment, Grad-CAM."""

from kinema.models.insight.alignment import Alignment, align_frames
from kinema.models.insight.attention import ChannelAttention, channel_attention
from kinema.models.insight.grad_cam import CamMaps, grad_cam
from kinema.models.insight.kernels import AdaptiveKernels, adaptive_kernels, shared_kernels

__all__ = [
    "AdaptiveKernels",
    "Alignment",
    "CamMaps",
    "ChannelAttention",
    "adaptive_kernels",
    "align_frames",
    "channel_attention",
    "grad_cam",
    "shared_kernels",
]
