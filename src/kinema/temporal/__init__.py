"""Temporal modules: they mix the frames of a clip and know no backbone."""

from kinema.temporal.base import (
    POSITIONS,
    Position,
    TemporalEntry,
    TemporalModule,
    list_temporal,
    position_named,
    register,
    temporal_named,
)
from kinema.temporal.conv import TIM
from kinema.temporal.shift import TSM

__all__ = [
    "POSITIONS",
    "TIM",
    "TSM",
    "Position",
    "TemporalEntry",
    "TemporalModule",
    "list_temporal",
    "position_named",
    "register",
    "temporal_named",
]
