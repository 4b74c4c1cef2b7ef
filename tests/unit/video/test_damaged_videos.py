"""Damaged files: their good frames are read, and errors name the bad ones."""

import os

import av
import numpy as np
import pytest
from PIL import Image

from kinema.errors import UnreadableVideoError
from kinema.video.decode import VideoFile, open_source

from .reading import KINDS, in_order, pictures


def leave_out(path, name: str, packets: range):
    """A copy without some of the packets."""
    target = path.with_name(name)
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size and number not in packets:
                packet.stream = stream
                container.mux(packet)
    return target


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("name", ["h264_gop12.mp4", "open_gop.mp4", "open_gop_h265.mp4"])
def test_a_video_cut_inside_of_a_group_has_the_frames_that_decode(make_video, name, suffix):
    path = leave_out(make_video(name, **KINDS[name]), f"cut.{suffix}", range(5))
    expected = in_order(path)
    with VideoFile(path) as source:
        assert source.info.frames == len(expected) < 25
        for number, picture in enumerate(expected):
            assert np.array_equal(pictures(source, [number])[0], picture)


def test_no_frame_takes_the_place_of_a_lost_one(make_video, read_number):
    path = leave_out(make_video(frames=48), "lost.mkv", range(12, 13))  # a keyframe
    with VideoFile(path) as source:
        assert source.info.frames == 47
        for number in (*range(10), *range(24, 47)):
            shown = read_number(pictures(source, [number])[0])
            assert shown == (number if number < 12 else number + 1)
        with pytest.raises(
            UnreadableVideoError, match="frame 1[0-9] of 47 cannot be decoded; later"
        ):
            source.read(range(47))
        with pytest.raises(UnreadableVideoError, match="only [0-9]+ of its 47 frames"):
            source.verify()


def cut(path, share: float):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def song_with_cover(path):
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        cover = container.add_stream("mjpeg")
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
        container.mux([*cover.encode(picture), *cover.encode()])
        for number in range(8):
            tone = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            tone.rate, tone.pts = 16000, 1024 * number
            container.mux(sound.encode(tone))
        container.mux(sound.encode())
    return path


def test_unreadable_files_are_named_with_their_reason(make_video, tmp_path, sound_file, capfd):
    text = tmp_path / "text.mp4"
    text.write_text("this is no video\n" * 50)
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    picture = tmp_path / "picture.mp4"
    Image.new("RGB", (30, 20)).save(picture, format="png")
    unknown = make_video("unknown.mp4")
    unknown.write_bytes(unknown.read_bytes().replace(b"avc1", b"zzzz"))
    no_index = cut(make_video("no_index.mp4"), 0.5)
    front = make_video("front.mp4", frames=60, container_options={"movflags": "faststart"})
    (tmp_path / "no_frames").mkdir()
    reasons = {
        tmp_path / "missing.mp4": "does not exist",
        "http://camera/live.mp4": "does not exist. It is a URL: .*`kinema stream`",
        text / "inside.mp4": "cannot be read: not a directory",
        os.devnull: "is not a file",
        picture: "is an image or text \\(png_pipe\\), not a video",
        unknown: "no decoder for the codec",
        song_with_cover(tmp_path / "cover.mp4"): "has no video stream \\(only audio streams\\)",
        text: "damaged or not a video",
        empty: "is empty \\(0 bytes\\)",
        no_index: "damaged or not a video",
        cut(front, 0.7): "truncated: its header promises 60 frames, [0-9]+ are in the file",
        sound_file: "has no video stream \\(only audio streams\\)",
        tmp_path / "no_frames": "holds no frames",
    }
    capfd.readouterr()
    for path, reason in reasons.items():
        with pytest.raises(UnreadableVideoError, match=f"{os.path.basename(path)}.*{reason}"):
            open_source(path)
    with pytest.raises(UnreadableVideoError, match="missing.mp4 does not exist"):
        VideoFile(tmp_path / "missing.mp4")
    assert capfd.readouterr() == ("", "")


def damage(path, number: int):
    """Overwrites one packet."""
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][number]
        place, size = packet.pos, packet.size
    content = bytearray(path.read_bytes())
    content[place : place + size] = b"\xff" * size
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["h264_gop12.mp4", "mpeg4.avi", "mpeg4_b.avi"])
def test_without_its_first_frame_a_file_cannot_be_opened(make_video, name):
    path = damage(make_video(name, **KINDS[name]), 0)
    with pytest.raises(UnreadableVideoError, match=f"{name}.*no frame could be decoded.*damaged"):
        open_source(path)


@pytest.mark.parametrize("name", ["h264_gop12.mp4", "mpeg4.avi", "mpeg4_b.avi"])
def test_a_damaged_file_gives_its_good_frames_and_names_bad_ones(make_video, name, read_number):
    path = damage(make_video(name, **KINDS[name]), 12)
    with VideoFile(path) as source:
        assert source.info.frames == 30
        assert read_number(pictures(source, [5])[0]) == 5
        with pytest.raises(
            UnreadableVideoError,
            match=f"{name}.*frame 13 of 30 cannot be decoded; only the first 1[0-3] frames can",
        ):
            source.read([5, 13])
        with pytest.raises(UnreadableVideoError, match="only 1[0-3] of its 30 frames .*damaged"):
            source.verify()


def test_a_good_file_passes_verification(make_video):
    with VideoFile(make_video()) as source:
        source.verify()
        assert source.read([29]).shape == (1, 3, 48, 64)


@pytest.mark.parametrize("suffix", ["avi", "mkv", "mp4"])
def test_a_title_that_is_not_utf8_does_no_harm(make_video, suffix):
    path = make_video(f"title.{suffix}", title="QQQQ", codec="mpeg4", bframes=0)
    assert b"QQQQ" in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(b"QQQQ", b"\xe9t\xe9!"))
    files = len(os.listdir("/proc/self/fd"))
    with VideoFile(path) as source:
        assert source.info.frames == 30
    assert len(os.listdir("/proc/self/fd")) == files  # none waits for the garbage collector


def test_a_truncated_matroska_file_gives_the_frames_it_has(make_video, read_number):
    path = cut(make_video("cut.mkv", frames=60), 0.6)
    with VideoFile(path) as source:
        assert 20 < source.info.frames < 60
        expected = [read_number(picture) for picture in in_order(path)]
        everything = pictures(source, range(source.info.frames))
        assert [read_number(picture) for picture in everything] == expected


@pytest.mark.data
def test_a_damaged_clip_gives_its_good_frames_and_names_the_first_bad_one(data_dir):
    with VideoFile(data_dir / "clips" / "bad_corrupted.mp4") as source:
        assert source.read([5]).shape[0] == 1
        with pytest.raises(
            UnreadableVideoError,
            match="bad_corrupted.mp4.*frame 40 of 50 .*only the first 28 frames can.*damaged",
        ):
            source.read([5, 40])


@pytest.mark.parametrize("name", ["a\0.mp4", "\ud800.mp4"])
def test_texts_that_are_no_names_of_files(name):
    with pytest.raises(UnreadableVideoError, match=r"^'.*.mp4' cannot be the name of a file."):
        open_source(name)
