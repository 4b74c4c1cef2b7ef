"""Exact frames from every container, and clear words for what cannot be read."""

import json
import shutil

import av
import numpy as np
import pytest

from kinema.data.decode import VideoFile, is_video_path, open_source
from kinema.errors import OptionError, UnreadableVideoError

KINDS = {
    "h264_gop12.mp4": {},
    "h264_gop250.mp4": {"gop": 250},
    "h264_intra.mp4": {"gop": 1, "bframes": 0},
    "h264.mkv": {},
    "h264.mov": {"gop": 8},
    "h264.ts": {},
    "mpeg4.avi": {"codec": "mpeg4", "bframes": 0},
    "mpeg4_b.avi": {"codec": "mpeg4", "bframes": 2},
    "mpeg2.mpg": {"codec": "mpeg2video"},
    "vp9.webm": {"codec": "libvpx-vp9", "bframes": 0},
    "variable_rate.mp4": {"pts": [n * n // 4 + n for n in range(30)]},
}
SEEKABLE = ("mp4", "mkv", "mov", "webm")


def in_order(path, wanted: set[int] | None = None) -> list[np.ndarray | None]:
    """Frames (None where not wanted) by decoding from the start: what frame numbers mean."""
    with av.open(str(path)) as container:
        return [
            np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)
            if wanted is None or number in wanted
            else None
            for number, frame in enumerate(container.decode(video=0))
        ]


def pictures(source: VideoFile, indices) -> list[np.ndarray]:
    return list(source.read(indices).permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize("name", KINDS)
def test_frames_are_those_of_decoding_in_order(make_video, name, read_number):
    path = make_video(name, **KINDS[name])
    expected = in_order(path)
    rng = np.random.default_rng(0)
    with VideoFile(path) as source:
        assert source.info.frames == len(expected)
        assert [read_number(p) for p in expected] == list(range(len(expected)))
        wishes = [range(len(expected)), [len(expected) - 1], [0]]
        wishes += [rng.integers(0, len(expected), 8) for _ in range(6)]
        for wish in wishes:
            for index, picture in zip(wish, pictures(source, wish), strict=True):
                assert np.array_equal(picture, expected[index]), (name, index)
        if path.suffix[1:] in SEEKABLE:
            assert source._planned(sorted(set(wishes[-1].tolist()))) is not None


def test_indices_may_repeat_and_stand_in_any_order(make_video, read_number):
    with VideoFile(make_video()) as source:
        assert [read_number(p) for p in pictures(source, [7, 2, 7, 29])] == [7, 2, 7, 29]


def test_times_follow_the_presentation(make_video):
    pts = KINDS["variable_rate.mp4"]["pts"]
    with VideoFile(make_video(pts=pts)) as source:
        assert source.times_s([0, 3, 29]) == pytest.approx([p / 25 for p in (0, pts[3], pts[29])])


def test_facts_of_a_video(make_video):
    with open_source(make_video(size=(64, 48))) as source:
        info = source.info
    assert (info.frames, info.rate_hz, info.width, info.height) == (30, 25.0, 64, 48)
    assert (info.duration_s, info.codec, info.rotation_deg) == (1.2, "h264", 0)


@pytest.mark.parametrize("size", [(63, 47), (161, 91)])
def test_odd_sizes(make_video, size):
    path = make_video(size=size, pix_fmt="yuv444p", frames=3, bframes=0)
    with VideoFile(path) as source:
        assert source.read([2]).shape == (1, 3, size[1], size[0])


def test_one_frame_is_a_video(make_video):
    with VideoFile(make_video(frames=1)) as source:
        assert source.info.frames == 1
        assert source.read([0, 0]).shape == (2, 3, 48, 64)


def test_ten_bits_become_eight(make_video, read_number):
    with VideoFile(make_video(pix_fmt="yuv420p10le", frames=6)) as source:
        picture = pictures(source, [5])[0]
    assert picture.dtype == np.uint8
    assert read_number(picture) == 5


def test_a_rotated_video_comes_out_upright(make_video, tmp_path):
    plain = make_video(frames=4, bframes=0, size=(64, 48))
    turned = tmp_path / "turned.mp4"
    with av.open(str(plain)) as source, av.open(str(turned), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(90)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    with VideoFile(plain) as upright, VideoFile(turned) as rotated:
        assert (rotated.info.width, rotated.info.height) == (48, 64)
        assert rotated.info.rotation_deg in (90, 270)
        expected = np.rot90(pictures(upright, [2])[0], rotated.info.rotation_deg // 90)
        assert np.array_equal(pictures(rotated, [2])[0], expected)


def test_an_index_outside_of_the_video_is_named(make_video):
    with VideoFile(make_video()) as source:
        with pytest.raises(OptionError, match="has frames 0 to 29, asked for 30"):
            source.read([0, 30])
        with pytest.raises(OptionError, match="asked for -1"):
            source.read([-1])


def cut(path, share: float):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def test_unreadable_files_are_named_with_their_reason(make_video, tmp_path, sound_file):
    text = tmp_path / "text.mp4"
    text.write_text("this is no video\n" * 50)
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    no_index = cut(make_video("no_index.mp4"), 0.5)
    front = make_video("front.mp4", frames=60, container_options={"movflags": "faststart"})
    (tmp_path / "no_frames").mkdir()
    reasons = {
        tmp_path / "missing.mp4": "does not exist",
        text: "damaged or not a video",
        empty: "is empty \\(0 bytes\\)",
        no_index: "damaged or not a video",
        cut(front, 0.7): "truncated: its header promises 60 frames, [0-9]+ are in the file",
        sound_file: "has no video stream \\(only audio streams\\)",
        tmp_path / "no_frames": "holds no frames",
    }
    for path, reason in reasons.items():
        with pytest.raises(UnreadableVideoError, match=f"{path.name}.*{reason}"):
            open_source(path)


def test_a_truncated_matroska_file_gives_the_frames_it_has(make_video, read_number):
    path = cut(make_video("cut.mkv", frames=60), 0.6)
    with VideoFile(path) as source:
        assert 20 < source.info.frames < 60
        expected = [read_number(picture) for picture in in_order(path)]
        everything = pictures(source, range(source.info.frames))
        assert [read_number(picture) for picture in everything] == expected


def test_video_names():
    assert is_video_path("a/b.MP4")
    assert not is_video_path("a/b.jpg")


def clip_facts(data_dir) -> dict[str, dict]:
    return json.loads((data_dir / "clips" / "clips.json").read_text())


@pytest.mark.data
@pytest.mark.slow
def test_real_clips_have_the_known_facts_and_exact_frames(data_dir):
    rng = np.random.default_rng(1)
    for name, facts in clip_facts(data_dir).items():
        if facts["error"]:
            continue
        path = data_dir / "clips" / name
        wish = np.sort(rng.integers(0, facts["decoded_frames"], 6))
        expected = in_order(path, set(wish.tolist()))
        with VideoFile(path) as source:
            assert source.info.frames == facts["decoded_frames"], name
            size = (source.info.width, source.info.height)
            turned = facts["rotation"] in (90, -90)
            assert (size[::-1] if turned else size) == (facts["width"], facts["height"]), name
            for index, picture in zip(wish, pictures(source, wish), strict=True):
                assert np.array_equal(picture, expected[index]), (name, index)


@pytest.mark.data
def test_real_rotated_clips_show_the_same_picture(data_dir):
    shown = []
    for name in ("rot_0.mov", "rot_90.mov", "rot_180.mov"):
        with VideoFile(data_dir / "clips" / name) as source:
            picture = source.read([0])[0].float()
            shown.append(picture)
    # The clips show one scene filmed in the orientation they name, so upright ones are alike.
    assert shown[0].shape == shown[2].shape
    assert shown[1].shape[1:] == shown[0].shape[1:][::-1]


@pytest.mark.data
def test_a_damaged_clip_gives_its_good_frames_and_names_the_first_bad_one(data_dir):
    with VideoFile(data_dir / "clips" / "bad_corrupted.mp4") as source:
        assert source.read([5]).shape[0] == 1
        with pytest.raises(
            UnreadableVideoError,
            match="bad_corrupted.mp4.*frame 40 of 50 .*only the first 28 frames can.*damaged",
        ):
            source.read([5, 40])


def test_reading_many_videos_leaves_no_files_open(make_video):
    path = make_video(frames=3, bframes=0)
    copies = [shutil.copy(path, path.with_name(f"{i}.mp4")) for i in range(20)]
    import os

    before = len(os.listdir("/proc/self/fd"))
    for copy in copies:
        with VideoFile(copy) as source:
            source.read([0, 2])
    assert len(os.listdir("/proc/self/fd")) <= before
