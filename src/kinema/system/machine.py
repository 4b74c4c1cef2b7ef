"""Devices, and facts about software and machine that are stored with runs and measurements."""

import contextlib
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from kinema.errors import OptionError

PACKAGES = (
    "kinema",
    "torch",
    "torchvision",
    "timm",
    "av",
    "numpy",
    "lightning",
    "onnx",
    "onnxruntime",
    "openvino",
    "nncf",
    "decord",
)


def find_device(name: str | torch.device | None = None) -> torch.device:
    """Returns the named device; by default a GPU if there is one, else the CPU.

    Raises:
        OptionError: the machine or the installed PyTorch does not have this device.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # RuntimeError: an unknown name, no driver or no such card. AssertionError: PyTorch was built
    # without CUDA. NotImplementedError: it was built without that backend.
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        here += ["mps"] if torch.backends.mps.is_available() else []
        raise OptionError(
            f"PyTorch cannot compute on {str(name)!r} here. Valid are: {', '.join(here)}."
        ) from error
    return device


def run_facts() -> dict[str, Any]:
    """Returns versions, git commit and machine as plain data for JSON."""
    return {
        "versions": _versions(),
        "git_commit": _git_commit(),
        "machine": {
            "system": platform.platform(),
            "cpu": _cpu_name(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "memory_gb": _memory_gb(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
    }


def _versions() -> dict[str, str]:
    """Versions of Python and of the installed packages."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _git_commit() -> str | None:
    """Commit of kinema's source, with "+" if files are modified; None if it is installed."""
    folder = Path(__file__).parent
    if "site-packages" in folder.parts:
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    return commit + ("+" if _git(folder, "status", "--porcelain", "--", ".") else "")


def _git(folder: Path, *words: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_gb() -> float | None:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    return round(size / 1e9, 1)
