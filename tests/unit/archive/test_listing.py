"""Lists, folders and manifests of videos."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kinema.archive.listing import read_listing
from kinema.errors import AnnotationError

from ...stores import s3_server


def test_a_text_file_holds_a_path_per_line(tmp_path):
    file = tmp_path / "videos.txt"
    file.write_text("\ufeffb.mp4\n\ndeep/a name.mp4\r\nb.mp4\n/else/c.mp4", encoding="utf-8")
    listing = read_listing(file, root=None)
    assert listing.paths.to_pylist() == ["b.mp4", "deep/a name.mp4", "/else/c.mp4"]
    assert (listing.root, listing.repeated) == (tmp_path, 1)
    assert read_listing(file, root="/videos").root.as_posix() == "/videos"


def test_a_folder_is_searched(color_set):
    listing = read_listing(color_set, root=None)
    assert listing.paths.to_pylist()[:3] == ["blue/0.mp4", "blue/1.mp4", "green/0.mp4"]
    assert (len(listing), listing.root) == (6, color_set)


def test_one_video_and_one_folder_of_frames(color_set, tmp_path):
    one = read_listing(color_set / "red" / "0.mp4", root=None)
    assert (one.paths.to_pylist(), one.root) == (["0.mp4"], color_set / "red")
    (tmp_path / "frames").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "frames" / "1.png")
    frames = read_listing(tmp_path / "frames", root=None)
    assert (frames.paths.to_pylist(), frames.root) == (["frames"], tmp_path)


def test_manifests_are_read_by_column(tmp_path):
    for number, kind in enumerate((pa.string(), pa.large_string())):
        table = pa.table({"file": pa.array([f"{number}.mp4", "same.mp4"], kind), "size": [1, 2]})
        pq.write_table(table, tmp_path / f"{number}.parquet")
    listing = read_listing(tmp_path, root=None, column="file")
    assert listing.paths.to_pylist() == ["0.mp4", "same.mp4", "1.mp4"]
    assert listing.repeated == 1
    alone = read_listing(tmp_path / "1.parquet", root=None, column="file")
    assert (len(alone), alone.root) == (2, tmp_path)
    with pytest.raises(AnnotationError, match="no column 'path', but file, size: see --column"):
        read_listing(tmp_path, root=None)


def test_names_that_are_not_utf8_are_escaped(color_set, tmp_path):
    strange = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    with open(strange, "wb") as file:
        file.write((color_set / "red" / "0.mp4").read_bytes())
    assert read_listing(tmp_path, root=None).paths.to_pylist() == ["caf\\xe9.mp4"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("gone.txt", None, "gone.txt does not exist"),
        ("empty.txt", b"\n\n", "names no video"),
        ("latin.txt", b"a.mp4\ncaf\xe9.mp4\n", "is not UTF-8 text with a path per line"),
        ("binary.dat", b"a\0b\n", "line 1: this is not a list of paths"),
        ("bad.parquet", b"PAR1", "cannot be read as Parquet"),
    ],
)
def test_wrong_lists(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(AnnotationError, match=reason):
        read_listing(tmp_path / name, root=None)


def test_a_manifest_with_gaps_and_a_folder_without_videos(tmp_path):
    with pytest.raises(AnnotationError, match="holds no videos"):
        read_listing(tmp_path, root=None)
    pq.write_table(pa.table({"path": ["a.mp4", None]}), tmp_path / "m.parquet")
    with pytest.raises(AnnotationError, match="1 rows have no path"):
        read_listing(tmp_path, root=None)


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.mp4,run\n",
        "\nPath\na.mp4\n",
        "label;path\nrun;a.mp4\n",
        "a.mp4,run\n",
        '"a b.mp4","run"\n',
        "a b.mp4 3\n",
    ],
)
def test_a_table_is_not_taken_for_paths(tmp_path, text):
    (tmp_path / "list.csv").write_text(text)
    message = f"list.csv, line 1: expected a path per line, got '?{text.split()[0]}.* of a table"
    with pytest.raises(AnnotationError, match=message):
        read_listing(tmp_path / "list.csv", root=None)


def test_paths_may_look_like_tables(tmp_path):
    lines = ["run, fast.mp4", "clips/run;slow", "a path of frames", "b.mp4"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    assert read_listing(tmp_path / "list.csv", root=None).paths.to_pylist() == lines


def test_a_path_in_three_spellings_is_said(tmp_path, caplog):
    lines = ["./a.mp4", "x/../a.mp4", "a.mp4", f"{tmp_path}/b.mp4", "b.mp4", "./c.mp4", "d.mp4"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    assert read_listing(tmp_path / "list.txt", root=None).paths.to_pylist() == lines
    (message,) = caplog.messages
    assert "names 3 videos again in another spelling, such as 'x/../a.mp4' and './a.mp4'" in message


@pytest.mark.slow
def test_lists_and_folders_at_addresses(tmp_path, caplog):
    pq.write_table(pa.table({"path": ["a/1.mp4", "s3://other/2.mp4"]}), tmp_path / "m.parquet")
    files = {
        "lists/a.txt": b"a/1.mp4\ns3://videos/a/1.mp4\ns3://videos//a/1.mp4\n",
        "lists/m.parquet": (tmp_path / "m.parquet").read_bytes(),
        "lists/bad.txt": b"a/1.mp4\n\xff\n",
        "a/1.mp4": b"1",
        "a/b/2.mp4": b"2",
    }

    def found(source: str, **options) -> tuple[object, list[str]]:
        listing = read_listing(source, **{"root": None, **options})
        return listing.root, listing.paths.to_pylist()

    with s3_server(files) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        s3 = "s3://videos"
        three = ["a/1.mp4", f"{s3}/a/1.mp4", f"{s3}//a/1.mp4"]
        assert found(f"{s3}/lists/a.txt") == (f"{s3}/lists", three)
        assert found(f"{s3}/lists/a.txt", root=s3) == (s3, three)
        assert found(f"{s3}/lists/a.txt", root=tmp_path) == (tmp_path, three)
        assert found(f"{s3}/lists/m.parquet") == (f"{s3}/lists", ["a/1.mp4", "s3://other/2.mp4"])
        assert found(f"{s3}/a") == (f"{s3}/a", ["1.mp4", "b/2.mp4"])
        assert found(f"{s3}/a/1.mp4") == (f"{s3}/a", [f"{s3}/a/1.mp4"])
        for name, reason in (
            ("lists/none.txt", "lists/none.txt cannot be read: it does not exist"),
            ("lists/bad.txt", "lists/bad.txt, after line .: this is not UTF-8"),
            ("lists/", "lists/ holds no videos"),
        ):
            with pytest.raises(AnnotationError, match=f"^{s3}/{reason}"):
                found(f"{s3}/{name}")
    assert not caplog.records
