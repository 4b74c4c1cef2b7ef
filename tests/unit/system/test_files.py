"""Files are written whole or not at all; folders that something new may be written to."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from kinema.errors import OutputError
from kinema.system.files import (
    cut_name,
    find_path,
    is_unused,
    near_path,
    partial_of,
    system_error,
    whole_file,
    write_whole,
)


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


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device", "/a/b"), "/a/b: no space left on device. Free som"),
        (OSError(28, "No space left on device"), "The system refused: no space left on device. Fr"),
        (
            OSError(30, "Read-only file system", b"/a"),
            "/a: read-only file system. Check its rights",
        ),
        (OSError(20, "Not a directory", "f/x"), "f/x: not a directory. A part of the path is a f"),
        (
            OSError(24, "Too many open files", "x"),
            "x: too many open files. Raise the limit of open",
        ),
        (
            OSError(5, "Input/output error", "x"),
            "x: input/output error. KINEMA_DEBUG=1 shows where",
        ),
        (OSError("no number"), "no number"),
        (OutputError("as it is"), "as it is"),
    ],
)
def test_errors_of_the_system_have_file_reason_and_fix(error: OSError, message: str) -> None:
    assert system_error(error).startswith(message)


@pytest.mark.parametrize("name", ["x" * 251 + ".csv", "\N{SNOWMAN}" * 84 + ".pt", "x" * 90])
def test_a_name_of_full_length_is_written(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    write_whole(file, "whole")
    assert file.read_text() == "whole"
    assert os.listdir(tmp_path) == [name]
    for partial in (partial_of(file), partial_of(file, suffix=".onnx")):
        assert len(os.fsencode(partial.name)) < len(os.fsencode(name))
    assert partial_of(file) != partial_of(tmp_path / ("y" + name))
    assert partial_of(file, suffix=".onnx").suffix == ".onnx"


def test_a_shared_file_is_written_by_two_at_once(tmp_path: Path) -> None:
    file = tmp_path / "choice.json"
    with ExitStack() as both:
        first, second = (both.enter_context(whole_file(file, shared=True)) for _ in range(2))
        first.write_text("first")
        second.write_text("second")
    assert file.read_text() == "first"  # the outer block ends last
    assert list(tmp_path.iterdir()) == [file]


def test_a_stem_too_long_for_its_ending_is_cut() -> None:
    assert cut_name("train", ".csv") == "train.csv"
    assert cut_name("x" * 300, ".csv") == "x" * 251 + ".csv"
    assert cut_name("\u00e9" * 126, ".csv") == "\u00e9" * 125 + ".csv"


def test_accented_names_are_found_in_either_form(tmp_path: Path) -> None:
    there = tmp_path / "cafe\u0301" / "\u00e9.mp4"
    there.parent.mkdir()
    there.touch()
    for folder in ("cafe\u0301", "caf\u00e9"):
        for name in ("e\u0301.mp4", "\u00e9.mp4"):
            assert find_path(tmp_path / folder / name) == there
    assert find_path(tmp_path / "caf\u00e9" / "b.mp4") == tmp_path / "caf\u00e9" / "b.mp4"
    absent = tmp_path / "th\u00e9" / "\u00e9.mp4"
    assert find_path(absent) == absent


def test_a_near_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "7.webm").touch()
    run = tmp_path / "run"
    assert near_path(run / "7") == f" {run / '7.webm'} does: add the suffix."
    backslash = tmp_path / "run\\7.webm"
    assert near_path(backslash) == f" {run / '7.webm'} does: write paths with / instead of \\."
    assert near_path(tmp_path / "a\\b") == " It has a \\: write paths with / instead of \\."
    for impossible in ("\u00e9" * 999, "\u00e9\0/\u00e9", "a\0/b", "a\\" * 999):
        assert find_path(run / impossible) == run / impossible
        assert near_path(run / impossible).startswith(" It has a" if "\\" in impossible else "")
    assert near_path(run / "8") == near_path(run / "8.mp4") == near_path(tmp_path / "no/8") == ""
