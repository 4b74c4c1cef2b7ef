"""Files are written whole or not at all; folders that something new may be written to."""

from pathlib import Path

import pytest

from kinema.errors import OutputError
from kinema.system.files import is_unused, partial_of, whole_file, write_whole


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "state.pt"
    file.write_bytes(b"old")

    def fill_the_disk() -> None:
        with whole_file(file) as partial:
            partial.write_bytes(b"ne")
            raise OSError("disk full")

    with pytest.raises(OutputError, match="disk full"):
        fill_the_disk()
    assert file.read_bytes() == b"old"
    write_whole(file, "new")
    assert file.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_is_unused_until_something_whole_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = folder / "settings.toml"
    assert is_unused(folder, first=first)
    folder.mkdir()
    assert is_unused(folder, first=first)
    partial_of(first).write_text("[mod")  # its writer was killed
    assert is_unused(folder, first=first)
    (folder / "notes.txt").write_text("mine")
    assert not is_unused(folder, first=first)
    assert not is_unused(folder / "notes.txt", first=first)
