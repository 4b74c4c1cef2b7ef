"""Benchmark of `kinema serve` under the load of many clients, against the same network offline."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks.load import Exchange, Upload, send_load
from benchmarks.processes import cpu_seconds, resident_mb
from kinema.bench.result import Measurement
from kinema.cli.bench import BatchOption, FramesOption, NetworkOption, OutOption, SizeOption, finish
from kinema.cli.console import FastOption, JsonOption, notes
from kinema.data.dataset import VideoDataset
from kinema.data.listing import list_videos
from kinema.data.loader import ViewLoader
from kinema.errors import KinemaError, OptionError
from kinema.evaluation.evaluate import score_views
from kinema.models.saved import save
from kinema.models.zoo import create_model
from kinema.recognizer import Recognizer
from kinema.system.process import keep_freed_memory
from kinema.values import Annotations, Preprocessing, Sample, Views

CLASSES = 400
LEAST_RATIO = 0.85
# A service does all that offline does and more: a higher ratio tells that something else kept the
# machine busy while offline was timed, and that the measurement is worth nothing.
MOST_RATIO = 1.15
MOST_GROWTH = 1.05
# Offline is stopped by the clock, long before it has seen so many clips, but not before it has
# scored so many batches.
_MOST_CLIPS, _LEAST_BATCHES = 10**6, 4
# The slowest answer of a hundred may take so many times as long as the offline loader takes for
# one clip of every client: it waits for the batch before its own, for its own, and for a decoder.
LATENCY_FACTOR = 2.5

NOTES = (
    "offline: worker processes decode the same files, one clip and one crop each, and the network "
    "scores full batches; before and after the service, for half of its time each. Both keep freed "
    "memory for the next batch.",
    "served: a kinema serve process with as many decoders and the same batch size; every client "
    "uploads the next file as soon as it has its answer. The clients run on the same machine.",
    f"ratio: clips per second over those of offline; at least {LEAST_RATIO} is wanted. Above "
    f"{MOST_RATIO} the machine was not quiet, and nothing is shown.",
    "cpu_ms: processor time of one clip, in all processes but the clients; cores: how many were at "
    "work. The ratio of the times can be trusted also on a machine that is not quiet.",
    "failed: requests that were accepted and not answered, or answered with other probabilities "
    "than offline; none is wanted. refused: turned away with 503 and Retry-After.",
    f"limit_ms: {LATENCY_FACTOR} times the time that offline takes for one clip of every client; "
    "the p99 of the requests is to be below it.",
    "rss_mb: memory of the server and its decoders at the beginning and at the end (the median "
    f"over a sixth of the time each); rss_growth of at most {MOST_GROWTH} is wanted.",
)


@dataclass(frozen=True)
class ServeLoad:
    """Load of the measurement.

    Attributes:
        clients: Requests at a time.
        seconds: Of load, after a warm-up of a sixth of it.
        workers: Decoding processes, of the server and offline.
        batch: Clips of one forward pass at most.
        fast: Whether the network runs in its fastest form.
    """

    clients: int = 16
    seconds: float = 60.0
    workers: int = 2
    batch: int = 16
    fast: bool = False


def measure_serve(
    videos: Sequence[Path],
    *,
    network: str = "tsm_resnet50",
    preprocessing: Preprocessing | None = None,
    load: ServeLoad | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Measurement:
    """Sends videos to a server on this machine's loopback address, and scores them offline.

    Args:
        videos: Files and folders of them.
        network: Its name; the weights are drawn.
        preprocessing: How a video becomes a clip.
        load: See `ServeLoad`.
        progress: Called with what is done next.

    Raises:
        OptionError: no videos.
        UnreadableVideoError: one cannot be read.
        KinemaError: the server did not start, or did not stop in order.
    """
    load = load or ServeLoad()
    files = video_files(videos)
    with tempfile.TemporaryDirectory(prefix="kinema-bench-") as place:
        folder = saved_network(Path(place) / "network", network, preprocessing or Preprocessing())
        offline = _Offline(Recognizer.load(folder, fast=load.fast), files, Path(place), load)
        progress(f"scoring {len(files)} videos once")
        uploads = [
            Upload.of(path, probs_K.tolist())
            for path, probs_K in zip(files, offline.probs(), strict=True)
        ]
        progress("offline, before")
        spans = [offline.timed(load.seconds / 2)]
        progress(f"served to {load.clients} clients")
        served = _served(folder, uploads, load, str(offline.recognizer.device))
        progress("offline, after")
        spans.append(offline.timed(load.seconds / 2))
    rows = [_offline_row(spans), _served_row(served, spans, load)]
    settings = {"network": network, "videos": len(files), **asdict(load)}
    return Measurement("serve", settings, rows, NOTES + served.words[:3])


def video_files(videos: Sequence[Path]) -> list[Path]:
    """Lists the video files among paths and in folders.

    Raises:
        OptionError: there are none.
    """
    files = [path for path in list_videos(videos) if path.is_file()]
    if not files:
        raise OptionError(f"No videos in {', '.join(map(str, videos))}.")
    return files


def missed(measurement: Measurement) -> list[str]:
    """Describes the missed limits."""
    row = measurement.rows[-1]
    found = []
    if row["failed"] or not row["clips"]:
        found.append(f"{row['failed']} of {row['clips'] + row['failed']} accepted requests failed")
    if not LEAST_RATIO <= row["ratio"] <= MOST_RATIO:
        found.append(f"the ratio is {row['ratio']}, not in {LEAST_RATIO} to {MOST_RATIO}")
    if row["p99_ms"] is not None and row["p99_ms"] > row["limit_ms"]:
        found.append(f"the p99 is {row['p99_ms']} ms, above {row['limit_ms']} ms")
    if row["rss_growth"] is not None and row["rss_growth"] > MOST_GROWTH:
        found.append(f"the memory grew by a factor of {row['rss_growth']}, above {MOST_GROWTH}")
    return found


def saved_network(folder: Path, network: str, how: Preprocessing) -> Path:
    """A network whose answers differ from clip to clip, unlike those of one just made."""
    torch.manual_seed(0)
    net = create_model(network, classes=CLASSES, frames=how.frames)
    for weight in net.head.parameters():
        torch.nn.init.normal_(weight)
    return save(net, folder, labels=[f"class {k}" for k in range(CLASSES)], preprocessing=how)


class _Offline:
    """The network on files, in batches that worker processes decode."""

    def __init__(
        self, recognizer: Recognizer, files: Sequence[Path], place: Path, load: ServeLoad
    ) -> None:
        self.recognizer = recognizer
        if recognizer.device.type == "cpu":
            keep_freed_memory()  # as the server does: the ratio is not to be owed to that
        self._load = load
        self._samples = []
        for number, path in enumerate(files):  # one root for files from anywhere
            link = place / f"{number}{path.suffix}"
            link.symlink_to(path.resolve())
            self._samples.append(Sample(link.name, None))
        self._place = place

    def probs(self) -> list[NDArray[np.float64]]:
        """(K,) of every file."""
        scores_VK = torch.from_numpy(np.concatenate(list(self._scores(turns=1))))
        return list(scores_VK.softmax(1).numpy())

    def timed(self, seconds: float) -> "_Span":
        """At least some batches after the first one."""
        with closing(self._scores(turns=_MOST_CLIPS // len(self._samples))) as batches:
            next(batches)
            clock, clips = _Clock(os.getpid()), 0
            for number, scores_BK in enumerate(batches, start=1):
                clips += len(scores_BK)
                if number >= _LEAST_BATCHES and clock.passed >= seconds:
                    break
            return clock.span(clips)

    def _scores(self, *, turns: int) -> Generator[NDArray[np.float64], None, None]:
        how, score = self.recognizer.preprocessing, self.recognizer.score
        rows = Annotations(tuple(self._samples) * turns, self.recognizer.labels, "bench")
        # Without an index cache: the server sees every upload for the first time.
        dataset = VideoDataset(rows, self._place, how, index_cache="")
        loader = ViewLoader(
            dataset, Views(), batch_views=self._load.batch, workers=self._load.workers
        )
        for batch in loader:
            with torch.inference_mode():
                yield score_views(score, batch.views_VTCHW, how, self.recognizer.device)


@dataclass(frozen=True)
class _Span:
    """Clips within some seconds, and the processor time that they took."""

    clips: int
    seconds: float
    cpu_s: float | None

    @property
    def rate(self) -> float:
        return self.clips / self.seconds

    def row(self) -> dict[str, Any]:
        known = self.cpu_s is not None and self.clips > 0
        return {
            "clips": self.clips,
            "clips_per_s": round(self.rate, 2),
            "cpu_ms": round(1e3 * (self.cpu_s or 0) / self.clips, 1) if known else None,
            "cores": round((self.cpu_s or 0) / self.seconds, 2) if known else None,
        }


class _Clock:
    """Wall and processor time of a process and all below it, from now on."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._began, self._cpu_s = time.perf_counter(), cpu_seconds(pid)

    @property
    def passed(self) -> float:
        return time.perf_counter() - self._began

    def span(self, clips: int) -> _Span:
        now = cpu_seconds(self._pid)
        used = None if now is None or self._cpu_s is None else now - self._cpu_s
        return _Span(clips, self.passed, used)


@dataclass(frozen=True)
class _Served:
    """Requests of the clients within the measured time."""

    exchanges: list[Exchange]
    span: _Span
    resident: list[float]

    def count(self, *fates: str) -> int:
        return sum(one.fate in fates for one in self.exchanges)

    @property
    def words(self) -> tuple[str, ...]:
        """Distinct messages of failures."""
        return tuple(
            dict.fromkeys(x.words for x in self.exchanges if x.fate in ("wrong", "failed"))
        )


def _served(folder: Path, uploads: list[Upload], load: ServeLoad, device: str) -> _Served:
    with (
        running_server(folder, load, device) as (url, process),
        ThreadPoolExecutor(1, thread_name_prefix="load") as pool,
    ):
        start = time.perf_counter() + load.seconds / 6
        end = start + load.seconds
        sending = pool.submit(send_load, url, uploads, clients=load.clients, until=end)
        time.sleep(load.seconds / 6)
        clock, resident = _Clock(process.pid), list[float]()
        while (left := end - time.perf_counter()) > 0:
            if (mb := resident_mb(process.pid)) is not None:
                resident.append(mb)
            time.sleep(min(0.5, load.seconds / 60, left))
        span = clock.span(0)
        exchanges = [
            one
            for one in sending.result()
            if start <= one.ended < end or one.fate in ("wrong", "failed")
        ]
        done = sum(one.fate == "done" for one in exchanges)
        return _Served(exchanges, replace(span, clips=done), resident)


@contextmanager
def running_server(
    folder: Path, load: ServeLoad, device: str
) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """A `kinema serve` process on a free port of the loopback address."""
    words = [f"bench={folder}", "--host", "127.0.0.1", "--port", "0", "--json", "--device", device]
    words += ["--workers", str(load.workers), "--max-batch", str(load.batch)]
    words += ["--max-requests", str(2 * load.clients), "--max-waiting", str(load.clients)]
    words += ["--no-access-log", *(["--fast"] if load.fast else [])]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "kinema.cli.main", "serve", *words],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=_environment(),
        )
        assert process.stdout is not None, "it is a pipe"
        try:
            line = process.stdout.readline()
            if not line:
                raise KinemaError(f"The server did not start: {_said(log)}")
            yield json.loads(line)["url"], process
            process.send_signal(signal.SIGTERM)
            if process.wait(60) != 0:
                raise KinemaError(f"The server ended with {process.returncode}: {_said(log)}")
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _environment() -> dict[str, str]:
    """As many threads as here, and no key."""
    kept = {name: value for name, value in os.environ.items() if name != "KINEMA_API_KEY"}
    threads = str(torch.get_num_threads())
    return {**kept, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads)}


def _said(log: Any) -> str:
    log.seek(0)
    return str(log.read()).strip()[-2000:] or "it said nothing."


def _offline_row(spans: Sequence[_Span]) -> dict[str, Any]:
    rates = [span.rate for span in spans]
    return {
        "form": "offline",
        **_together(spans).row(),
        "ratio": 1.0,
        "spread": round((max(rates) - min(rates)) / sum(rates), 3),
        **dict.fromkeys(
            ("p50_ms", "p99_ms", "limit_ms", "failed", "refused", "rss_mb", "rss_growth")
        ),
    }


def _served_row(served: _Served, offline: Sequence[_Span], load: ServeLoad) -> dict[str, Any]:
    base = _together(offline).rate
    done = [one.ended - one.began for one in served.exchanges if one.fate == "done"]
    p50, p99 = (round(1e3 * float(np.quantile(done, q)), 1) if done else None for q in (0.5, 0.99))
    sixth = max(1, len(served.resident) // 6)
    rss = [median(part) for part in (served.resident[:sixth], served.resident[-sixth:]) if part]
    return {
        "form": "served",
        **served.span.row(),
        "ratio": round(served.span.rate / base, 3),
        "spread": None,
        "p50_ms": p50,
        "p99_ms": p99,
        "limit_ms": round(1e3 * LATENCY_FACTOR * load.clients / base, 1),
        "failed": served.count("wrong", "failed"),
        "refused": served.count("refused"),
        "rss_mb": f"{rss[0]:.0f} to {rss[1]:.0f}" if rss else None,
        "rss_growth": round(rss[1] / rss[0], 3) if rss else None,
    }


def _together(spans: Sequence[_Span]) -> _Span:
    known = [span.cpu_s for span in spans if span.cpu_s is not None]
    return _Span(
        clips=sum(span.clips for span in spans),
        seconds=sum(span.seconds for span in spans),
        cpu_s=sum(known) if len(known) == len(spans) else None,
    )


def main(
    videos: Annotated[list[Path], typer.Argument(help="Video files, folders of videos.")],
    network: NetworkOption = "tsm_resnet50",
    clients: Annotated[int, typer.Option(help="Requests at a time.", min=1)] = 16,
    seconds: Annotated[float, typer.Option(help="Time under load.", min=1)] = 60.0,
    workers: Annotated[int, typer.Option(help="Decoding processes.", min=1)] = 2,
    batch: BatchOption = 16,
    frames: FramesOption = 8,
    size: SizeOption = 224,
    fast: FastOption = False,
    check: Annotated[
        bool, typer.Option("--check", help="End with exit code 1 where a limit is missed.")
    ] = False,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Time `kinema serve` under the load of many clients, against the same network offline.

    Starts a server of its own on the loopback address. The clients upload the videos in turns.

    Example: python -m benchmarks.serve clips/ --network tsm_resnet50 --check
    """

    measurement = measure_serve(
        videos,
        network=network,
        preprocessing=_preprocessing(frames, size),
        load=ServeLoad(clients, seconds, workers, batch, fast),
        progress=notes().print,
    )
    finish(measurement, out, as_json=as_json)
    wrong = missed(measurement)
    if check and wrong:
        raise KinemaError(f"The service missed its limits: {'; '.join(wrong)}.")


def _preprocessing(frames: int, size: int) -> Preprocessing:
    """Frames of the usual kind: a crop of seven eighths of the short side."""
    return Preprocessing(frames=frames, short_side_px=round(size * 8 / 7), crop_px=size)


if __name__ == "__main__":
    typer.run(main)
