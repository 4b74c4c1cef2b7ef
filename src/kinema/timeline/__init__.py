"""Timelines: scores of sliding windows over a long video, and segments of its actions."""

from kinema.timeline.segments import Segment, SegmentRule, find_segments, smoothed
from kinema.timeline.task import Timeline, TimelineSettings, timeline

__all__ = [
    "Segment",
    "SegmentRule",
    "Timeline",
    "TimelineSettings",
    "find_segments",
    "smoothed",
    "timeline",
]
