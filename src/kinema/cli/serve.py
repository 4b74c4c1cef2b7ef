"""`kinema serve`: networks behind HTTP and WebSocket, with a web page."""

import json
import logging
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from kinema.cli.console import (
    DeviceOption,
    FastOption,
    JsonOption,
    find_checkpoint,
    notes,
    results,
    show_log,
)
from kinema.errors import OptionError, missing_extra

# Folder names that do not identify a network.
_PLAIN = ("best", "last")


class _Default:
    """Default of an option, read from a settings class when it is used or shown.

    Reading it at import would cost every command the time to load pydantic, half a second.

    Args:
        place: Class and field, such as "Limits.frames".
        scale: Units of the option per unit of the field.
    """

    def __init__(self, place: str, scale: float) -> None:
        self._settings, _, self._field = place.partition(".")
        self._scale = scale

    def __call__(self) -> float:
        """Returns the value in the unit of the option."""
        settings = getattr(import_module("kinema.serve.limits"), self._settings)
        default: float = settings.model_fields[self._field].default
        return default if self._scale == 1 else default * self._scale

    def __str__(self) -> str:
        return f"{self():.12g}"


def _setting(text: str, place: str, scale: float = 1, **bounds: float) -> Any:
    return typer.Option(help=text, default_factory=_Default(place, scale), **cast("Any", bounds))


CheckpointsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="CHECKPOINT...",
        help="Checkpoint folders or published networks; NAME=FOLDER sets a name.",
    ),
]
ApiKeyOption = Annotated[
    str | None, typer.Option(help="API key required from clients.", envvar="KINEMA_API_KEY")
]
CorsOriginOption = Annotated[
    list[str] | None,
    typer.Option(help="Origin of a web site whose pages may call the API, such as https://a.b."),
]
AllowedHostOption = Annotated[
    list[str] | None,
    typer.Option(help="Host name in the URLs of clients, such as that of a reverse proxy."),
]
AllowFolderOption = Annotated[
    Path | None, typer.Option(help="Folder below which requests may name videos by path.")
]
MaxDelayMsOption = Annotated[
    float,
    _setting(
        "Longest time a clip waits for its batch to fill.", "BatchSettings.delay_s", 1000, min=0
    ),
]
WorkerSecondsOption = Annotated[
    int, _setting("CPU seconds a decoder may spend per video.", "DecoderSettings.cpu_s", min=1)
]
RootPathOption = Annotated[
    str, typer.Option(help="Prefix of all addresses that a reverse proxy takes away, as /kinema.")
]
AccessLogOption = Annotated[
    bool, typer.Option("--access-log/--no-access-log", help="Log requests, except health checks.")
]
GraceOption = Annotated[
    float, typer.Option(help="Seconds to finish accepted work after SIGTERM.", min=0)
]


def serve(
    checkpoints: CheckpointsArgument,
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8000,
    api_key: ApiKeyOption = None,
    allowed_host: AllowedHostOption = None,
    cors_origin: CorsOriginOption = None,
    allow_folder: AllowFolderOption = None,
    max_batch: Annotated[int, _setting("Largest batch, in clips.", "BatchSettings.clips", min=1)],
    max_delay_ms: MaxDelayMsOption,
    workers: Annotated[int, _setting("Decoder processes.", "DecoderSettings.workers", min=1)],
    worker_mb: Annotated[
        int, _setting("Memory of one decoder.", "DecoderSettings.memory_bytes", 2**-20, min=64)
    ],
    worker_seconds: WorkerSecondsOption,
    max_mb: Annotated[
        float, _setting("Size of an upload.", "Limits.upload_bytes", 2**-20, max=1e9)
    ],
    max_seconds: Annotated[float, _setting("Length of a video.", "Limits.duration_s")],
    max_frames: Annotated[int, _setting("Frames of a video.", "Limits.frames", min=1)],
    max_pixels: Annotated[int, _setting("Pixels of a frame.", "Limits.pixels", min=1)],
    max_views: Annotated[int, _setting("Clips times crops of a request.", "Limits.views", min=1)],
    max_timeline_mb: Annotated[
        float, _setting("Size of a long video.", "Limits.timeline_bytes", 2**-20, max=1e9)
    ],
    max_timeline_seconds: Annotated[
        float, _setting("Length of a long video.", "Limits.timeline_duration_s")
    ],
    max_requests: Annotated[int, _setting("Concurrent requests.", "Limits.requests", min=1)],
    max_waiting: Annotated[
        int, _setting("Requests waiting for a decoder.", "Limits.waiting", min=0)
    ],
    max_streams: Annotated[int, _setting("Concurrent live streams.", "Limits.streams", min=0)],
    max_timelines: Annotated[
        int, _setting("Timelines waiting to be computed.", "JobSettings.waiting", min=0)
    ],
    max_connections: Annotated[int, _setting("Open connections.", "Limits.connections", min=1)],
    max_client_connections: Annotated[
        int, _setting("Open connections of one address.", "Limits.client_connections", min=1)
    ],
    max_client_rate: Annotated[
        int,
        _setting(
            "Requests per minute of one address; 0 for no limit.", "Limits.client_per_minute", min=0
        ),
    ],
    timeout: Annotated[float, _setting("Seconds for one request.", "Limits.request_s")],
    root_path: RootPathOption = "",
    access_log: AccessLogOption = True,
    grace: GraceOption = 60.0,
    fast: FastOption = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve networks over HTTP and WebSocket, with a web page at /.

    Listens on this machine only unless --host is given. Files are decoded in sandboxed processes,
    so a broken file fails its own request and nothing else. /openapi.json describes the API.
    Ctrl-C or SIGTERM finishes accepted requests, then stops.

    Example: kinema serve runs/x/best
    """
    _check_extra()
    from pydantic import SecretStr, ValidationError

    from kinema.decoders.parent import DecoderParent
    from kinema.decoders.pool import DecoderSettings
    from kinema.serve.limits import MIB, Access, BatchSettings, JobSettings, Limits
    from kinema.serve.server import Server, address_of, is_loopback, listen

    show_log()
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
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
            connections=max_connections,
            client_connections=max_client_connections,
            client_per_minute=max_client_rate,
            request_s=timeout,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise OptionError(f"The limit {first['loc'][0]}: {first['msg']}.") from error
    decoding = DecoderSettings(
        workers=workers,
        memory_bytes=worker_mb * MIB,
        cpu_s=worker_seconds,
        silence_s=worker_seconds,
    )
    if api_key is not None and not api_key.strip():
        raise OptionError(
            "--api-key is empty. Give a key, or omit the option to serve without one."
        )
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise OptionError("--api-key must be printable ASCII: headers carry no other letters.")
    if root_path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", root_path):
        raise OptionError(f"--root-path {root_path!r} is no path such as /kinema.")
    if allow_folder is not None and not allow_folder.is_dir():
        raise OptionError(f"--allow-folder {allow_folder} is not a folder.")
    try:
        access = Access(
            api_key=None if api_key is None else SecretStr(api_key),
            hosts=(host, *(allowed_host or ())),
            origins=tuple(cors_origin or ()),
            folder=allow_folder,
        )
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise OptionError(f"--allowed-host: {reason}.") from error
    folders = {name: find_checkpoint(folder) for name, folder in named_folders(checkpoints).items()}
    with listen(host, port) as listening, DecoderParent() as parent:
        if access.api_key is None and not is_loopback(listening):
            notes().print("Anyone who can reach this machine can use the server; see --api-key.")
        parent.start()  # in parallel to importing PyTorch and loading the networks here
        from kinema.serve.service import NetworkFolders, Service
        from kinema.system.process import keep_freed_memory

        source = NetworkFolders(folders, device, fast)
        models = {name: source.load(name) for name in source.folders}
        if any(model.device.type == "cpu" for model in models.values()):
            # Clearing new memory pages takes up to half of the time of a large batch.
            keep_freed_memory(in_threads=True)
        service = Service(
            models,
            limits=limits,
            access=access,
            batching=BatchSettings(clips=max_batch, delay_s=max_delay_ms / 1000),
            decoding=decoding,
            decoder_parent=parent,
            source=source,
        )
        Server(
            service,
            jobs=JobSettings(waiting=max_timelines),
            grace_s=grace,
            root_path=root_path,
            access_log=access_log,
            on_ready=lambda: _say_ready(address_of(listening), list(models), as_json=as_json),
        ).run(sockets=[listening])


def _check_extra() -> None:
    for name in ("fastapi", "uvicorn", "websockets", "python_multipart", "prometheus_client"):
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            raise missing_extra("The service", error.name, "serve") from error


def named_folders(words: list[str]) -> dict[str, Path]:
    """Reads NAME=FOLDER; a folder alone is named by its last part other than best and last.

    Raises:
        OptionError: two networks have the same name, or one has none.
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
