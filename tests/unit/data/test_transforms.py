"""Sizes, crops, mirrors and colors of clips."""

from dataclasses import replace

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from kinema.data.transforms import (
    Augmentation,
    TrainTransform,
    ViewTransform,
    multiscale_box,
    normalize,
    resize_short_side,
)
from kinema.errors import OptionError
from kinema.values import Preprocessing, Views

HOW = Preprocessing(frames=4, short_side_px=40, crop_px=32)
NAMES = ("clap", "swipe left", "swipe right", "turn cw")


def noise(height: int, width: int, frames: int = 4) -> torch.Tensor:
    return torch.randint(0, 256, (frames, 3, height, width), dtype=torch.uint8)


def ramp(height: int = 40, width: int = 60) -> torch.Tensor:
    """Bright on the right."""
    line = torch.linspace(0, 255, width).to(torch.uint8)
    return line.expand(4, 3, height, width).clone()


@pytest.mark.parametrize(
    ("size", "expected"), [((60, 90), (40, 60)), ((90, 60), (60, 40)), ((40, 77), (40, 77))]
)
def test_the_short_side_gets_its_length(size, expected):
    frames = noise(*size)
    resized = resize_short_side(frames, 40)
    assert resized.shape[-2:] == expected
    assert resized.dtype == torch.uint8
    if size == expected:
        assert resized is frames


@pytest.mark.parametrize("crop", ["multiscale", "random_resized", "random", "center"])
@pytest.mark.parametrize("size", [(50, 70), (70, 50), (40, 40), (33, 200)])
def test_every_crop_gives_the_clip_size(crop, size):
    transform = TrainTransform(HOW, Augmentation(crop=crop), NAMES)
    clip, label = transform(noise(*size), 0)
    assert clip.shape == (4, 3, 32, 32)
    assert clip.dtype == torch.uint8
    assert label == 0


def test_all_frames_of_a_clip_are_treated_alike():
    still = noise(50, 70, frames=1).expand(4, -1, -1, -1)
    strong = Augmentation(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.2)
    for augmentation in (strong, Augmentation(randaugment_ops=2)):
        clip, _ = TrainTransform(HOW, augmentation, NAMES)(still, 0)
        assert (clip == clip[:1]).all()


def test_a_seed_decides_everything():
    transform = TrainTransform(HOW, Augmentation(brightness=0.4), NAMES)
    frames, results = noise(50, 70), []
    for _ in range(2):
        torch.manual_seed(5)
        results.append(transform(frames, 0)[0])
    assert torch.equal(*results)


def test_multiscale_boxes_are_corner_crops_of_the_scaled_sizes():
    scales = (1.0, 0.875, 0.75, 0.66)
    seen = set()
    for _ in range(500):
        top, left, high, wide = multiscale_box(256, 340, 224, scales=scales, max_distort=1)
        assert top + high <= 256
        assert left + wide <= 340
        seen.add((high, wide))
    assert seen == {
        *((s, s) for s in (256, 224, 192, 168)),
        *((256, 224), (224, 256), (224, 192), (192, 224), (192, 168), (168, 192)),
    }


def labels_after_flips(flip: str, label: int) -> set[tuple[bool, int]]:
    """(mirrored, label) that come out of many draws."""
    transform = TrainTransform(HOW, Augmentation(crop="center", flip=flip), NAMES)
    outcomes = set()
    for seed in range(30):
        torch.manual_seed(seed)
        clip, after = transform(ramp(), label)
        mirrored = bool(clip[0, 0, 0, 0] > clip[0, 0, 0, -1])
        outcomes.add((mirrored, after))
    return outcomes


@pytest.mark.parametrize(
    ("flip", "label", "expected"),
    [
        ("off", 0, {(False, 0)}),
        ("on", 1, {(False, 1), (True, 1)}),
        ("swap", 0, {(False, 0), (True, 0)}),
        ("swap", 1, {(False, 1), (True, 2)}),
        ("swap", 3, {(False, 3)}),  # there is no class "turn ccw"
        ("skip", 0, {(False, 0), (True, 0)}),
        ("skip", 1, {(False, 1)}),
    ],
)
def test_a_mirrored_direction_changes_its_class_or_is_not_mirrored(flip, label, expected):
    assert labels_after_flips(flip, label) == expected


@pytest.mark.parametrize("crops", [1, 3, 10])
@pytest.mark.parametrize("size", [(60, 90), (90, 60), (50, 50)])
def test_views_have_the_crop_size(crops, size):
    clip = ViewTransform(HOW, Views(crops=crops))(noise(*size))
    assert clip.shape == (crops, 4, 3, 32, 32)


def test_three_crops_lie_along_the_long_side():
    wide = ramp(40, 80)
    left, middle, right = ViewTransform(HOW, Views(crops=3))(wide)
    assert torch.equal(left, wide[..., 4:36, :32])
    assert torch.equal(middle, wide[..., 4:36, 24:56])
    assert torch.equal(right, wide[..., 4:36, 48:])
    tall = wide.transpose(-1, -2).contiguous()
    top, _, bottom = ViewTransform(HOW, Views(crops=3))(tall)
    assert torch.equal(top, tall[..., :32, 4:36])
    assert torch.equal(bottom, tall[..., 48:, 4:36])


def test_ten_crops_are_corners_and_center_with_mirrors():
    frames = noise(40, 60)
    crops = ViewTransform(HOW, Views(crops=10))(frames)
    assert torch.equal(crops[0], frames[..., :32, :32])
    assert torch.equal(crops[3], frames[..., 8:, 28:])
    assert torch.equal(crops[4], frames[..., 4:36, 14:46])
    assert torch.equal(crops[5:], crops[:5].flip(-1))


def test_full_resolution_takes_the_whole_short_side():
    frames = noise(40, 60)
    whole = ViewTransform(HOW, Views(full_resolution=True))(frames)
    assert torch.equal(whole, frames.unsqueeze(0))
    squares = ViewTransform(HOW, Views(crops=3, full_resolution=True))(frames)
    assert squares.shape == (3, 4, 3, 40, 40)


def test_normalized_values_follow_the_formula():
    clips = noise(5, 6)
    got = normalize(clips, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    expected = (clips / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": ()}, "scales must be fractions in"),
        ({"scales": (1.5,)}, "scales must be fractions in"),
        ({"area": (0.5, 0.2)}, "area must be an ascending range"),
        ({"aspect": (0, 1)}, "aspect must be an ascending range above 0"),
        ({"hue": 0.7}, "hue must be between 0 and 0.5, got 0.7"),
        ({"randaugment_magnitude": 31}, "randaugment_magnitude must be between 0 and 30, got 31"),
    ],
)
def test_wrong_settings_are_named(options, message):
    with pytest.raises(OptionError, match=message):
        Augmentation(**options)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Views(clips=0), "clips must be at least 1, got 0"),
        (lambda: Views(crops=2), "crops must be 1, 3 or 10, got 2"),
        (lambda: Preprocessing(sampling="dens"), "Did you mean 'dense'"),
        (lambda: Preprocessing(crop_px=300), "crop_px \\(300\\) must be between 1 and"),
        (lambda: Preprocessing(frames=0), "frames must be at least 1, got 0"),
    ],
)
def test_wrong_views_and_preprocessing_are_named(build, message):
    with pytest.raises(OptionError, match=message):
        build()


@pytest.mark.parametrize("crops", [1, 3, 10])
def test_crops_can_be_resized_at_the_end(crops):
    frames = noise(60, 90)
    plain = ViewTransform(HOW, Views(crops=crops))(frames)
    resized = ViewTransform(HOW, Views(crops=crops, resize_px=24))(frames)
    assert resized.shape == (crops, 4, 3, 24, 24)
    for view, small in zip(plain, resized, strict=True):
        alone = F.resize(view, [24, 24], InterpolationMode.BILINEAR, antialias=True)
        assert torch.equal(small, alone)
    same = ViewTransform(HOW, Views(crops=crops, resize_px=32))(frames)
    assert torch.equal(same, plain)


@pytest.mark.parametrize(
    ("views", "side"),
    [
        (Views(), 32),
        (Views(crops=10), 32),
        (Views(crops=3, resize_px=24), 24),
        (Views(crops=3, full_resolution=True), 40),
        (Views(crops=3, full_resolution=True, resize_px=24), 24),
        (Views(full_resolution=True), None),
    ],
)
def test_the_side_of_views_is_known_unless_they_are_whole_frames(views, side):
    assert views.side_px(HOW) == side
    seen = ViewTransform(HOW, views)(noise(48, 90)).shape[-2:]
    assert seen == ((40, 75) if side is None else (side, side))


def test_views_that_cannot_be_resized():
    with pytest.raises(OptionError, match="resize_px must be at least 1, got 0"):
        Views(resize_px=0)
    with pytest.raises(OptionError, match="for square crops, not for the whole frame"):
        Views(full_resolution=True, resize_px=32)
    squares = ViewTransform(HOW, Views(crops=3, full_resolution=True, resize_px=24))(noise(60, 90))
    assert squares.shape == (3, 4, 3, 24, 24)


@pytest.mark.parametrize(
    ("size", "rounded"), [((240, 427), (40, 71)), ((60, 91), (40, 61)), ((91, 60), (61, 40))]
)
def test_opencv_rounds_the_long_side_to_the_nearest_pixel(size, rounded):
    assert resize_short_side(noise(*size), 40, how="opencv").shape[-2:] == rounded
    down = tuple(40 if side == min(size) else side * 40 // min(size) for side in size)
    assert resize_short_side(noise(*size), 40).shape[-2:] == down


def test_opencv_resizes_without_antialias():
    """Values of cv2.resize(INTER_LINEAR) of OpenCV 5.0, which rounds differently by at most 1."""
    row = torch.tensor([0, 255, 0, 255, 255, 255, 0, 0], dtype=torch.uint8)
    frames = row.repeat(1, 3, 8, 1)
    plain = resize_short_side(frames, 3, how="opencv")[0, 0, 0].int()
    assert (plain - torch.tensor([212, 255, 0])).abs().max() <= 1
    assert (resize_short_side(frames, 3)[0, 0, 0].int() - plain).abs().max() > 50
    clip, how = noise(80, 123), replace(HOW, crop_px=40, resize="opencv")
    (whole,) = ViewTransform(how, Views(full_resolution=True))(clip)
    assert torch.equal(whole, resize_short_side(clip, 40, how="opencv"))
    trained, _ = TrainTransform(how, Augmentation(crop="center"), ["a"])(clip, 0)
    plain, _ = TrainTransform(replace(how, resize="pil"), Augmentation(crop="center"), ["a"])(
        clip, 0
    )
    assert (trained.int() - plain.int()).abs().max() > 50
