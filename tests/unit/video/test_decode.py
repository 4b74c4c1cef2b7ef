"""Exact frames from every container."""

import json
import os
import runpy
import shutil
import struct
import unicodedata
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from kinema.errors import OptionError
from kinema.video.decode import VideoFile, is_video_path, open_source
from kinema.video.device_file import open_on_device
from kinema.video.frame_index import FrameIndex, IndexedVideo
from kinema.video.index_cache import IndexCache

from .reading import KINDS, UNEVEN, in_order, pictures

RUNNER = Path(__file__).parents[3] / "examples" / "run_exported.py"
PLANNED = ("mp4", "mkv", "mov", "webm")


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
        if path.suffix[1:] in PLANNED or name == "mpeg4.avi":
            assert source._decode_groups(sorted(set(wishes[-1].tolist()))) is not None


@pytest.mark.parametrize("name", KINDS)
def test_several_threads_give_the_same_frames(make_video, name):
    path = make_video(name, **KINDS[name])
    with VideoFile(path) as one, VideoFile(path, threads=3) as three:
        last = one.info.frames - 1
        assert three.info == one.info
        for wanted in ([0, last], [last // 2, 1, last // 2], range(0, last, 3)):
            assert torch.equal(three.read(list(wanted)), one.read(list(wanted)))


@pytest.mark.parametrize("name", KINDS)
def test_a_remembered_video_has_the_same_frames(make_video, name, monkeypatch):
    path = make_video(name, **KINDS[name])
    cache = IndexCache(path.with_name("index"))
    with VideoFile(path, index_cache=cache) as source:
        expected, info = pictures(source, range(source.info.frames)), source.info
        times = source.times_s(range(source.info.frames))
    with monkeypatch.context() as nothing_opens:
        nothing_opens.delattr(av, "open")
        remembered = VideoFile(path, index_cache=cache)
    with remembered as source:
        assert source.info == info
        assert source.times_s(range(info.frames)) == times
        for wish in ([3], [7, 29, 12], [0], range(info.frames), [28, 1]):
            chosen = [number for number in wish if number < info.frames]
            for number, picture in zip(chosen, pictures(source, chosen), strict=True):
                assert np.array_equal(picture, expected[number]), (name, number)


def test_a_wrong_memory_is_noticed_and_mended(make_video, read_number):
    path, other = make_video(frames=48), make_video("other.mp4", frames=20, pts=range(5, 85, 4))
    cache = IndexCache(path.with_name("index"))
    with VideoFile(other) as source:
        cache.put(path, os.stat(path), source._indexed)
    with VideoFile(path, index_cache=cache) as source:
        assert source.info.frames == 20
        assert read_number(pictures(source, [19])[0]) == 19
        assert source.info.frames == 48
    with VideoFile(path, index_cache=cache) as source:
        assert source.info.frames == 48


def test_pictures_that_no_other_needs_are_not_decoded(make_video, monkeypatch, read_number):
    path = make_video("deep.mp4", bframes=3, frames=60, codec_options={"b_strategy": "0"})
    with VideoFile(path) as source:
        unneeded = source._indexed.index.unreferenced
        assert len(unneeded) > 20
        decoded = []
        packets = source._container.packets

        def noted():
            for packet in packets():
                yield packet
                decoded.append(packet.pts)

        monkeypatch.setattr(source._container, "packets", noted)
        before = [n for n in range(11) if source._indexed.index.pts[n] in unneeded]
        shown = [read_number(picture) for picture in pictures(source, [*before, 11])]
        assert shown == [*before, 11]
        with av.open(str(path)) as container:
            whole = sum(1 for packet in container.demux(video=0) if packet.size)
        assert len(decoded) < whole / 3


def test_all_frames_in_order(make_video, read_number):
    for name in ("a.mp4", "b.ts"):
        with VideoFile(make_video(name)) as source:
            assert [read_number(picture) for picture in source.in_order()] == list(range(30))


def test_in_avi_a_frame_that_claims_to_be_a_keyframe_is_not_believed(make_video, read_number):
    path = make_video("claims.avi", codec="mpeg4", bframes=0)
    with VideoFile(path) as source:
        index = source._indexed.index
        assert (index.access, list(index.keyframes)) == ("skip", [0, 12, 24])
        source._indexed = IndexedVideo(
            source.info,
            FrameIndex(30, "skip", index.pts, tuple(range(30))),
            source._indexed.coded_size,
            source._indexed.tick_s,
        )
        assert source._decode_groups([5, 17]) is None
        assert [read_number(p) for p in pictures(source, [5, 17])] == [5, 17]


def test_indices_may_repeat_and_stand_in_any_order(make_video, read_number):
    with VideoFile(make_video()) as source:
        assert [read_number(p) for p in pictures(source, [7, 2, 7, 29])] == [7, 2, 7, 29]


def test_no_index_gives_no_frames(make_video):
    with VideoFile(make_video()) as source:
        assert source.read([]).shape == (0, 3, 48, 64)


@pytest.mark.parametrize("name", ["planned.mp4", "in_order.ts"])
def test_times_follow_the_presentation(make_video, name):
    with VideoFile(make_video(name, pts=UNEVEN)) as source:
        expected = [UNEVEN[n] / 25 for n in (0, 3, 29)]
        assert source.times_s([0, 3, 29]) == pytest.approx(expected)
        with pytest.raises(OptionError, match="asked for -1"):
            source.times_s([-1])


def trim(path, start: int, frames: int):
    """Shows only some frames by the edit list of an MP4, as telephones trim their videos."""
    with av.open(str(path)) as container:
        ticks = round(1 / (25 * container.streams.video[0].time_base))
    content = bytearray(path.read_bytes())
    entry = content.index(b"elst") + 12
    _, first = struct.unpack_from(">Ii", content, entry)
    struct.pack_into(">Ii", content, entry, 40 * frames, first + start * ticks)
    path.write_bytes(content)


@pytest.mark.parametrize(("start", "frames"), [(0, 6), (5, 25), (14, 9)])
@pytest.mark.parametrize("name", ["h264_gop12.mp4", "open_gop.mp4"])
def test_a_trimmed_video_has_the_frames_it_shows(make_video, name, start, frames, read_number):
    path = make_video(name, **KINDS[name])
    trim(path, start, frames)
    with VideoFile(path) as source:
        assert source.info.frames == frames
        for number in range(frames):
            assert read_number(pictures(source, [number])[0]) == start + number


def test_a_video_that_changes_its_size_comes_out_in_the_first_one(make_video, read_number):
    first = make_video("first.h264", frames=20)
    second = make_video("second.h264", frames=20, size=(48, 64))
    both = first.with_name("both.h264")
    both.write_bytes(first.read_bytes() + second.read_bytes())
    with VideoFile(both) as source:
        assert source.info.frames == 40
        frames = pictures(source, [3, 35])
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 2
    assert [read_number(frame) for frame in frames] == [3, 15]


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


# The first four entries that count of the display matrix, and the same picture made by hand.
SHOWN = {
    "as stored": ((1, 0, 0, 1), lambda p: p),
    "turned left": ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
    "upside down": ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
    "turned right": ((0, 1, -1, 0), lambda p: np.rot90(p, 3)),
    "left and right swapped": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "top and bottom swapped": ((1, 0, 0, -1), lambda p: p[::-1]),
    "transposed": ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
    "transposed, upside down": ((0, -1, -1, 0), lambda p: np.rot90(p.transpose(1, 0, 2), 2)),
}


@pytest.mark.parametrize("how", SHOWN)
def test_a_video_is_shown_as_its_display_matrix_says(make_video, tmp_path, how):
    (a, b, c, d), by_hand = SHOWN[how]
    plain = make_video(frames=4, bframes=0, size=(64, 48))
    content = bytearray(plain.read_bytes())
    at = content.index(b"tkhd") + 44  # ISO/IEC 14496-12, 8.3.2, version 0
    one = 1 << 16
    content[at : at + 36] = struct.pack(
        ">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30
    )
    shown = tmp_path / "shown.mp4"
    shown.write_bytes(content)
    with VideoFile(plain) as stored, VideoFile(shown) as source:
        expected = by_hand(pictures(stored, [2])[0])
        assert (source.info.height, source.info.width) == expected.shape[:2]
        assert np.array_equal(pictures(source, [2])[0], expected)
        assert source.info.mirrored == (a * d - b * c < 0)
    alone = runpy.run_path(str(RUNNER))["upright"]  # the same without kinema
    with av.open(str(shown)) as container:
        frame = list(container.decode(video=0))[2]
        assert np.abs(np.asarray(alone(frame), int) - expected).max() <= 2


def test_an_index_outside_of_the_video_is_named(make_video):
    with VideoFile(make_video()) as source:
        with pytest.raises(OptionError, match="has frames 0 to 29, asked for 30"):
            source.read([0, 30])
        with pytest.raises(OptionError, match="asked for -1"):
            source.read([-1])


def test_a_name_may_look_like_an_address(make_video, monkeypatch):
    monkeypatch.chdir(make_video("take:1.mp4").parent)
    with VideoFile("take:1.mp4") as source:
        assert source.info.frames == 30


def test_video_names():
    assert is_video_path("a/b.MP4")
    assert not is_video_path("a/b.jpg")


# The facts of this clip are those of the first of two default tracks, the smaller one.
LARGER = {"nasa_13013.mp4": {"decoded_frames": 390, "width": 480, "height": 270, "video": 1}}


def clip_facts(data_dir) -> dict[str, dict]:
    facts = json.loads((data_dir / "clips" / "clips.json").read_text())
    return {name: {"video": 0, **found, **LARGER.get(name, {})} for name, found in facts.items()}


@pytest.mark.data
@pytest.mark.slow
def test_real_clips_have_the_known_facts_and_exact_frames(data_dir, tmp_path):
    rng, cache = np.random.default_rng(1), IndexCache(tmp_path / "index")
    for name, facts in clip_facts(data_dir).items():
        if facts["error"]:
            continue
        path = data_dir / "clips" / name
        wish = np.sort(rng.integers(0, facts["decoded_frames"], 6))
        expected = in_order(path, set(wish.tolist()), video=facts["video"])
        with VideoFile(path, index_cache=cache) as source:
            assert source.info.frames == facts["decoded_frames"], name
            size = (source.info.width, source.info.height)
            turned = facts["rotation"] in (90, -90)
            assert (size[::-1] if turned else size) == (facts["width"], facts["height"]), name
            source.verify()
            for index, picture in zip(wish, pictures(source, wish), strict=True):
                assert np.array_equal(picture, expected[index]), (name, index)
        with VideoFile(path, index_cache=cache) as source:
            assert source._from_cache, name
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


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_memory_does_not_grow_over_2000_videos(make_video):
    names = ["a.mp4", "b.mkv", "c.ts", "d.avi"]
    paths = [make_video(name, frames=20, size=(160, 120)) for name in names[:3]]
    paths.append(make_video("d.avi", frames=20, size=(160, 120), codec="mpeg4", bframes=0))
    cache = IndexCache(paths[0].with_name("index"))
    for round_ in range(500):
        if round_ == 50:  # buffers and tables have reached their size
            before = resident_bytes()
        for path in paths:
            with VideoFile(path, index_cache=cache if round_ % 2 else None) as source:
                source.read([1, 7, 13, 19])
    assert resident_bytes() - before < 8 << 20, "bytes over 1,800 videos"


@pytest.mark.parametrize("other", ["NFC", "NFD"])
def test_every_way_to_open_finds_accented_names_in_either_form(make_video, other):
    form = {"NFC": "NFD", "NFD": "NFC"}[other]
    path = make_video(unicodedata.normalize(form, "caf\u00e9.mp4"), frames=3)
    with VideoFile(path.with_name(unicodedata.normalize(other, path.name))) as source:
        assert (source.path, source.info.frames) == (path, 3)
    folder = path.with_name(unicodedata.normalize(form, "\u00e9t\u00e9"))
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "1.png")
    wanted = path.with_name(unicodedata.normalize(other, folder.name))
    for opened in (open_source(wanted), open_on_device(wanted, "cpu")):
        assert opened.info.path == str(folder)


def test_reading_many_videos_leaves_no_files_open(make_video):
    path = make_video(frames=3, bframes=0)
    copies = [shutil.copy(path, path.with_name(f"{i}.mp4")) for i in range(20)]
    before = len(os.listdir("/proc/self/fd"))
    for copy in copies:
        with VideoFile(copy) as source:
            source.read([0, 2])
    assert len(os.listdir("/proc/self/fd")) <= before
