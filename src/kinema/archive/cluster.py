"""Ray cluster: started here for the duration of a job, or reached at an address."""

import importlib
import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from kinema.archive.settings import ClusterSettings
from kinema.archive.watchdog import watched
from kinema.errors import ClusterError, KinemaError, OptionError, missing_extra
from kinema.system.process import usable_cores

_log = logging.getLogger(__name__)

# CPUs that Ray reserves for a thread that uses a whole one: when a machine is lost, the others have
# room for its processes. Ray would otherwise wait until the machine is back.
_SHARE = 0.5
# Ray keeps its object store here.
_SHARED = "/dev/shm"
# Without this variable Ray binds its own servers to a routable address. Ray reads it when it is
# first imported.
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@dataclass(frozen=True)
class Pools:
    """Processes of a job.

    Attributes:
        decoders: Processes that decode.
        workers: Processes that run the network.
        threads: CPU threads of each worker.
        device: "cpu" or "cuda".
        store_bytes: Object store of one machine, for views between both kinds.
    """

    decoders: int
    workers: int
    threads: int
    device: Literal["cpu", "cuda"]
    store_bytes: int = 0

    @property
    def cpus(self) -> int:
        """CPUs that all processes use."""
        return self.decoders + self.workers * self.threads

    @property
    def decoder_resources(self) -> dict[str, float]:
        """Resources that Ray reserves for a decoder."""
        return {"num_cpus": _SHARE}

    @property
    def worker_resources(self) -> dict[str, float]:
        """Resources that Ray reserves for a worker."""
        gpus = 1 if self.device == "cuda" else 0
        return {"num_cpus": _SHARE * self.threads, "num_gpus": gpus}


@contextmanager
def ray_cluster(settings: ClusterSettings) -> Iterator[tuple[Any, Pools]]:
    """Gives Ray and the processes that a job may start; a cluster started here ends with the block.

    If Ray is already initialized in this process, it is used.

    Raises:
        ClusterError: Ray does not start in time, or the address cannot be reached; the message says
            what to check.
        MissingExtraError: Ray is not installed.
        OptionError: there are too few cores or GPUs for the pools.
    """
    ray = _ray(local=settings.address is None)
    if ray.is_initialized():
        yield ray, _pools_of(ray, settings)
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with nullcontext() if settings.address else watched():
        try:
            if settings.address is None:
                settings = _start(ray, settings, quiet)
            else:
                _check_answers(settings.address)
                ray.init(address=settings.address, **quiet)
        except KinemaError:
            raise
        except Exception as error:  # Ray has no class of its own for a start that takes too long
            reason = (getattr(error, "strerror", None) or str(error)).rstrip(".")
            raise ClusterError(_not_started(settings.address, reason, ray.__version__)) from error
        try:
            yield ray, _pools_of(ray, settings)
        finally:
            ray.shutdown()


def _not_started(address: str | None, reason: str, version: str) -> str:
    if address is not None:
        return (
            f"Ray at {address} cannot be reached: {reason}. Check that it runs there (ray status "
            f"--address {address}), that it is Ray {version}, and that no firewall is between."
        )
    folder = Path(tempfile.gettempdir(), "ray")
    return (
        f"Ray did not start on this machine: {reason}. Check that there is memory left, that "
        f"{_SHARED} and {folder} are writable and not full, and that more processes may be "
        f"started (ulimit -u). Its logs are in {folder}/session_latest/logs."
    )


def _ray(*, local: bool) -> Any:
    """Imports Ray without usage reports; a local cluster is unreachable from outside."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if local:
        os.environ[_LOOPBACK] = "0"
        # Ray's processes authenticate with this; otherwise they write a token to the home folder.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.data")
    except ModuleNotFoundError as error:
        raise missing_extra("Labeling an archive", error.name, "ray") from error
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors arrive as exceptions
    return ray


def _check_answers(address: str) -> None:
    """Raises OSError if nothing listens there; Ray itself would retry for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _start(ray: Any, settings: ClusterSettings, quiet: dict[str, Any]) -> ClusterSettings:
    """Starts Ray with a slot for every process; returns the settings with their numbers filled in.

    There are more slots than cores: a process that waits leaves its core to the others.
    """
    gpus = torch.cuda.device_count() if settings.device != "cpu" else 0
    cores = usable_cores()
    pools = _divide(settings, cpus=cores, gpus=gpus, own_slots=True)
    free = shutil.disk_usage(_SHARED).free if os.path.isdir(_SHARED) else 0
    if free < settings.store_mb * 2**20:
        _log.warning(
            "%s has %d MB free, less than the object store of %d MB: Ray uses %s instead, "
            "which is slower.",
            *(_SHARED, free >> 20, settings.store_mb, tempfile.gettempdir()),
        )
    ray.init(
        address="local",
        num_cpus=pools.cpus,
        num_gpus=gpus,
        include_dashboard=False,
        object_store_memory=settings.store_mb * 2**20,
        **quiet,
    )
    address = ray.util.get_node_ip_address()
    if not address.startswith("127."):
        _log.warning("Ray was imported before and listens on %s.", address)
    return replace(settings, decoders=pools.decoders, workers=pools.workers, device=pools.device)


def _pools_of(ray: Any, settings: ClusterSettings) -> Pools:
    """Divides the running cluster; raises OptionError if it is too small."""
    found = ray.cluster_resources()
    cpus, gpus = int(found.get("CPU", 0)), int(found.get("GPU", 0))
    nodes = sum(node["Alive"] for node in ray.nodes())
    pools = _divide(settings, cpus=cpus, gpus=gpus)
    pools = replace(pools, store_bytes=int(found.get("object_store_memory", 0)) // max(nodes, 1))
    if pools.cpus > cpus or (pools.device == "cuda" and pools.workers > gpus):
        raise OptionError(
            f"{pools.decoders} decoders and {pools.workers} workers of {pools.threads} threads on "
            f"{pools.device} need {pools.cpus} CPUs; Ray has {cpus} CPUs and {gpus} GPUs."
        )
    return pools


def _divide(settings: ClusterSettings, *, cpus: int, gpus: int, own_slots: bool = False) -> Pools:
    """Plans a worker for every GPU; without GPUs a quarter of the CPUs decodes.

    With `own_slots` decoders take no CPUs from the workers.
    """
    threads = settings.threads
    device = settings.device or ("cuda" if gpus else "cpu")
    if device == "cuda":
        workers = settings.workers or max(1, gpus)
        decoders = settings.decoders or max(1, cpus - workers * threads)
    else:
        decoders = settings.decoders or max(1, -(-cpus // 4))
        left = cpus if own_slots else cpus - decoders
        workers = settings.workers or max(1, left // threads)
    return Pools(decoders, workers, threads, device)
