"""Folders that something new may be written to."""

from pathlib import Path

from kinema.system.files import is_unused, partial_of


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
