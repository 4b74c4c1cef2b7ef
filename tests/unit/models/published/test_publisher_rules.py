"""The preprocessing of every entry against its publisher's: equal, or the difference is stated."""

import functools
import re

import numpy as np
import pytest
import torch

from kinema.class_lists import shipped_class_names
from kinema.data.sampling import sampling_of
from kinema.data.transforms import ViewTransform, resize_short_side
from kinema.models.published.catalog import list_published
from kinema.values import Preprocessing, Views

from .publisher_rules import Rule, corners, frame_numbers, mean_and_std, resized, rule_of

CATALOG = list_published()
SIDES = range(256, 460, 21)


@functools.cache
def lengths_that_differ(rule: Rule, how: Preprocessing, views: Views) -> list[int]:
    """Numbers of frames of videos, of 1 to 174, in which other frames are taken."""
    sampling = sampling_of(how, views)
    return [
        n
        for n in range(1, 175)
        if not np.array_equal(sampling.test(n, views.clips), frame_numbers(rule, n))
    ]


@functools.cache
def crop_difference_px(rule: Rule, how: Preprocessing, views: Views, *, upright: bool) -> int:
    """Largest distance of a crop from the publisher's, over frames of many sizes."""
    transform, most = ViewTransform(how, views), 0
    for side in SIDES:
        height, width = (side, how.short_side_px) if upright else (how.short_side_px, side)
        if min(height, width) < how.short_side_px:
            continue
        ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        # The place of every pixel as its color.
        places = torch.stack([ys % 256, xs % 256, (ys >> 8) * 2 + (xs >> 8)]).to(torch.uint8)
        crops = transform(places[None])[: len(corners(rule, height, width)), 0]
        assert crops.shape[-2:] == (rule.crop_px, rule.crop_px)
        first = crops[:, :, 0, 0].int()
        ours = [(int(y + 256 * (s >> 1)), int(x + 256 * (s & 1))) for y, x, s in first]
        theirs = corners(rule, height, width)
        # The order of crops does not matter for their mean, so that ours are sorted as theirs.
        for (y, x), (top, left) in zip(sorted(ours), sorted(theirs), strict=True):
            most = max(most, abs(y - top), abs(x - left))
    return most


@pytest.mark.parametrize("one", CATALOG, ids=lambda one: one.id)
def test_frames_and_averages_are_the_publishers(one):
    stated, (mean, std) = " ".join(one.differences), mean_and_std(one)
    assert one.preprocessing.mean == pytest.approx(mean, abs=5e-7)
    assert one.preprocessing.std == pytest.approx(std, abs=5e-7)
    for printed in one.printed:
        rule, (how, views) = rule_of(one, printed), (one.preprocessing, printed.views)
        assert (how.frames, how.short_side_px) == (rule.frames, rule.short_side_px)
        assert how.average == "probs" or "average_clips prob" not in printed.protocol
        if views is None:  # README and configuration contradict each other
            continue
        assert (views.clips, views.crops) == (rule.clips, rule.crops)
        assert views.side_px(how) == rule.crop_px
        differ = lengths_that_differ(rule, how, views)
        shorter = "two uniform clips of a video with fewer frames than segments" in stated
        assert differ == ([n for n in differ if n < how.frames] if shorter else [])
    if not any("average_clips prob" in printed.protocol for printed in one.printed):
        assert one.preprocessing.average == "scores"


@pytest.mark.parametrize("one", CATALOG, ids=lambda one: one.id)
def test_differences_of_crops_are_stated_in_pixels(one):
    stated = " ".join(one.differences)
    for printed in one.printed:
        if printed.views is None:
            continue
        rule, how = rule_of(one, printed), one.preprocessing
        wide = crop_difference_px(rule, how, printed.views, upright=False)
        upright = crop_difference_px(rule, how, printed.views, upright=True)
        words = {1: "center crop", 3: "three crops", 10: "ten crops"}[rule.crops]
        found = re.search(rf"{words} up to (\d) px", stated)
        assert wide == (int(found[1]) if found else 0)
        if upright != wide:
            assert (rule.publisher, rule.crops) == ("tsm", 3)
            assert "three crops of upright videos are all in the center" in stated


@pytest.mark.parametrize("publisher", ["mmaction2", "tsm"])
def test_frames_are_resized_to_the_publishers_size(publisher):
    (how,) = {
        one.preprocessing.resize
        for one in CATALOG
        if ("MMAction2" in one.publisher.name) == (publisher == "mmaction2")
    }
    for short_side in (224, 256):
        rule = Rule(publisher, "", 8, short_side, 1, 224)
        for size in [(240, 320), (100, 176), (333, 500), (720, 405), (256, 341), (90, 90)]:
            frame = torch.zeros(1, 3, *size, dtype=torch.uint8)
            ours = resize_short_side(frame, short_side, how=how)
            assert tuple(ours.shape[-2:]) == resized(rule, *size)


# Names at some places of the publishers' own lists (tools/data/*/label_map.txt of MMAction2).
PLACES = {
    "something_v1": {0: "Holding something", 28: "Pushing something with something",
                     173: "Poking a hole into some substance"},
    "something_v2": {0: "Approaching something with your camera", 16: "Holding something",
                     173: "Wiping something off of something"},
    "jester": {0: "Swiping Left", 13: "Rolling Hand Backward", 26: "Doing other things"},
    "diving48": {0: "Back+15som+05Twis+FREE", 20: "Forward+1som+NoTwis+PIKE",
                 47: "Reverse+Dive+NoTwis+TUCK"},
    "kinetics400": {0: "abseiling", 399: "zumba"},
    "ucf101": {0: "ApplyEyeMakeup", 100: "YoYo"},
    # MMAction2 numbers the folders in alphabetical order; the set's own list has kick_ball first.
    "hmdb51:sorted": {20: "kick", 21: "kick_ball", 44: "sword", 45: "sword_exercise"},
    # TSM, TANet, GST and GSF sort the classes of Something-Something V1 and Jester.
    "something_v1:sorted": {0: "Approaching something with your camera", 16: "Holding something"},
    "jester:sorted": {0: "Doing other things", 1: "Drumming Fingers",
                      26: "Zooming Out With Two Fingers"},
}  # fmt: skip


def test_classes_are_in_the_publishers_order():
    assert {one.class_list for one in CATALOG} - {None} == set(PLACES)
    for name, places in PLACES.items():
        names = shipped_class_names(name)
        assert {place: names[place] for place in places} == places
    for one in CATALOG:
        if one.class_list in (None, "kinetics400", "something_v2", "ucf101", "diving48"):
            continue
        is_sorted = "MMAction2" not in one.publisher.name or one.data == "hmdb51"
        assert one.class_list == one.data + ":sorted" * is_sorted
