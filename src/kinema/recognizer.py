"""A trained network as its user sees it: whole videos, live sources, long videos."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kinema.inference.predict import ClipRecognizer

if TYPE_CHECKING:
    from kinema.live.live_source import LiveSource
    from kinema.live.stream import LiveRecognition, StreamSettings
    from kinema.timeline import SegmentRule, Timeline, TimelineSettings


class Recognizer(ClipRecognizer):
    """A network with its class names and preprocessing, ready to be asked.

    Attributes:
        net: The network, in eval mode.
        labels: The K class names.
        preprocessing: How a video becomes clips: that of the training.
        device: Where the network computes.
        score: Clips (V, T, 3, H, W), normalized, to scores (V, K): the network, or its fast form.

    Example:
        `Recognizer.load("runs/first/best").predict("video.mp4").top[0].name`
    """

    def stream(
        self,
        source: "str | LiveSource",
        settings: "StreamSettings | None" = None,
        *,
        fast: bool = False,
    ) -> "LiveRecognition":
        """Recognizes a live source frame by frame; the network must not look ahead.

        Args:
            source: A video file, the number of a camera, an rtsp:// or http:// address, or an
                opened source.
            settings: Spacing of frames, smoothing, what happens when the network is too slow.
            fast: Runs the fastest form on this machine, measured once; see
                `kinema.inference.optimize_stream`.

        Returns:
            An iterator over a result for each frame that the network gets, and its `summary`.

        Raises:
            OptionError: the network looks ahead, or settings and source do not fit each other.
            UnreadableVideoError: the source cannot be opened; while iterating, it was lost.

        Example:
            `for result in recognizer.stream("rtsp://camera/1"): print(result.top[0].name)`
        """
        # Imported here: a prediction needs no camera code.
        from kinema.live.stream import LiveRecognition

        return LiveRecognition(self, source, settings=settings, fast=fast)

    def timeline(
        self,
        path: str | Path,
        settings: "TimelineSettings | None" = None,
        *,
        rule: "SegmentRule | None" = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> "Timeline":
        """Finds out what happens when in a video of any length, in constant memory.

        Args:
            path: A video file.
            settings: Windows and computing.
            rule: What makes segments of windows.
            progress: Called with (windows done, windows in all).

        Raises:
            UnreadableVideoError: no frame can be read; the message says why.
            OptionError: an option is outside its range, or the video tells no times.

        Example:
            `recognizer.timeline("long.mp4").segments[0].name`
        """
        from kinema.timeline import timeline

        return timeline(self, path, settings, rule=rule, progress=progress)
