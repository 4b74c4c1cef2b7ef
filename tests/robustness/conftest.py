"""A disk of the test's own that can become full or read-only: a tmpfs, or limits of the process."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

SIZE_MB = 64


@dataclass(frozen=True)
class Disk:
    """A folder; `mounted` where it is a file system of its own."""

    folder: Path
    mounted: bool

    @contextmanager
    def full(self, *, left: int = 4096) -> Iterator[None]:
        """No more than some bytes can be written, by this process and those it starts."""
        filler, limits = self.folder / "filler", resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            if self.mounted:
                with filler.open("wb", buffering=0) as file, suppress(OSError):
                    while True:
                        file.write(bytes(1 << 16))
                os.truncate(filler, max(0, filler.stat().st_size - left))
            else:
                resource.setrlimit(resource.RLIMIT_FSIZE, (left, limits[1]))
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            filler.unlink(missing_ok=True)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Nothing can be written."""
        self._allow(writing=False)
        try:
            yield
        finally:
            self._allow(writing=True)

    def _allow(self, *, writing: bool) -> None:
        if self.mounted:
            option = "remount,rw" if writing else "remount,ro"
            subprocess.run(["mount", "-o", option, str(self.folder)], check=True)
        else:
            self.folder.chmod(0o755 if writing else 0o555)


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    # A read-only folder stops nobody who is root, and only a mounted disk can be made full; other
    # users, and root where mounting is allowed (as in CI), run all of it.
    if not mounted and os.geteuid() == 0:
        pytest.skip("root may write everywhere, and no file system can be mounted")
    yield Disk(folder, mounted)
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
