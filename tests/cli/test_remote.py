"""`kinema predict` and `kinema label` on videos in a store and on a web server."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import polars as pl
import pytest

from ..stores import s3_server, web_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def files(color_set) -> dict[str, bytes]:
    videos = {f"{name}/0.mp4": color_set / name / "0.mp4" for name in ("red", "green")}
    content = {path: video.read_bytes() for path, video in videos.items()}
    return content | {"cut.mp4": content["red/0.mp4"][:900]}


@pytest.fixture(scope="module")
def s3(files) -> Iterator[dict[str, str]]:
    with s3_server(files) as environment:
        yield environment


@pytest.fixture(scope="module")
def web(files) -> Iterator[str]:
    with web_server(files) as address:
        yield address


def test_predict_takes_addresses(kinema, checkpoint, color_set, s3, web, monkeypatch):
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    signed = f"http://me:secret@{web}/private/red/0.mp4?signature=hidden"
    words = ("s3://videos/red/0.mp4", "s3://videos/green/", signed, color_set / "red" / "0.mp4")
    answer = kinema("predict", checkpoint, *words, "--json")
    assert answer.code == 0, answer.err
    rows = answer.document
    assert [row["path"] for row in rows] == [
        "s3://videos/red/0.mp4",
        "s3://videos/green/0.mp4",
        f"http://{web}/private/red/0.mp4?...",
        str(color_set / "red" / "0.mp4"),
    ]
    assert rows[0]["top"] == rows[2]["top"] == rows[3]["top"] != rows[1]["top"]
    wrong = (f"http://me:wrong-word@{web}/private/a.mp4?signature=hidden", "s3://videos/none.mp4")
    for form in ((), ("--json",)):
        answer = kinema("predict", checkpoint, *wrong, "s3://videos/cut.mp4", *form)
        assert answer.code == 1
        everything = " ".join((answer.out + answer.err).split())
        assert f"http://{web}/private/a.mp4?... cannot be read: access is refused." in everything
        assert "s3://videos/none.mp4 cannot be read: it does not exist." in everything
        assert "s3://videos/cut.mp4 cannot be read" in everything
        assert not [word for word in ("wrong-word", "hidden", "kinema-copy") if word in everything]


@pytest.mark.timeout(600)
def test_label_takes_addresses(checkpoint, color_set, s3, web, tmp_path):
    local = str(color_set / "red" / "0.mp4")
    signed = f"http://me:secret@{web}/private/red/0.mp4?signature=hidden"
    gone = f"http://me:secret@{web}/none.mp4?signature=hidden"
    paths = ["red/0.mp4", "cut.mp4", "s3://videos/green/0.mp4", signed, gone, local]
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{path}\n" for path in paths))
    words = ("label", checkpoint, listed, "--root", "s3://videos", "--out", tmp_path / "labels")
    done = subprocess.run(
        [sys.executable, "-m", "kinema", *map(str, words), "--workers", "1", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | s3,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    rows = {row["path"]: row for row in pl.scan_parquet(tmp_path / "labels").collect().to_dicts()}
    errors = {path: row["error"] for path, row in rows.items() if row["error"]}
    assert (report["ok"], report["failed"]) == (4, 2), errors
    assert set(rows) == set(paths)  # as listed, so that a job can go on
    assert rows["red/0.mp4"]["top"] == rows[signed]["top"] == rows[local]["top"]
    assert rows["s3://videos/green/0.mp4"]["top"] != rows[local]["top"]
    assert rows[gone]["error"] == (
        f"http://{web}/none.mp4?... cannot be read: it does not exist. Check the address."
    )
    assert rows["cut.mp4"]["error"].startswith("s3://videos/cut.mp4 cannot be read: ")
    assert "hidden" not in done.stdout + done.stderr
