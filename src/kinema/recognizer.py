"""Public face of a trained network: predictions, streams and timelines."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kinema.inference.predict import ClipRecognizer

if TYPE_CHECKING:
    from kinema.live.live_source import LiveSource
    from kinema.live.stream import LiveRecognition, StreamSettings
    from kinema.timeline import SegmentRule, Timeline, TimelineSettings


class Recognizer(ClipRecognizer):
    """Trained network with its class names and preprocessing.

    Attributes:
        net: The network, in eval mode.
        labels: The K class names.
        preprocessing: Sampling and preprocessing of clips, as in training.
        device: Device of the network.
        score: The network or its fast form, as a function of normalized clips (V, T, 3, H, W) that
            returns scores (V, K).

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
        """Recognizes a live source frame by frame, with a causal network.

        Args:
            source: A video file, the number of a camera, an rtsp:// or http:// address, or an
                opened source.
            settings: Frame spacing, smoothing, and the policy if the network is too slow.
            fast: Uses the fastest form of the network on this machine, measured once; see
                `kinema.inference.optimize`.

        Returns:
            Iterator over the results of frames, with a `summary`.

        Raises:
            OptionError: the network is not causal, or settings and source do not fit each other.
            UnreadableVideoError: the source cannot be opened or, while iterating, is lost.

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
        """Labels windows of a video of any length and joins them to segments, in constant memory.

        Args:
            path: A video file.
            settings: Windows and batches.
            rule: Rule that joins windows to segments.
            progress: Called with (windows done, windows in all).

        Raises:
            UnreadableVideoError: no frame can be read; the message says why.
            OptionError: an option is outside its range, or the video has no frame times.

        Example:
            `recognizer.timeline("long.mp4").segments[0].name`
        """
        from kinema.timeline import timeline

        return timeline(self, path, settings, rule=rule, progress=progress)
