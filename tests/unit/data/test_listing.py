"""Which videos a folder holds."""

from pathlib import Path

from kinema.data.listing import list_videos


def touched(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def found(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in list_videos([root])]


def test_videos_are_found_at_any_depth_and_hidden_ones_are_none(tmp_path):
    touched(tmp_path, "b.mp4", "a/deep/c.mkv", "note.txt", "._b.mp4", ".Trash-1000/d.mp4")
    assert found(tmp_path) == ["a/deep/c.mkv", "b.mp4"]


def test_folders_of_frames_are_videos_where_there_are_no_files(tmp_path):
    touched(tmp_path, "one/1.jpg", "one/2.jpg", "two/1.png", "__MACOSX/one/._1.jpg")
    assert found(tmp_path) == ["one", "two"]


def test_links_to_folders_are_followed_once(tmp_path):
    root = tmp_path / "root"
    touched(tmp_path, "root/a/1.mp4", "elsewhere/2.mp4")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "link" / "round").symlink_to(root)
    assert found(root) == ["a/1.mp4", "link/2.mp4"]
