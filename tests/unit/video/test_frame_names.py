"""Which pictures of a folder are its frames, and their order."""

import random
import re
import unicodedata
from pathlib import Path

import pytest

from kinema.errors import UnreadableVideoError
from kinema.video.frame_names import frame_order

RUN = Path("run")


def named(pattern: str, numbers=range(1, 13)) -> list[str]:
    return [pattern.format(number) for number in numbers]


ONE_FAMILY = {
    "whole": named("{}.jpg"),
    "padded": named("frame_{:05d}.jpg"),
    "hundredths": [f"{n / 30:.2f}.jpg" for n in range(1, 12)],
    "floats": [f"{n / 4}.jpg" for n in range(9)],
    "floats of 30 Hz": [f"{round(n / 30, 3)}.png" for n in range(40)],
    "whole seconds without a point": [f"{n / 2:g}s.jpg" for n in range(30)],
    "after a comma": [f"{n / 30:.2f}.jpg".replace(".", ",", 1) for n in range(1, 12)],
    "after a part": named("clip1.{}.jpg"),
    "of a long part": named("clip1.{:02d}.jpg", range(90, 120)),
    "of several parts": [f"s{part}.{n}.jpg" for part in (1, 2) for n in range(1, 12)],
    "in brackets": named("frame ({}).jpg"),
    "after a camera": named("cam1_{:04d}.jpg"),
    "after a group": named("v_Run_g01_c02_{}.jpg"),
    "with a time": [f"frame_{n}_t{n / 25}.jpg" for n in range(1, 30)],
    "minutes": [f"{n // 60:02d}-{n % 60:02d}.jpg" for n in range(130)],
    "nanoseconds": named("140363657976355{}.png", range(95, 110)),
    "of any suffix": ["1.png", "2.JPG", "3.jpeg", "10.jpg"],
    "without numbers": ["a.jpg", "b.jpg", "c.jpg"],
    "alone": ["cover.jpg"],
    "named as something else": named("depth_{}.png"),
}


@pytest.mark.parametrize("kind", ONE_FAMILY)
def test_a_family_is_sorted_by_its_numbers(kind):
    names = ONE_FAMILY[kind]
    mixed = random.Random(0).sample(names, len(names))
    assert frame_order(RUN, mixed) == names


BESIDE = {
    "flow of TSN": (named("img_{:05d}.jpg"), named("flow_x_{:05d}.jpg") + named("flow_y_{}.jpg")),
    "flow": (named("frame_{}.jpg"), named("x_{}.jpg") + named("y_{}.jpg")),
    "other flow": (named("{:04d}.jpg"), named("flowX{:04d}.jpg") + named("{:04d}_flow.png")),
    "depth": (named("rgb_{}.jpg"), named("depth_{}.png")),
    "depth after the number": (named("{}.jpg"), named("{}_depth.png")),
    "masks": (named("{:05d}.jpg"), named("{:05d}_mask.png")),
    "masks of seconds": (named("0.{:02d}.jpg"), named("0.{:02d}_mask.png")),
    "parts": (named("image{}.png"), named("segmentation{}.png") + named("labels{}.png")),
    "thumbnails": (named("a_{}.jpg"), named("a_{}_thumb.jpg")),
    "more thumbnails": (named("{}.jpg"), named("{}.thumbnail.jpg")),
    "a cover": (named("f{}.jpg"), ["poster.jpg", "thumbnail.png", "notes.jpg"]),
    "copies": (named("f{}.jpg"), named("f{} (1).jpg") + named("f{} - Copy.jpg")),
    "masks of a class with that word": (named("mask_{}.jpg"), named("mask_{}_flow.jpg")),
    "unknown": (named("img_{}.jpg"), named("other_{}.jpg") + named("image_{}.jpg")),
    "color": (named("color{}.jpg"), named("other{}.jpg")),
}


@pytest.mark.parametrize("kind", BESIDE)
def test_pictures_of_other_kinds_are_left_out(kind):
    frames, others = BESIDE[kind]
    assert frame_order(RUN, others + frames) == frames


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        (named("{}.jpg") + named("{}.png"), "#.jpg (12 files), #.png (12 files)"),
        (named("img_{}.jpg") + named("img_{}.png"), "img_#.jpg (12 files), img_#.png (12 files)"),
        (named("left_{}.jpg") + named("right_{}.jpg"), "left_# (12 files), right_# (12 files)"),
        (named("cam1_{}.jpg") + named("cam2_{}.jpg"), "cam1_# (12 files), cam2_# (12 files)"),
        (named("x_{}.jpg") + named("y_{}.jpg"), "x_# (12 files), y_# (12 files)"),
        (["frame.jpg", "frame2.jpg", "frame3.jpg"], "frame (1 files), frame# (2 files)"),
        (["a.jpg", "a (1).jpg", "a (2).jpg"], "a (1 files), a (#) (2 files)"),
        (
            ["a1.jpg", "b2c.jpg", "d4.jpg", "e5f.jpg", "g6.jpg"],
            "a# (1 files), b#c (1 files), d# (1 files), e#f (1 files) and 1 more",
        ),
    ],
)
def test_families_that_may_all_be_the_frames_are_listed(names, kinds):
    count = kinds.count("files)") + ("1 more" in kinds)
    message = (
        f"^run holds pictures of {count} kinds: {re.escape(kinds)}, with # for a number. Leave"
    )
    with pytest.raises(UnreadableVideoError, match=message):
        frame_order(RUN, names)


def test_numbers_with_two_readings_are_named():
    message = r"order is unclear: 1\.12 and 1\.5 may be decimal numbers or have two numbers each"
    with pytest.raises(UnreadableVideoError, match=message):
        frame_order(RUN, ["1.5.jpg", "1.12.jpg", "1.15.jpg"])


def test_two_frames_of_one_number_are_named():
    with pytest.raises(UnreadableVideoError, match="two frames of one number: f01.jpg and f1.jpg"):
        frame_order(RUN, ["f1.jpg", "f2.jpg", "f01.jpg"])


def test_one_family_in_two_forms_of_unicode():
    names = [unicodedata.normalize(("NFC", "NFD")[n % 2], f"é_{n}.jpg") for n in range(4)]
    assert frame_order(RUN, reversed(names)) == names
