"""FFmpeg options that keep a video from opening other files hold for every opening."""

from pathlib import Path

import pytest

from kinema.decoders import worker
from kinema.decoders.jobs import VideoLimits
from kinema.errors import UnreadableVideoError
from kinema.video.decode import VideoFile, open_source

ONLY_MP4 = {"format_whitelist": "mov", "protocol_whitelist": "file"}


def write_script(path: Path) -> None:
    """A text that makes FFmpeg open another file."""
    path.write_text("ffconcat version 1.0\nfile secret.ts\n", encoding="utf-8")


@pytest.fixture
def script(make_video, tmp_path) -> Path:
    make_video("secret.ts", codec="mpeg2video")
    write_script(tmp_path / "script.mp4")
    return tmp_path / "script.mp4"


def test_a_script_is_refused_where_the_containers_are_listed(script):
    with VideoFile(script) as opened:  # FFmpeg itself follows it
        assert opened.info.container == "concat"
    for build in (VideoFile, open_source):
        with pytest.raises(UnreadableVideoError, match=r"accepted containers \(mov\); playlists"):
            build(script, options=ONLY_MP4)


def test_options_hold_for_every_opening(script, make_video):
    free, bound = (VideoFile(make_video(), options=given) for given in (None, ONLY_MP4))
    with free, bound:
        assert bound.read([0, 20]).equal(free.read([0, 20]))
        for opened in (free, bound):
            opened.close()
            write_script(opened.path)  # the file is exchanged
        assert next(free.in_order()).shape == (48, 64, 3)  # of the other file
        with pytest.raises(UnreadableVideoError, match="accepted containers"):
            bound.read([5])
        bound.close()
        with pytest.raises(UnreadableVideoError, match="accepted containers"):
            next(bound.in_order())


def test_the_decoders_of_the_service_do_not_rely_on_their_first_look(script, monkeypatch):
    limits = VideoLimits(duration_s=60, frames=1000, pixels=100 * 100)
    monkeypatch.setattr(worker, "_check_header", lambda *_: None)
    with pytest.raises(UnreadableVideoError, match=r"accepted containers \(mov, matroska"):
        worker._opened(str(script), limits)
