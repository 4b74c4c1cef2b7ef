"""Temporary folders of this user and of killed processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kinema.system.temporary_folder import TemporaryFolder


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_it_is_the_users_and_deleted_at_the_end(place):
    with TemporaryFolder("test") as folder:
        assert folder.path.parent == place
        assert folder.path.name.startswith("kinema-test-")
        assert folder.path.stat().st_mode & 0o777 == 0o700
        (folder.path / "file").write_text("")
    assert list(place.iterdir()) == []


def test_only_own_abandoned_folders_are_deleted(place):
    used = TemporaryFolder("test")
    foreign, link, other = (place / f"kinema-test-{name}" for name in ("foreign", "link", "other"))
    for folder in (foreign, other, place / "target"):
        folder.mkdir()
        (folder / "lock").touch()
    (other / "lock").unlink()  # made by another program
    link.symlink_to(place / "target")
    if os.geteuid() == 0:
        os.chown(foreign, 12345, 12345)
    else:
        foreign.rename(place / "foreign")
    abandoned = place / "kinema-test-abandoned"
    abandoned.mkdir()
    (abandoned / "lock").touch()
    TemporaryFolder("other").close()
    assert not abandoned.exists()
    assert used.path.exists()
    assert other.exists()
    assert (place / "target" / "lock").exists()
    assert foreign.exists() or (place / "foreign").exists()
    used.close()
    assert not used.path.exists()


KILLED = {
    "cache": "from kinema.system.cache_folder import cache_folder; print(cache_folder('kernels'))",
    "copy": (
        "from kinema.video.remote import local_file\n"
        "with local_file({url!r}) as file:\n"
        "    print(file, flush=True); input()"
    ),
}


@pytest.mark.parametrize("use", KILLED)
def test_the_files_of_a_killed_process_are_deleted_by_the_next(place, use):
    from ...file_server import FileServer

    with FileServer({"/a.mp4": b"12345"}) as server:
        script = KILLED[use].format(url=f"{server.url}/a.mp4") + "\ninput()"
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            env=os.environ | {"TMPDIR": str(place), "KINEMA_CACHE": os.devnull},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            used = Path(process.stdout.readline().strip())
            with TemporaryFolder("test"):
                assert used.exists()
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
    folder = place / used.relative_to(place).parts[0]
    with TemporaryFolder("test"):
        assert not folder.exists()
