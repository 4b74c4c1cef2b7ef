"""Metrics of the service in Prometheus' format."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_CLIPS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Metrics of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "Answered requests.", "route", "status")
        self.refusals = self._counter("refusals", "Refused requests, by reason.", "reason")
        self.request_seconds = self._seconds(
            "request_seconds", "Time from the head of a request to its answer.", "route"
        )
        self.in_flight = self._gauge(
            "requests_in_flight", "Requests with a body that are being answered."
        )
        self.decoding = self._gauge("decoding", "Requests that use a decoder or wait for one.")
        self.decode_seconds = self._seconds("decode_seconds", "Time to decode a file or picture.")
        self.decoder_ends = self._counter(
            "decoder_ends", "Decoder processes that ended, by reason.", "reason"
        )
        self.batch_clips = self._clips("batch_clips", "Clips of one forward pass.")
        self.batch_requests = self._clips("batch_requests", "Requests in one forward pass.")
        self.compute_seconds = self._seconds(
            "compute_seconds", "Time of one forward pass.", "model"
        )
        self.streams = self._gauge("streams", "Open live streams.")
        self.stream_frames = self._counter("stream_frames", "Frames of live streams.", "model")
        self.stream_seconds = self._seconds(
            "stream_frame_seconds", "Time from a frame to its result.", "model"
        )
        self.jobs = self._counter("timeline_jobs", "Timelines that ended, by state.", "state")

    def text(self) -> bytes:
        """Returns all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"kinema_{name}", words, labels, registry=self.registry)

    def _gauge(self, name: str, words: str) -> Gauge:
        return Gauge(f"kinema_{name}", words, registry=self.registry)

    def _seconds(self, name: str, words: str, *labels: str) -> Histogram:
        return Histogram(f"kinema_{name}", words, labels, buckets=_SECONDS, registry=self.registry)

    def _clips(self, name: str, words: str) -> Histogram:
        return Histogram(f"kinema_{name}", words, ["model"], buckets=_CLIPS, registry=self.registry)
