"""Spatial and color transforms of clips, on uint8 tensors.

Letters: T frames, H, W, X crops of one clip.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from kinema.data.mirrored_names import mirror_map, mirrored_class_name
from kinema.errors import OptionError, check_range
from kinema.system.image_libraries import InterpolationMode, v2
from kinema.system.image_libraries import functional as F
from kinema.values import Preprocessing, ResizeName, Views

CropName = Literal["multiscale", "random_resized", "random", "center"]
FlipName = Literal["off", "on", "swap", "skip"]
Box = tuple[int, int, int, int]  # top, left, height, width


@dataclass(frozen=True)
class Augmentation:
    """Random augmentation in training; all frames of a clip share one draw.

    Attributes:
        crop: "multiscale" (corner crops of TSN), "random_resized", "random" or "center".
        scales: Sides of multi-scale crops as fractions of the short side (1, .875, .75, .66 in
            the authors' code); width and height may differ by `max_distort` steps of this list.
        max_distort: See `scales`.
        area: Range of the area fraction of random-resized crops.
        aspect: Range of their aspect ratio.
        flip: "off"; "on" mirrors half of the clips; "swap" also does, but gives a class with a
            direction in its name (left, clockwise) the label of the mirrored class, and does not
            mirror it if there is none; "skip" never mirrors classes with a direction.
        brightness: Strength of color jitter; 0 is off. The same for contrast, saturation and hue.
        contrast: See `brightness`.
        saturation: See `brightness`.
        hue: See `brightness`.
        randaugment_ops: Operations of RandAugment per clip; 0 is off.
        randaugment_magnitude: Magnitude of RandAugment, 0 to 30.
    """

    crop: CropName = "multiscale"
    scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)
    max_distort: int = 1
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: FlipName = "swap"
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    randaugment_ops: int = 0
    randaugment_magnitude: int = 9

    def __post_init__(self) -> None:
        if not self.scales or not all(0 < scale <= 1 for scale in self.scales):
            raise OptionError(f"scales must be fractions in (0, 1], got {self.scales}.")
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise OptionError(f"area must be an ascending range in (0, 1], got {self.area}.")
        if not 0 < self.aspect[0] <= self.aspect[1]:
            raise OptionError(f"aspect must be an ascending range above 0, got {self.aspect}.")
        check_range(at_least=0, brightness=self.brightness, contrast=self.contrast)
        check_range(at_least=0, saturation=self.saturation, randaugment_ops=self.randaugment_ops)
        check_range(at_least=0, at_most=0.5, hue=self.hue)
        check_range(at_least=0, at_most=30, randaugment_magnitude=self.randaugment_magnitude)


class TrainTransform:
    """Random resize, crop, mirroring and color changes of a clip.

    Uses PyTorch's global generator, which the data set seeds for every clip. Directions are those
    in the class names.
    """

    def __init__(
        self, preprocessing: Preprocessing, augmentation: Augmentation, class_names: Sequence[str]
    ) -> None:
        self.short_side_px = preprocessing.short_side_px
        self.crop_px = preprocessing.crop_px
        self.resize = preprocessing.resize
        self.augmentation = augmentation
        self.mirrored = _mirrored_labels(augmentation.flip, class_names)
        self.color = _color(augmentation)
        self.resized_crop = v2.RandomResizedCrop(
            preprocessing.crop_px, scale=augmentation.area, ratio=augmentation.aspect
        )

    def __call__(self, frames_TCHW: torch.Tensor, label: int) -> tuple[torch.Tensor, int]:
        """Returns the clip (T, 3, crop_px, crop_px) uint8 of frames (T, 3, H, W), and its label."""
        clip = self._crop(frames_TCHW)
        # A mirrored "left" shows "right": the label changes too, or the clip is not mirrored.
        partner = self.mirrored[label]
        if partner is not None and torch.rand(()) < 0.5:
            clip, label = clip.flip(-1), partner
        for change in self.color:
            clip = change(clip)
        return clip.contiguous(), label

    def _crop(self, frames_TCHW: torch.Tensor) -> torch.Tensor:
        """Draws a box on the resized frame, crops it from the original one and resizes once."""
        height, width = frames_TCHW.shape[-2:]
        new_height, new_width = _resized(height, width, self.short_side_px, self.resize)
        # The box is drawn in the coordinates of the resized frame, as the papers define it, and
        # scaled back to the original: one resize of the crop is cheaper than one of the whole
        # frame followed by another of the crop.
        down, across = height / new_height, width / new_width
        top, left, high, wide = self._box(new_height, new_width)
        rows = slice(round(top * down), max(1, round((top + high) * down)))
        columns = slice(round(left * across), max(1, round((left + wide) * across)))
        clip = frames_TCHW[..., rows, columns]
        if clip.shape[-2:] == (self.crop_px, self.crop_px):
            return clip
        return _resize(clip, self.crop_px, self.crop_px, self.resize)

    def _box(self, height: int, width: int) -> Box:
        chosen, side = self.augmentation, self.crop_px
        if chosen.crop == "multiscale":
            return multiscale_box(
                height, width, side, scales=chosen.scales, max_distort=chosen.max_distort
            )
        if chosen.crop == "random_resized":
            drawn = self.resized_crop.make_params([torch.empty(3, height, width, device="meta")])
            return drawn["top"], drawn["left"], drawn["height"], drawn["width"]
        if chosen.crop == "center":
            return (height - side) // 2, (width - side) // 2, side, side
        return _random_below(height - side), _random_below(width - side), side, side


class ViewTransform:
    """Crops of a clip at test time.

    One crop is the center, three lie along the long side, ten are the four corners and the center
    and their mirror images. At full resolution crops are squares of the whole short side, and a
    single crop is the whole frame. With `resize_px` the squares are resized at the end.
    """

    def __init__(self, preprocessing: Preprocessing, views: Views) -> None:
        self.short_side_px = preprocessing.short_side_px
        self.crop_px = preprocessing.crop_px
        self.resize = preprocessing.resize
        self.views = views

    def __call__(self, frames_TCHW: torch.Tensor) -> torch.Tensor:
        """Returns the crops (X, T, 3, h, w) of a clip (T, 3, H, W), uint8."""
        frames_TCHW = resize_short_side(frames_TCHW, self.short_side_px, how=self.resize)
        height, width = frames_TCHW.shape[-2:]
        if self.views.full_resolution and self.views.crops == 1:
            return frames_TCHW.unsqueeze(0)
        side = min(height, width) if self.views.full_resolution else self.crop_px
        down, across = height - side, width - side
        corners = {
            1: [(down // 2, across // 2)],
            3: [  # along the long side only
                (down * i // 2, across // 2) if height > width else (down // 2, across * i // 2)
                for i in range(3)
            ],
            10: [(0, 0), (0, across), (down, 0), (down, across), (down // 2, across // 2)],
        }[self.views.crops]
        crops = torch.stack([frames_TCHW[..., t : t + side, x : x + side] for t, x in corners])
        if self.views.resize_px is not None and self.views.resize_px != side:
            crops = _resize(crops, self.views.resize_px, self.views.resize_px, self.resize)
        return torch.cat([crops, crops.flip(-1)]) if self.views.crops == 10 else crops


def resize_short_side(
    frames_TCHW: torch.Tensor, short_side_px: int, *, how: ResizeName = "pil"
) -> torch.Tensor:
    """Resizes frames to this short side, as `ClipSettings.resize` says.

    Returns frames unchanged if they have it already.
    """
    height, width = frames_TCHW.shape[-2:]
    if min(height, width) == short_side_px:
        return frames_TCHW
    return _resize(frames_TCHW, *_resized(height, width, short_side_px, how), how)


def multiscale_box(
    height: int, width: int, side_px: int, *, scales: Sequence[float], max_distort: int
) -> Box:
    """Draws a crop of multi-scale corner cropping (TSN, Wang et al., ECCV 2016, section 3.2).

    Draws width and height from the scaled short sides (a side within 3 px of `side_px` becomes
    it), then one of 13 places on a grid of quarters: corners, center, middles of the sides, and
    the four places between corner and center.
    """
    base = min(height, width)
    sides = [side_px if abs(int(base * s) - side_px) < 3 else int(base * s) for s in scales]
    # Neighboring scales may be combined, which changes the aspect ratio a little.
    sizes = [
        (high, wide)
        for i, high in enumerate(sides)
        for j, wide in enumerate(sides)
        if abs(i - j) <= max_distort
    ]
    high, wide = sizes[_random_below(len(sizes) - 1)]
    # Fixed places instead of uniform ones, which would favor the center of the frame.
    places = [
        *((y, x) for y in (0, 2, 4) for x in (0, 2, 4)),
        *((y, x) for y in (1, 3) for x in (1, 3)),
    ]
    down, across = places[_random_below(len(places) - 1)]
    return (height - high) * down // 4, (width - wide) * across // 4, high, wide


def normalize(
    clips: torch.Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Normalizes uint8 RGB (..., 3, H, W) to (value / 255 - mean) / std on the same device."""
    scale = torch.tensor([1 / (255 * s) for s in std], dtype=dtype, device=clips.device)
    shift = torch.tensor(
        [-m / s for m, s in zip(mean, std, strict=True)], dtype=dtype, device=clips.device
    )
    return torch.addcmul(shift.view(3, 1, 1), clips.to(dtype), scale.view(3, 1, 1))


def _resized(height: int, width: int, short_side_px: int, how: ResizeName) -> tuple[int, int]:
    """Height and width after resizing the short side to `short_side_px`."""
    short, long = sorted((height, width))
    if how == "opencv":
        # In floats and in this order, as mmcv does, so that halves are rounded alike.
        new_long = int(long * (short_side_px / short) + 0.5)
    else:
        new_long = long * short_side_px // short
    return (short_side_px, new_long) if height <= width else (new_long, short_side_px)


def _resize(frames_TCHW: torch.Tensor, height: int, width: int, how: ResizeName) -> torch.Tensor:
    resized: torch.Tensor = F.resize(
        frames_TCHW, [height, width], InterpolationMode.BILINEAR, antialias=how == "pil"
    )
    return resized


def _random_below(highest: int) -> int:
    """Random integer from 0 to `highest`, inclusive."""
    return int(torch.randint(highest + 1, ()))


def _mirrored_labels(flip: FlipName, class_names: Sequence[str]) -> list[int | None]:
    """Label after mirroring, for each label; None if mirroring is not allowed."""
    if flip == "swap":
        return list(mirror_map(class_names).values())
    return [
        label if flip == "on" or (flip == "skip" and mirrored_class_name(name) is None) else None
        for label, name in enumerate(class_names)
    ]


def _color(chosen: Augmentation) -> list[torch.nn.Module]:
    changes: list[torch.nn.Module] = []
    strengths = (chosen.brightness, chosen.contrast, chosen.saturation, chosen.hue)
    if any(strengths):
        changes.append(v2.ColorJitter(*strengths))
    if chosen.randaugment_ops:
        changes.append(v2.RandAugment(chosen.randaugment_ops, chosen.randaugment_magnitude))
    return changes
