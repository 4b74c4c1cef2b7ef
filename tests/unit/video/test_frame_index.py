"""Index cache: entries are correct or ignored, even if its file is damaged."""

import logging
import multiprocessing
import os
import random
import shutil
import sqlite3

import pytest

from kinema.errors import OptionError
from kinema.values import VideoInfo
from kinema.video import index_cache
from kinema.video.decode import VideoFile
from kinema.video.frame_index import FrameIndex, IndexedVideo, unreferenced_test
from kinema.video.index_cache import CACHE_NAME, IndexCache


def known(path, frames: int = 3) -> IndexedVideo:
    info = VideoInfo(str(path), frames, 25.0, frames / 25, 64, 48, 0, "h264", "mov,mp4")
    pts = tuple(range(-512, 512 * (frames - 1), 512))
    index = FrameIndex(frames, "seek", pts, (-512,), (0,))
    return IndexedVideo(info, index, (64, 48), 1 / 12800)


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "videos" / "a.mp4"
    path.parent.mkdir()
    path.write_bytes(b"twelve bytes")
    return path


@pytest.fixture
def cache(tmp_path) -> IndexCache:
    return IndexCache(tmp_path / CACHE_NAME)


def test_what_is_put_in_comes_out(cache, video):
    assert cache.get(video, os.stat(video)) is None
    cache.put(video, os.stat(video), known(video))
    assert cache.get(video, os.stat(video)) == known(video)


@pytest.mark.parametrize("change", ["content", "time", "ffmpeg"])
def test_what_has_changed_is_not_known(cache, video, change, monkeypatch):
    cache.put(video, os.stat(video), known(video))
    if change == "content":
        facts = os.stat(video)
        video.write_bytes(b"longer than before")
        os.utime(video, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    elif change == "time":
        os.utime(video, ns=(1, 1))
    else:
        monkeypatch.setattr(index_cache, "_LAYOUT", "2 av 1.0")
    assert cache.get(video, os.stat(video)) is None


def test_a_data_set_may_be_moved_with_its_cache(cache, video, tmp_path):
    cache.put(video, os.stat(video), known(video))
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.move(cache.path, moved / CACHE_NAME)
    shutil.move(video.parent, moved / "videos")
    found = moved / "videos" / "a.mp4"
    assert IndexCache(moved / CACHE_NAME).get(found, os.stat(found)) == known(found)


def test_a_damaged_file_is_begun_anew_with_a_note(cache, video, caplog):
    facts = os.stat(video)
    for damage in (b"this is no database, " * 500, b"SQLite format 3\0" + b"\xff" * 5000):
        cache.path.write_bytes(damage)
        with caplog.at_level(logging.WARNING, "kinema"):
            assert cache.get(video, facts) is None
        assert "not a usable index cache" in caplog.text
        caplog.clear()
        cache.put(video, facts, known(video))
        assert cache.get(video, facts) == known(video)
        assert cache.path.with_name(CACHE_NAME + ".damaged").read_bytes() == damage


def test_a_table_of_another_form_is_begun_anew(cache, video, caplog):
    db = sqlite3.connect(cache.path)
    db.execute("CREATE TABLE videos (title TEXT)")
    db.close()
    with caplog.at_level(logging.WARNING, "kinema"):
        assert cache.get(video, os.stat(video)) is None
    assert "not a usable index cache" in caplog.text
    cache.put(video, os.stat(video), known(video))
    assert cache.get(video, os.stat(video)) == known(video)


def test_a_torn_file_never_gives_wrong_answers(cache, tmp_path):
    paths = [tmp_path / f"{i}.mp4" for i in range(200)]
    for path in paths:
        path.write_bytes(b"x")
        cache.put(path, os.stat(path), known(path))
    content = bytearray(cache.path.read_bytes())
    third, half = len(content) // 3, len(content) // 2
    content[third:half] = random.Random(0).randbytes(half - third)
    cache.path.write_bytes(content)
    for path in paths:
        assert cache.get(path, os.stat(path)) in (None, known(path))
    cache.put(paths[0], os.stat(paths[0]), known(paths[0]))


@pytest.mark.parametrize(
    "change",
    ["blob = x'00'", "blob = 'text'", "blob = substr(blob, 1, 20)"],
)
def test_a_damaged_entry_is_not_believed(cache, video, change, caplog):
    cache.put(video, os.stat(video), known(video))
    with sqlite3.connect(cache.path) as db:
        db.execute(f"UPDATE videos SET {change.replace('blob', 'entry')}")
    db.close()
    with caplog.at_level(logging.WARNING, "kinema"):
        assert cache.get(video, os.stat(video)) is None
    assert "a.mp4 is damaged and will be rebuilt" in caplog.text


@pytest.mark.parametrize(
    "wrong",
    [
        FrameIndex(4, "seek", (0, 1, 2), (0,)),
        FrameIndex(3, "seek", (0, 2, 2), (0,)),
        FrameIndex(3, "seek", (0, 1, 2), ()),
        FrameIndex(3, "seek", (), (0,)),
        FrameIndex(3, "skip", (), (1,)),
    ],
)
def test_an_entry_that_contradicts_itself_is_not_believed(cache, video, wrong):
    entry = known(video)
    cache.put(video, os.stat(video), IndexedVideo(entry.info, wrong, entry.coded_size, 1.0))
    assert cache.get(video, os.stat(video)) is None


def test_a_busy_cache_is_done_without(cache, video, monkeypatch):
    cache.put(video, os.stat(video), known(video))
    monkeypatch.setattr(index_cache, "_BUSY_S", 0.01)
    db = sqlite3.connect(cache.path)
    db.execute("BEGIN EXCLUSIVE")
    assert cache.get(video, os.stat(video)) is None
    cache.put(video, os.stat(video), known(video, frames=9))
    db.rollback()
    db.close()
    assert cache.get(video, os.stat(video)) == known(video)


def write_many(place: str, first: int) -> None:
    cache = IndexCache(place)
    for number in range(first, first + 40):
        path = cache.path.with_name(f"{number}.mp4")
        cache.put(path, os.stat(path), known(path, frames=1 + number))


@pytest.mark.slow
def test_processes_may_write_at_once(cache, tmp_path):
    paths = [tmp_path / f"{number}.mp4" for number in range(100)]
    for path in paths:
        path.write_bytes(b"x")
    context = multiprocessing.get_context("forkserver")
    firsts = (0, 30, 60)  # the ranges overlap
    writers = [context.Process(target=write_many, args=(str(cache.path), n)) for n in firsts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    for number, path in enumerate(paths):
        assert cache.get(path, os.stat(path)) == known(path, frames=1 + number)


def test_where_the_cache_lies(tmp_path, monkeypatch):
    beside = IndexCache.chosen(None, tmp_path)
    assert beside is not None
    assert beside.path == tmp_path / CACHE_NAME
    named = IndexCache.chosen(str(tmp_path / "mine"), tmp_path / "videos")
    assert named is not None
    assert named.path == tmp_path / "mine"
    assert IndexCache.chosen("", tmp_path) is None
    assert IndexCache.chosen(None, tmp_path / "nowhere") is None
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert IndexCache.chosen(None, tmp_path) is None


def test_a_place_that_cannot_be_right_is_refused(tmp_path):
    rows = tmp_path / "train.csv"
    rows.write_text("path,label\n")
    with pytest.raises(OptionError, match="must be a file in a folder that exists.*kinema_index"):
        IndexCache.chosen(str(tmp_path), tmp_path)
    with pytest.raises(OptionError, match="must be a file in a folder that exists"):
        IndexCache.chosen(str(tmp_path / "a" / "b"), tmp_path)
    with pytest.raises(OptionError, match="train.csv' is not a cache file"):
        IndexCache.chosen(str(rows), tmp_path)


def test_only_good_videos_are_remembered(cache, video, make_video):
    with pytest.raises(OSError, match="not a video"):
        VideoFile(video, index_cache=cache)
    assert not cache.path.exists()
    good = make_video()
    VideoFile(good, index_cache=cache).close()
    assert cache.get(good, os.stat(good)) is not None


AVCC = bytes([1, 100, 0, 31, 0xFF, 0xE1, 0])  # lengths have four bytes


def units(*heads: int) -> bytes:
    return b"".join(b"\0\0\0\3" + bytes([head, 1, 2]) for head in heads)


@pytest.mark.parametrize(
    ("heads", "answer"),
    [
        ((0x01,), True),
        ((0x06, 0x01, 0x01), True),  # SEI and two slices
        ((0x21,), False),  # referenced
        ((0x01, 0x21), False),  # its second field is
        ((0x65,), False),  # a keyframe
        ((0x67, 0x01), False),  # brings a parameter set
        ((0x06,), False),  # no picture
    ],
)
def test_which_pictures_no_other_needs(heads, answer):
    test = unreferenced_test("h264", AVCC)
    assert test(units(*heads)) is answer
    assert test(units(*heads)[:-1]) is False  # cut short
    assert unreferenced_test("hevc", AVCC)(units(*heads)) is False
    assert unreferenced_test("h264", b"\0\0\0\1" + AVCC)(units(*heads)) is False
    assert unreferenced_test("h264", None)(units(*heads)) is False


@pytest.mark.parametrize("what", ["folder", "file"])
def test_an_index_that_others_may_have_written_is_not_believed(
    color_set, tmp_path, what, monkeypatch, caplog
):
    """A false one that claims a single frame; the right one is kept in the cache folder."""
    monkeypatch.setenv("KINEMA_CACHE", str(tmp_path / "cache"))
    shared = tmp_path / "videos"
    shared.mkdir()
    video = shutil.copy(color_set / "red" / "0.mp4", shared / "a.mp4")
    IndexCache(shared / CACHE_NAME).put(video, os.stat(video), known(video, frames=1))
    with VideoFile(video, index_cache=IndexCache.chosen(None, shared)) as believed:
        assert believed.info.frames == 1
    (shared if what == "folder" else shared / CACHE_NAME).chmod(0o777)
    with caplog.at_level(logging.INFO, "kinema"):
        for _ in range(2):
            cache = IndexCache.chosen(None, shared)
            with VideoFile(video, index_cache=cache) as opened:
                assert opened.info.frames > 1
    assert cache.path.parent == tmp_path / "cache" / "indices"
    assert cache.get(video, os.stat(video)).info.frames == opened.info.frames
    (record,) = caplog.records
    part = shared if what == "folder" else shared / CACHE_NAME
    assert record.getMessage() == (
        f"The index cache {shared / CACHE_NAME} is not used (other users can write to {part}: "
        f"chmod go-w makes it usable): the frames of its videos are indexed in {cache.path} "
        "instead. Name another file with data.index_cache."
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_index_of_another_user_is_not_believed(video, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("KINEMA_CACHE", str(tmp_path / "cache"))
    IndexCache(tmp_path / CACHE_NAME).put(video, os.stat(video), known(video))
    os.chown(tmp_path / CACHE_NAME, 12345, -1)
    assert IndexCache(tmp_path / CACHE_NAME).get(video, os.stat(video)) is None
    assert "belongs to another user" in caplog.text
