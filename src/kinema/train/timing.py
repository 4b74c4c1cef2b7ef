"""Where the time of an epoch went: into waiting for data, or into the model."""

from dataclasses import dataclass
from typing import Literal

Bound = Literal["loader", "model"]

# Worker processes load ahead while the model computes, so a lasting wait means that they do not
# keep up; some is left for their start and for uneven videos. Without workers the two alternate,
# and the larger share is the bound.
LIMIT_WITH_WORKERS = 0.2
LIMIT_WITHOUT_WORKERS = 0.5


@dataclass(frozen=True)
class EpochTime:
    """Seconds of one epoch's training, without evaluation and saving."""

    wait_s: float
    compute_s: float
    videos: int
    workers: int

    @property
    def wait_share(self) -> float:
        """Share of the time spent waiting for data, 0..1."""
        total = self.wait_s + self.compute_s
        return self.wait_s / total if total > 0 else 0.0

    @property
    def videos_per_s(self) -> float:
        """Videos trained on per second, waiting included."""
        total = self.wait_s + self.compute_s
        return self.videos / total if total > 0 else 0.0

    @property
    def bound(self) -> Bound:
        """Which of the two the speed depends on."""
        limit = LIMIT_WITH_WORKERS if self.workers else LIMIT_WITHOUT_WORKERS
        return "loader" if self.wait_share > limit else "model"

    def __str__(self) -> str:
        text = (
            f"bound by the {self.bound}: {100 * self.wait_share:.0f} % of the time was spent "
            f"waiting for data, {self.videos_per_s:.1f} videos/s"
        )
        if self.bound == "model":
            return text
        return text + (
            "; raise data.workers, or store the videos in a smaller size"
            if self.workers
            else "; set data.workers above 0 so that videos load while the model computes"
        )


def total_time(times: list[EpochTime]) -> EpochTime:
    """The epochs taken together."""
    return EpochTime(
        wait_s=sum(t.wait_s for t in times),
        compute_s=sum(t.compute_s for t in times),
        videos=sum(t.videos for t in times),
        workers=max((t.workers for t in times), default=0),
    )
