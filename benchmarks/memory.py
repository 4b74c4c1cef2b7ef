"""Memory of `kinema serve` over many predictions: it must reach a plateau."""

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.load import Upload, send_load
from benchmarks.processes import own_resident_mb, resident_mb
from benchmarks.serve import CLASSES, ServeLoad, running_server, saved_network, video_files
from kinema.bench.result import Measurement
from kinema.cli.bench import NetworkOption, OutOption, finish
from kinema.cli.console import JsonOption, notes
from kinema.values import Preprocessing

_SAMPLES = 25
# Of load, after which the predictions are counted.
_SPAN_S = 2.0

NOTES = (
    "server_mb: resident memory of the server process; all_mb: that of its decoders, too (shared "
    "pages count once per process). After `predictions` uploads by as many clients as `clients`.",
    "growth: server_mb at the end over that after a quarter of the predictions.",
)


def measure_memory(
    videos: list[Path], *, network: str, predictions: int, load: ServeLoad
) -> Measurement:
    """Sends videos to a server until one of both limits is reached.

    Its memory is sampled after every 25th part of the predictions, and at the end.

    Args:
        videos: Files and folders of them.
        network: Its name; the weights are drawn.
        predictions: Uploads in all.
        load: Clients, longest time, decoders and batch size.

    Raises:
        OptionError: no videos.
        KinemaError: the server did not start, or did not stop in order.
    """
    # The answers are not compared with anything here, so that they may have any probabilities.
    uploads = [Upload.of(path, [0.0] * CLASSES) for path in video_files(videos)]
    how = Preprocessing(frames=8, short_side_px=128, crop_px=112)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="kinema-bench-") as place:
        folder = saved_network(Path(place) / "network", network, how)
        with running_server(folder, load, "cpu") as (url, process):
            began, done, is_over = time.perf_counter(), 0, False
            while not is_over:
                until = time.perf_counter() + _SPAN_S
                sent = send_load(url, uploads, clients=load.clients, until=until)
                done += sum(one.fate in ("done", "wrong") for one in sent)
                seconds = time.perf_counter() - began
                is_over = done >= predictions or seconds >= load.seconds
                if done < predictions / _SAMPLES * (len(rows) + 1) and not is_over:
                    continue
                row = {"predictions": done, "seconds": round(seconds, 1)}
                row["server_mb"] = round(own_resident_mb(process.pid) or 0)
                row["all_mb"] = round(resident_mb(process.pid) or 0)
                rows.append(row)
    growth = round(rows[-1]["server_mb"] / rows[len(rows) // 4]["server_mb"], 3)
    settings = {"network": network, "videos": len(uploads), "clients": load.clients}
    settings |= {"workers": load.workers, "batch": load.batch, "growth": growth}
    return Measurement("memory", settings, rows, NOTES)


def main(
    videos: Annotated[list[Path], typer.Argument(help="Video files, folders of videos.")],
    network: NetworkOption = "tsm_resnet18",
    predictions: Annotated[int, typer.Option(help="Uploads in all.", min=100)] = 20_000,
    seconds: Annotated[float, typer.Option(help="Longest time.", min=1)] = 3600.0,
    clients: Annotated[int, typer.Option(help="Requests at a time.", min=1)] = 4,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the memory of `kinema serve` over many predictions.

    Example: python -m benchmarks.memory clips/ --predictions 20000
    """
    load = ServeLoad(clients, seconds, batch=8)
    notes().print(f"{predictions} uploads by {clients} clients")
    measurement = measure_memory(videos, network=network, predictions=predictions, load=load)
    finish(measurement, out, as_json=as_json)


if __name__ == "__main__":
    typer.run(main)
