"""The cache folder, whose contents are executed or trusted, is the user's alone."""

import grp
import logging
import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kinema.system import cache_folder as module
from kinema.system.cache_folder import cache_folder, check_private, user_folder

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("KINEMA_CACHE", str(tmp_path / "cache"))
    module._folder_of_process.cache_clear()
    return tmp_path / "cache"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("variable", ["KINEMA_CACHE", "KINEMA_HOME"])
def test_the_folders_of_a_user_follow_one_rule(variable, monkeypatch, tmp_path):
    monkeypatch.setenv(variable, "~/own")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_folder(variable) == tmp_path / "own"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "beside")
    assert user_folder(variable) == tmp_path / "beside"
    monkeypatch.setenv(variable, "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert user_folder(variable) == tmp_path / "xdg" / "kinema"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert user_folder(variable) == tmp_path / ".cache" / "kinema"


def test_it_and_the_folders_in_it_are_created_for_the_user_alone(folder):
    before = os.umask(0)
    try:
        assert cache_folder() == folder
        assert cache_folder("inductor") == folder / "inductor"
    finally:
        os.umask(before)
    assert (mode(folder), mode(folder / "inductor")) == (0o700, 0o700)


@pytest.mark.parametrize("part", ["", "inductor"])
@pytest.mark.parametrize("rights", [0o777, 0o770, 0o702])
def test_what_others_can_write_to_is_replaced_with_one_warning(folder, part, rights, caplog):
    cache_folder("inductor")
    (folder / part).chmod(rights)
    with caplog.at_level(logging.INFO, "kinema"):
        first, again = cache_folder("inductor"), cache_folder("inductor")
    assert first == again
    assert not first.is_relative_to(folder)
    assert (mode(first), mode(first.parent)) == (0o700, 0o700)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f"The cache folder is not used (other users can write to {folder / part}: chmod go-w makes "
        "it usable): what is compiled and measured serves this process only. Set KINEMA_CACHE to a "
        "folder that only you can write to."
    )


@needs_root
def test_the_folder_of_another_user_is_replaced(folder, caplog):
    cache_folder()
    os.chown(folder, 12345, -1)
    assert cache_folder() != folder
    assert f"{folder} belongs to another user" in caplog.text


def test_without_a_home_folder_there_is_one_for_the_process(monkeypatch, caplog):
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("KINEMA_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert mode(cache_folder()) == 0o700
    assert "Could not determine home directory" in caplog.text


def test_the_folder_of_a_process_is_deleted_at_its_end(folder, tmp_path):
    folder.write_text("in the way", encoding="utf-8")
    script = "from kinema.system.cache_folder import cache_folder as f; print(f('triton'))"
    answer = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    used = Path(answer.stdout.strip())
    assert used.parent.parent == tmp_path
    assert not used.parent.exists()
    assert answer.stderr.count("The cache folder is not used") == 1


@needs_root
def test_a_group_is_trusted_only_if_it_is_the_users_own(tmp_path, monkeypatch):
    """With umask 002, which many systems give to users with a group of their own."""
    file = tmp_path / "index"
    file.touch(0o664)
    file.chmod(0o664)
    with pytest.raises(PermissionError, match="other users can write"):
        check_private(file, own_group=True)  # of the group root
    user = pwd.getpwuid(0)
    os.chown(file, -1, 4242)
    own = grp.struct_group((user.pw_name, "x", 4242, []))
    shared = grp.struct_group((user.pw_name, "x", 4242, ["someone"]))
    for group, trusted in ((own, True), (shared, False)):
        monkeypatch.setattr(grp, "getgrgid", lambda number, group=group: group)
        module._is_private_group.cache_clear()
        if trusted:
            check_private(file, own_group=True)
        else:
            with pytest.raises(PermissionError, match="other users can write"):
                check_private(file, own_group=True)
        with pytest.raises(PermissionError, match="other users can write"):
            check_private(file)
    module._is_private_group.cache_clear()
