"""Folders of frames."""

import numpy as np
import pytest
from PIL import Image

from kinema.errors import OptionError, UnreadableVideoError
from kinema.video.decode import open_source
from kinema.video.folder import FrameFolder


@pytest.fixture
def folder(tmp_path):
    for number in (1, 2, 10):
        picture = np.full((20, 30, 3), number * 10, np.uint8)
        Image.fromarray(picture).save(tmp_path / f"img_{number}.jpg", quality=95)
    (tmp_path / "notes.txt").write_text("no frame")
    return tmp_path


def test_frames_are_in_the_order_of_their_numbers(folder):
    with open_source(folder) as source:
        assert (source.info.frames, source.info.width, source.info.height) == (3, 30, 20)
        assert source.info.container == "folder"
        levels = source.read([0, 1, 2, 2]).float().mean(dim=(1, 2, 3))
    assert levels.tolist() == pytest.approx([10, 20, 100, 100], abs=2)


def test_all_frames_in_order(folder):
    with open_source(folder) as source:
        assert [frame.shape for frame in source.in_order()] == [(20, 30, 3)] * 3
        assert [frame.mean() for frame in source.in_order()] == pytest.approx([10, 20, 100], abs=2)


def test_a_frame_of_another_size_is_named(folder):
    Image.new("RGB", (31, 20)).save(folder / "img_3.png")
    source = open_source(folder)
    with pytest.raises(UnreadableVideoError, match="img_3.png is 31x20, .* is 30x20"):
        source.read([2])


def test_a_broken_frame_is_named(folder):
    (folder / "img_2.jpg").write_bytes(b"no picture")
    with open_source(folder) as source:
        with pytest.raises(UnreadableVideoError, match="img_2.jpg cannot be read as an image"):
            source.read([1])
        with pytest.raises(OptionError, match="has frames 0 to 2, asked for 3"):
            source.read([3])


def test_an_image_is_turned_as_its_camera_says(tmp_path):
    picture = Image.fromarray(np.zeros((20, 30, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    picture.save(tmp_path / "1.jpg", exif=exif)
    with open_source(tmp_path) as source:
        assert (source.info.width, source.info.height) == (20, 30)


def test_an_image_with_damaged_facts_about_it_is_named(tmp_path):
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "hello", 6
    wrong = exif.tobytes().replace(b"\x01\x0e", b"\x01\x20")  # text where a number belongs
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "1.jpg", exif=wrong)
    with pytest.raises(UnreadableVideoError, match=r"1\.jpg cannot be read as an image"):
        open_source(tmp_path)


def test_optical_flow_and_hidden_files_beside_the_frames_are_left_out(folder):
    for name in ("flow_x_00001.jpg", "flow_y_00001.jpg", "._img_1.jpg"):
        Image.new("L", (8, 8)).save(folder / name)
    with open_source(folder) as source:
        assert source.info.frames == 3
        source.verify()


def test_names_without_a_prefix_are_frames_too(tmp_path):
    for name in ("0002.JPG", "0010.jpeg", "0001.png"):
        Image.new("RGB", (8, 6), (int(name[:4]) * 10,) * 3).save(tmp_path / name)
    with open_source(tmp_path) as source:
        levels = source.read([0, 1, 2]).float().mean(dim=(1, 2, 3))
        assert source.read([]).shape == (0, 3, 6, 8)
    assert levels.tolist() == pytest.approx([10, 20, 100], abs=2)


def test_every_kind_of_picture_becomes_rgb(tmp_path):
    gray = Image.fromarray(np.full((6, 8), 100, np.uint8))
    gray.save(tmp_path / "1.png")
    gray.convert("RGB").quantize(4).save(tmp_path / "2.png", transparency=bytes([0, 9, 9, 9]))
    Image.fromarray(np.full((6, 8), 100 << 8, np.uint16)).save(tmp_path / "3.png")
    gray.convert("RGBA").save(tmp_path / "4.png")
    gray.convert("RGB").convert("CMYK").save(tmp_path / "5.jpg", quality=95)
    with open_source(tmp_path) as source:
        levels = source.read(range(5)).float().mean(dim=(2, 3))
    assert levels.numpy() == pytest.approx(100, abs=3)


def test_verification_finds_the_odd_frame(folder):
    Image.new("RGB", (31, 20)).save(folder / "img_3.png")
    with open_source(folder) as source, pytest.raises(UnreadableVideoError, match="img_3.png is"):
        source.verify()


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UnreadableVideoError, match="nowhere does not exist"):
        FrameFolder(tmp_path / "nowhere")
