"""Task `label`: lists an archive, skips finished videos, and runs the others on Ray Data."""

import hashlib
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kinema.archive.arrow import pc
from kinema.archive.cluster import ray_cluster
from kinema.archive.label_stage import with_features
from kinema.archive.listing import Listing, read_listing
from kinema.archive.output import OutputFolder, RowWriter, open_output
from kinema.archive.pipeline import Pipeline
from kinema.archive.settings import ClusterSettings, LabelSettings, Work
from kinema.errors import ClusterError
from kinema.inference.runtime import Form
from kinema.models.published.folder import checkpoint_folder
from kinema.models.saved import CONFIG_FILE, WEIGHTS_FILE, load_saved

_log = logging.getLogger(__name__)

# Passes over videos that a job lost without an error.
_PASSES = 3

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LabelReport:
    """Contents of the output folder after a run, and statistics of the run.

    Attributes:
        videos: Unique videos of the list.
        ok: Labeled videos.
        failed: Videos with an error in their row; `ok` and `failed` make up all.
        written: Rows written by this run; the others existed before.
        repeated: Duplicates in the list.
        seconds: Duration of this run, with the start of Ray and of all processes.
        steady_videos_per_s: Rate of this run without the start: from the time when the first
            videos reached the network to the last row. None if there was nothing to do.
        out: The output folder.
    """

    videos: int
    ok: int
    failed: int
    written: int
    repeated: int
    seconds: float
    steady_videos_per_s: float | None
    out: Path

    @property
    def videos_per_s(self) -> float:
        """Rate of this run, with the start."""
        return self.written / self.seconds


def label(
    checkpoint: str | Path,
    source: str | Path,
    out: str | Path,
    settings: LabelSettings | None = None,
    *,
    cluster: ClusterSettings | None = None,
    root: str | Path | None = None,
    column: str = "path",
    progress: Progress | None = None,
) -> LabelReport:
    """Labels every video of an archive on Ray Data and writes Parquet.

    The columns are `path` as listed, `top` (a list of label, name and prob, best first), with
    `features` the mean features before the classifier, and `error` for a video that could not be
    read, which has nothing else. Videos in the folder already are skipped, so a job that was
    stopped in any way resumes when it is started again. Every machine of a cluster must see
    checkpoint and videos under the same paths; only the caller writes.

    Args:
        checkpoint: Folder of the network, or the name of a published one.
        source: A text file with a path per line, a folder of videos, or Parquet files with a
            column of paths. Like the paths in it, it may be an address that begins with s3://,
            gs://, http:// or https://, given as text.
        out: A new folder, or the folder of an earlier run with the same checkpoint and settings.
        settings: Settings that hold for every video.
        cluster: Machines and processes; by default this machine.
        root: Folder or address that relative paths start from; by default the folder of the list.
        column: Column of the paths in Parquet files.
        progress: Called with (rows in the folder, videos).

    Raises:
        AnnotationError: the source cannot be read, or names no video.
        CheckpointError: the folder is no checkpoint.
        ClusterError: Ray or the workers failed for another reason than a video.
        MissingExtraError: the extra `ray` is not installed.
        OptionError: an option is outside its range or does not fit the network, or `out` holds
            other things.

    Example:
        `label("runs/first/best", "videos/", "labels").failed`
    """
    settings, cluster = settings or LabelSettings(), cluster or ClusterSettings()
    checkpoint = checkpoint_folder(checkpoint)
    saved = load_saved(checkpoint)
    if settings.features:
        with_features(saved.net)  # before any work, the error of a network without such features
    listing = read_listing(source, root=root, column=column)
    work = Work(
        checkpoint=str(Path(checkpoint).absolute()),
        root=str(listing.root),
        preprocessing=saved.preprocessing,
        settings=settings,
        device="cpu",
        threads=cluster.threads,
        plugins=tuple(os.environ.get("KINEMA_PLUGINS", "").split()),
    )
    with open_output(out, _facts(Path(checkpoint), settings)) as output:
        if settings.retry_failed:
            output.drop_failed(listing.paths)
        done = output.done()
        todo = _left(listing, done)
        clock = _Clock(len(listing), already=len(listing) - len(todo), progress=progress)
        if len(todo):
            with ray_cluster(cluster) as (ray, pools):
                pipeline = Pipeline(ray, pools, replace(work, device=pools.device))
                if settings.fast:
                    pipeline.work = replace(pipeline.work, form=_form(pipeline, output, todo))
                for _ in range(_PASSES):
                    _run(pipeline, output, todo, clock)
                    done = output.done()
                    todo = _left(listing, done)
                    if not len(todo):
                        break
                    _log.warning("%d videos got no row and are tried again.", len(todo))
        return _report(listing, done, clock, Path(out))


def _run(pipeline: Pipeline, output: OutputFolder, todo: Any, clock: "_Clock") -> None:
    """Labels videos; every row that arrives is written, also if the job fails afterwards."""
    writer = RowWriter(output, rows=pipeline.work.settings.file_rows)
    try:
        for rows in pipeline.rows(todo):
            writer.add(rows)
            clock.count(rows.num_rows, began=pipeline.began)
    finally:
        writer.flush()


def _form(pipeline: Pipeline, output: OutputFolder, todo: Any) -> Form:
    """Returns the form of the network for this folder, measured by its first run."""
    known = output.facts.get("form")
    if known is not None:
        return Form(**known)
    form = pipeline.fastest_form(todo)
    _log.info("Running as %s.", form)
    output.remember(form=asdict(form))
    return form


def _facts(checkpoint: Path, settings: LabelSettings) -> dict[str, Any]:
    """Collects what the rows of one folder have in common."""
    digest = hashlib.sha256()
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        with (checkpoint / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    kept = ("clips", "crops", "top", "features", "fast")
    return {
        "format": 1,
        "checkpoint": digest.hexdigest(),
        **{name: getattr(settings, name) for name in kept},
    }


def _left(listing: Listing, done: Any) -> Any:
    """Returns the listed paths that are not done, as one array."""
    is_done = pc.is_in(listing.paths, value_set=done["path"])
    return listing.paths.filter(pc.invert(is_done))


def _report(listing: Listing, done: Any, clock: "_Clock", out: Path) -> LabelReport:
    """Counts the listed videos in the folder.

    Raises:
        ClusterError: a video has no row, or two rows.
    """
    listed = done.filter(pc.is_in(done["path"], value_set=listing.paths))
    if listed.num_rows != len(listing):
        raise ClusterError(
            f"{out} has {listed.num_rows} rows for the {len(listing)} videos of the list."
        )
    failed = pc.sum(listed["failed"]).as_py() or 0
    return LabelReport(
        videos=len(listing),
        ok=len(listing) - failed,
        failed=failed,
        written=clock.rows,
        repeated=listing.repeated,
        seconds=clock.seconds,
        steady_videos_per_s=clock.steady_rate,
        out=out,
    )


class _Clock:
    """Clock and progress of a run."""

    def __init__(self, videos: int, *, already: int, progress: Progress | None) -> None:
        self._videos = videos
        self._already = already
        self._progress = progress
        self._start = time.time()
        self._began, self._last = math.inf, self._start
        self.rows = 0

    def count(self, rows: int, *, began: float) -> None:
        """Counts rows that arrived; `began` is when the first video reached the network."""
        self.rows += rows
        self._began = min(self._began, began)
        self._last = time.time()
        if self._progress is not None:
            self._progress(self._already + self.rows, self._videos)

    @property
    def seconds(self) -> float:
        """Seconds since the job began."""
        return time.time() - self._start

    @property
    def steady_rate(self) -> float | None:
        """Rows per second without the start."""
        return self.rows / (self._last - self._began) if self.rows else None
