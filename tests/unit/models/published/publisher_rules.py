"""Preprocessing of the publishers, written from their code and their own words, not from kinema.

TSM: ops/dataset.py, ops/transforms.py and test_models.py at 1f6a834b; TANet, GST and GSF began as
copies of them. MMAction2: SampleFrames, DenseSampleFrames, Resize and the crops of 71a938ab (0.x)
and 4d6c9347 (1.x), which test with the same frames. Letters: n frames of a video, N clips of T.
"""

import re
from dataclasses import dataclass

import numpy as np

from kinema.models.published.catalog import PrintedAccuracy, PublishedNetwork

# Sampling of the test pipelines of MMAction2's configurations, by hash of the file.
CONFIGURED = {
    "DenseSampleFrames 1x1x25": "dcbc6e01",
    "DenseSampleFrames 1x1x8": "a34346bc 032c8e94 61135809 aa5cadf6 f55d3c2b a54ff3d3 e3e5e97f "
    "a063165f e925e6e3 0f19175f",
    "SampleFrames 1x1x16": "cc37e9b8 042b1748 2f27f229 85645c2a 7c0c5d54 41ac92b9 4785548e "
    "8df9c358 aa9631c0 5d23ac6e 63c5f2f7",
    "SampleFrames 1x1x16 twice_sample": "370c2128 b922e5d2 ec6696ad 0a45549c",
    # The first two have no configuration; the README says "25x10 frames".
    "SampleFrames 1x1x25": "e508be42 c133dd49 5f4c0daf cbe85332 23cff032 cd10898e 65d68713 "
    "2692d16c 22592236 cc665e2a 883baf16 ef80e3d7 5ae1ee79 568cde33 54192355 2863fed0 88cb325a "
    "9922802f ae7963ca 4db3c461 e381a6c7 06ad7d03 85bcc1c3 d85ab600 7f8da0c6 c0f04a7e b4eaf92b "
    "23966b4b 66f5e046 011f984d 59f5d064 0f56ef51 de2d5615 16a8b561",
    "SampleFrames 1x1x6": "d512ab1b",
    "SampleFrames 1x1x8": "7f10d0c0 4a146a70 9b7804d6 4a33db86 84f9b4b0 b27a7337 401127fd 35eddb57 "
    "108bfde5 7e54dacf f00f1336 b93fd297 d8ad84d2 64d69186 a6db1e5d af7fb746 020785e2 68d582b4 "
    "7ff22268 bf96e6cc a77f4328 10c74ee5 1fae312b aba5aa3d 061b9195 7e2fe4f1 1aafee8f ce6c27ed "
    "7f84701b 01526d41 6dde0185",
    "SampleFrames 1x1x8 twice_sample": "de50e4ef f4a48609 49970a5b efcc0d1b df97f3e1 01dce462 "
    "12596f16 481268d9 76937692 9eca48e5 34934615 ee93e5e3 4f4f4740 be0fc26e 032aa4da c799267e",
    "SampleFrames 8x8x10": "557bd8bc e0227b22",
}
BY_HASH = {digits: words for words, hashes in CONFIGURED.items() for digits in hashes.split()}
# Files of MMAction2 with another mean of the blue channel: 103.5 instead of 103.53.
BLUE_103_5 = ["a34346bc", "de50e4ef", "cc37e9b8"]


@dataclass(frozen=True)
class Rule:
    """Preprocessing of one printed accuracy."""

    publisher: str  # "mmaction2" or "tsm"
    sampling: str  # as in `CONFIGURED`, or "dense-N", "uniform-N" and "twice" of T frames
    frames: int
    short_side_px: int
    crops: int
    crop_px: int

    @property
    def clips(self) -> int:
        """Clips of T frames."""
        if self.publisher == "mmaction2":
            interval = int(self.sampling.rpartition("x")[2]) if "8x8" in self.sampling else 1
            return {"D": 10, "S": 2 if "twice" in self.sampling else interval}[self.sampling[0]]
        return 2 if self.sampling == "twice" else int(self.sampling.rpartition("-")[2])


def rule_of(one: PublishedNetwork, printed: PrintedAccuracy) -> Rule:
    """Reads the publisher's words."""
    words = printed.protocol
    if "MMAction2" in one.publisher.name:
        return _of_mmaction2(one, words)
    crops = 10 if "10 crops" in words else 3 if re.search("3 crops|full res", words) else 1
    dense = "dense" in words or "_dense" in one.own_file_name
    sampling = "twice" if "twice" in words else "dense-10" if dense else "uniform-1"
    if own := re.match("(?:dense|uniform)-[0-9]+", words):  # --test_sample of TANet
        sampling = own[0]
    segments = re.search(r"segment(\d+)", one.own_file_name)
    # Other files name no number of segments, and a TSN of 5 is tested with the 8 of its README.
    frames = int(segments[1]) if segments and segments[1] != "5" else one.frames
    return Rule("tsm", sampling, frames, 256, crops, 256 if crops == 3 else 224)


def _of_mmaction2(one: PublishedNetwork, words: str) -> Rule:
    sampling = BY_HASH[one.sha256[:8]]
    if words == "center crop, 1 clip":  # a column of its own in the tables of the README
        words, sampling = "Resize (-1, 256), CenterCrop 224", sampling.removesuffix(" twice_sample")
    resize, crop, side = re.search(r"Resize \(-1, (\d+)\), (\w+)Crop (\d+)", words).groups()
    length, _, number = map(int, re.findall(r"\d+", sampling))
    frames = number if length == 1 else length
    crops = {"Center": 1, "Three": 3, "Ten": 10}[crop]
    return Rule("mmaction2", sampling, frames, int(resize), crops, int(side))


def frame_numbers(rule: Rule, n: int) -> np.ndarray:
    """Frames (N, T), counted from 0."""
    return (_mmaction2_frames if rule.publisher == "mmaction2" else _tsm_frames)(rule, n)


def _mmaction2_frames(rule: Rule, n: int) -> np.ndarray:
    length, interval, number = map(int, re.findall(r"\d+", rule.sampling))
    if rule.sampling.startswith("Dense"):  # num_sample_positions=10, sample_range=64
        starts = np.linspace(0, max(1, 1 + n - 64) - 1, num=10, dtype=int)
        return (starts[:, None] + np.arange(number) * (64 // number)) % n
    if length == 1:
        starts = np.arange(number) * (n / float(number))
        middles = starts + n / float(number) / 2.0
        rows = [middles, starts] if "twice" in rule.sampling else [middles]
        return np.stack(rows).astype(np.int32) % n
    most = max(n - ((length - 1) * interval + 1), 0)
    offsets = np.round(np.arange(number) * (most / float(number - 1)))
    return ((offsets[:, None] + np.arange(length) * interval) % n).astype(np.int32)


def _tsm_frames(rule: Rule, n: int) -> np.ndarray:
    kind, tick, places = rule.sampling.partition("-")[0], n / float(rule.frames), rule.frames
    if kind == "dense":
        starts = np.linspace(0, max(1, 1 + n - 64) - 1, num=rule.clips, dtype=int)
        return (starts[:, None] + np.arange(places) * (64 // places)) % n
    if kind == "uniform" and rule.clips > 1:  # TANet
        starts = np.linspace(0, tick - 1, num=rule.clips, dtype=int)
        return np.array([[int(s + tick * x) % n for x in range(places)] for s in starts])
    rows = [[int(tick / 2.0 + tick * x) for x in range(places)]]
    if kind == "twice":
        rows.append([int(tick * x) for x in range(places)])
    return np.array(rows)


def resized(rule: Rule, height: int, width: int) -> tuple[int, int]:
    """Height and width after the resize."""
    if rule.publisher == "mmaction2":  # mmcv.rescale_size
        factor = rule.short_side_px / min(height, width)
        return int(height * float(factor) + 0.5), int(width * float(factor) + 0.5)
    if height <= width:  # torchvision.transforms.Resize
        return rule.short_side_px, int(rule.short_side_px * width / height)
    return int(rule.short_side_px * height / width), rule.short_side_px


def corners(rule: Rule, height: int, width: int) -> list[tuple[int, int]]:
    """(top, left) of the crops of a resized frame; mirrored ones lie at the same places."""
    down, across = height - rule.crop_px, width - rule.crop_px
    by_4 = lambda y, x: (y * (down // 4), x * (across // 4))  # noqa: E731
    if rule.crops == 10:
        return [by_4(0, 0), by_4(0, 4), by_4(4, 0), by_4(4, 4), by_4(2, 2)]
    if rule.publisher == "mmaction2":
        if rule.crops == 1:
            return [(down // 2, across // 2)]
        step = (across // 2, down // 2)
        return [(0, i * step[0]) if down == 0 else (i * step[1], 0) for i in range(3)]
    if rule.crops == 1:  # torchvision.transforms.CenterCrop
        return [(round(down / 2.0), round(across / 2.0))]
    return [by_4(2, 0), by_4(2, 2), by_4(2, 4)]


def mean_and_std(one: PublishedNetwork) -> tuple[list[float], list[float]]:
    """Mean and standard deviation for values in 0..1."""
    if "MMAction2" not in one.publisher.name:
        return [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    blue = 103.5 if one.sha256[:8] in BLUE_103_5 else 103.53
    of_255 = [123.675, 116.28, blue], [58.395, 57.12, 57.375]
    return tuple([value / 255 for value in values] for values in of_255)
