"""Ray, started here for the time of a job or reached at an address."""

import importlib
import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from kinema.archive.settings import ClusterSettings
from kinema.errors import ClusterError, OptionError, missing_extra
from kinema.system.process import usable_cores

_log = logging.getLogger(__name__)

# Part of a CPU that is set aside for a thread that uses all of it: when a machine is lost, those
# that are left have room for its processes. Ray would otherwise wait until the machine is back.
_SHARE = 0.5
# Where Ray keeps its object store.
_SHARED = "/dev/shm"
# Ray asks for this before it takes anything but a routable address for its own servers; it has to
# be there when Ray is first imported.
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@dataclass(frozen=True)
class Pools:
    """The processes of a job.

    Attributes:
        decoders: Processes that decode.
        workers: Processes that run the network.
        threads: CPU threads of each worker.
        device: "cpu" or "cuda".
        store_bytes: Memory of one machine for what lies between them.
    """

    decoders: int
    workers: int
    threads: int
    device: Literal["cpu", "cuda"]
    store_bytes: int = 0

    @property
    def cpus(self) -> int:
        """CPUs that all of them use."""
        return self.decoders + self.workers * self.threads

    @property
    def decoder_resources(self) -> dict[str, float]:
        """What Ray sets aside for a decoder."""
        return {"num_cpus": _SHARE}

    @property
    def worker_resources(self) -> dict[str, float]:
        """What Ray sets aside for a worker."""
        gpus = 1 if self.device == "cuda" else 0
        return {"num_cpus": _SHARE * self.threads, "num_gpus": gpus}


@contextmanager
def ray_cluster(settings: ClusterSettings) -> Iterator[tuple[Any, Pools]]:
    """Ray and the processes that a job may start; what was started here ends with the block.

    Where Ray runs in this process already, that is used.

    Raises:
        ClusterError: the address cannot be reached.
        MissingExtraError: Ray is not installed.
        OptionError: there are too few cores or GPUs for the pools.
    """
    ray = _ray(local=settings.address is None)
    if ray.is_initialized():
        yield ray, _pools_of(ray, settings)
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if settings.address is None:
            settings = _start(ray, settings, quiet)
        else:
            _check_answers(settings.address)
            ray.init(address=settings.address, **quiet)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise ClusterError(f"Ray at {settings.address or 'this machine'}: {error}") from error
    try:
        yield ray, _pools_of(ray, settings)
    finally:
        ray.shutdown()


def _ray(*, local: bool) -> Any:
    """Imports Ray: it reports nothing home, and alone in a machine nobody else can reach it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if local:
        os.environ[_LOOPBACK] = "0"
        # Ray's parts know each other by this; without it they would write one to the home folder.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.data")
    except ModuleNotFoundError as error:
        raise missing_extra("Labeling an archive", error.name, "ray") from error
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors arrive as exceptions
    return ray


def _check_answers(address: str) -> None:
    """Raises OSError where nothing listens; Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _start(ray: Any, settings: ClusterSettings, quiet: dict[str, Any]) -> ClusterSettings:
    """Starts Ray with a slot for every process; returns the settings with their number.

    There are more slots than cores: what waits leaves its core to the others.
    """
    gpus = torch.cuda.device_count() if settings.device != "cpu" else 0
    cores = usable_cores()
    pools = _divided(settings, cpus=cores, gpus=gpus, own_slots=True)
    free = shutil.disk_usage(_SHARED).free if os.path.isdir(_SHARED) else 0
    if free < settings.store_mb * 2**20:
        _log.warning(
            "%s has %d MB, less than the %d MB between decoders and workers: Ray uses %s instead, "
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
    """The pools, when the running cluster has room for them."""
    found = ray.cluster_resources()
    cpus, gpus = int(found.get("CPU", 0)), int(found.get("GPU", 0))
    nodes = sum(node["Alive"] for node in ray.nodes())
    pools = _divided(settings, cpus=cpus, gpus=gpus)
    pools = replace(pools, store_bytes=int(found.get("object_store_memory", 0)) // max(nodes, 1))
    if pools.cpus > cpus or (pools.device == "cuda" and pools.workers > gpus):
        raise OptionError(
            f"{pools.decoders} decoders and {pools.workers} workers of {pools.threads} threads on "
            f"{pools.device} need {pools.cpus} CPUs; Ray has {cpus} CPUs and {gpus} GPUs."
        )
    return pools


def _divided(settings: ClusterSettings, *, cpus: int, gpus: int, own_slots: bool = False) -> Pools:
    """A worker for every GPU; without them a quarter of the CPUs decodes.

    With `own_slots` decoders take no CPU from the workers.
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
