"""`kinema serve`: networks behind HTTP and WebSocket, with a web page."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinema.cli.console import DeviceOption, FastOption, JsonOption, notes, results, show_log
from kinema.errors import OptionError, missing_extra

if TYPE_CHECKING:
    from kinema.decoders.pool import DecoderSettings
    from kinema.serve.admission import Access
    from kinema.serve.limits import Limits

# Names of folders that say nothing about the network in them.
_PLAIN = ("best", "last")


CheckpointsArgument = Annotated[
    list[str],
    typer.Argument(metavar="CHECKPOINT...", help="Folders of networks; NAME=FOLDER names one."),
]
ApiKeyOption = Annotated[
    str | None, typer.Option(help="Key that requests must show.", envvar="KINEMA_API_KEY")
]
CorsOriginOption = Annotated[
    list[str] | None, typer.Option(help="Web site whose pages may call, such as https://a.b.")
]
AllowFolderOption = Annotated[
    Path | None, typer.Option(help="Requests may name videos below this folder.")
]
MaxDelayMsOption = Annotated[float, typer.Option(help="Longest wait of a clip for company.", min=0)]
WorkerSecondsOption = Annotated[int, typer.Option(help="Time of a decoder for one clip.", min=1)]
GraceOption = Annotated[
    float, typer.Option(help="Seconds to finish accepted work after SIGTERM.", min=0)
]


def serve(
    checkpoints: CheckpointsArgument,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8000,
    api_key: ApiKeyOption = None,
    cors_origin: CorsOriginOption = None,
    allow_folder: AllowFolderOption = None,
    max_batch: Annotated[int, typer.Option(help="Clips of one forward pass.", min=1)] = 16,
    max_delay_ms: MaxDelayMsOption = 5.0,
    workers: Annotated[int, typer.Option(help="Decoder processes.", min=1)] = 2,
    worker_mb: Annotated[int, typer.Option(help="Memory of one decoder.", min=64)] = 2048,
    worker_seconds: WorkerSecondsOption = 30,
    max_mb: Annotated[float, typer.Option(help="Size of an upload.", max=1e9)] = 256.0,
    max_seconds: Annotated[float, typer.Option(help="Length of a video.")] = 600.0,
    max_frames: Annotated[int, typer.Option(help="Frames of a video.", min=1)] = 100_000,
    max_pixels: Annotated[int, typer.Option(help="Pixels of a frame.", min=1)] = 4096 * 2304,
    max_views: Annotated[int, typer.Option(help="Clips times crops.", min=1)] = 60,
    max_timeline_mb: Annotated[float, typer.Option(help="Size of a long video.", max=1e9)] = 4096.0,
    max_timeline_seconds: Annotated[float, typer.Option(help="Its length.")] = 21600.0,
    max_requests: Annotated[int, typer.Option(help="Requests at a time.", min=1)] = 32,
    max_waiting: Annotated[int, typer.Option(help="Requests that wait for a decoder.", min=0)] = 16,
    max_streams: Annotated[int, typer.Option(help="Live streams at a time.", min=0)] = 8,
    max_timelines: Annotated[int, typer.Option(help="Timelines that wait.", min=0)] = 8,
    timeout: Annotated[float, typer.Option(help="Seconds for one request.")] = 60.0,
    grace: GraceOption = 60.0,
    fast: FastOption = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve networks over HTTP, with a web page at /.

    Listens on this machine only unless --host says otherwise. Files are decoded in processes of
    their own, so a broken one costs its request and nothing else. /openapi.json describes all
    addresses. Ctrl-C or SIGTERM finishes what was accepted.

    Example: kinema serve runs/x/best
    """
    _check_extra()
    from pydantic import SecretStr

    from kinema.decoders.pool import DecoderSettings
    from kinema.serve.admission import Access
    from kinema.serve.limits import MIB, Limits

    show_log()
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    with _told_by_option():
        limits = Limits(
            upload_bytes=round(max_mb * MIB),
            duration_s=max_seconds,
            frames=max_frames,
            pixels=max_pixels,
            views=max_views,
            timeline_bytes=round(max_timeline_mb * MIB),
            timeline_duration_s=max_timeline_seconds,
            requests=max_requests,
            waiting=max_waiting,
            streams=max_streams,
            request_s=timeout,
        )
    decoding = DecoderSettings(
        workers=workers,
        memory_bytes=worker_mb * MIB,
        cpu_s=worker_seconds,
        silence_s=worker_seconds,
    )
    if api_key is not None and not api_key.strip():
        raise OptionError("--api-key is empty, which would let everyone in. Leave it out for that.")
    if allow_folder is not None and not allow_folder.is_dir():
        raise OptionError(f"--allow-folder {allow_folder} is not a folder.")
    access = Access(
        api_key=None if api_key is None else SecretStr(api_key),
        origins=tuple(cors_origin or ()),
        folder=allow_folder,
    )
    _listen_and_serve(
        named_folders(checkpoints),
        host,
        port,
        limits=limits,
        access=access,
        decoding=decoding,
        max_batch=max_batch,
        max_delay_ms=max_delay_ms,
        max_timelines=max_timelines,
        grace_s=grace,
        fast=fast,
        device=device,
        as_json=as_json,
    )


def _listen_and_serve(
    folders: dict[str, Path],
    host: str,
    port: int,
    *,
    limits: "Limits",
    access: "Access",
    decoding: "DecoderSettings",
    max_batch: int,
    max_delay_ms: float,
    max_timelines: int,
    grace_s: float,
    fast: bool,
    device: str | None,
    as_json: bool,
) -> None:
    from kinema.decoders.parent import DecoderParent
    from kinema.serve.server import is_loopback, listen

    with listen(host, port) as listening, DecoderParent() as parent:
        if access.api_key is None and not is_loopback(listening):
            notes().print("Everyone who reaches this machine may use it; see --api-key.")
        parent.start()  # while this process imports PyTorch, too, and loads the networks
        from kinema.recognizer import Recognizer
        from kinema.serve.batcher import BatchSettings
        from kinema.serve.jobs import JobSettings
        from kinema.serve.server import run
        from kinema.serve.service import Service
        from kinema.system.process import keep_freed_memory

        models = {
            name: Recognizer.load(folder, device=device, fast=fast)
            for name, folder in folders.items()
        }
        if any(model.device.type == "cpu" for model in models.values()):
            # Clearing new pages takes up to half of a large batch's time.
            keep_freed_memory(in_threads=True)
        service = Service(
            models,
            limits=limits,
            access=access,
            batching=BatchSettings(clips=max_batch, delay_s=max_delay_ms / 1000),
            decoding=decoding,
            decoder_parent=parent,
            fast=fast,
        )
        run(
            service,
            listening,
            jobs=JobSettings(waiting=max_timelines),
            grace_s=grace_s,
            on_ready=lambda url: _say_ready(url, list(models), as_json=as_json),
        )


def _check_extra() -> None:
    for name in ("fastapi", "uvicorn", "websockets", "python_multipart", "prometheus_client"):
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            raise missing_extra("The service", error.name, "serve") from error


@contextmanager
def _told_by_option() -> Iterator[None]:
    """Names the limit that is out of its range."""
    from pydantic import ValidationError

    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        raise OptionError(f"The limit {first['loc'][0]}: {first['msg']}.") from error


def named_folders(words: list[str]) -> dict[str, Path]:
    """Reads NAME=FOLDER; a folder alone is named by its last part that says something.

    Raises:
        OptionError: two networks have one name.
    """
    folders: dict[str, Path] = {}
    for word in words:
        is_folder = Path(word).is_dir()
        name, equals, place = (word, "", "") if is_folder else word.partition("=")
        folder = Path(place if equals else word)
        if not equals:
            name = next((p for p in reversed(folder.resolve().parts) if p not in _PLAIN), "model")
        if not name or name in folders:
            raise OptionError(
                f"Two networks would be called {name!r}; name them: a=FOLDER b=FOLDER."
                if name
                else f"{word!r} has no name before the equals sign."
            )
        folders[name] = folder
    return folders


def _say_ready(url: str, names: list[str], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"url": url, "models": names}) + "\n")
        sys.stdout.flush()
    else:
        results().print(f"{url} serves {', '.join(names)}")
        notes().print("Ctrl-C stops it.")
