"""Contradictions between the entries of a catalog, such as those in the publishers' own lists."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from kinema.models.published.catalog import PublishedNetwork, file_name_of

# Words for the data sets in the names that publishers give to files and configurations.
WORDS = {
    "kinetics400": r"kinetics400|kinetics(?![0-9])|k400",
    "kinetics600": "kinetics600",
    "kinetics700": "kinetics700",
    "something_v1": r"sthv1|something(?!v2)",
    "something_v2": "sthv2|somethingv2",
    "jester": "jester",
    "hmdb51": "hmdb51",
    "ucf101": "ucf101",
    "diving48": "diving48",
    "moments": r"mit(?![a-z])",
    "activitynet": "activitynet",
    "minikinetics": "minikinetics",
}
DATED = re.compile(r"[_-](?P<date>\d{8})[_-](?P<hash>[0-9a-f]{8})\.\w+$")
HASHED = re.compile(r"[_-](?P<hash>[0-9a-f]{8})\.\w+$")
BACKBONES = {
    "resnet50": r"r50|resnet50",
    "resnet101": r"r101|resnet101",
    "mobilenetv2_100": "mobilenetv2",
    "densenet161": "dense161",
    "resnext101_32x4d": "rn101.32x4d",
}
FAMILIES = {
    "tsn": r"tsn|c2d|TSM_kinetics_RGB_resnet50_avg",
    "tsm": "tsm|online",
    "tsm_nl": "tsm.*nl",
    "tin": "tin_",
    "tam": "tanet",
}


def contradictions(networks: Iterable[PublishedNetwork]) -> list[str]:
    """One line per contradiction, with the names of its entries."""
    networks = list(networks)
    checks = (_of_addresses, _of_state, _of_id, _of_classes, _of_accuracies)
    found = [f"{one.id}: {line}" for one in networks for check in checks for line in check(one)]
    return found + _between(networks)


def _of_addresses(one: PublishedNetwork) -> Iterator[str]:
    for url in one.urls:
        name = file_name_of(url)
        hashed = HASHED.search(name)
        if urlsplit(url).scheme != "https":
            yield f"{url} is not https"
        if hashed and not one.sha256.startswith(hashed["hash"]):
            yield f"{name} has another hash than {one.sha256}"
        yield from _misnamed(one, name)
    config = one.source_file.rpartition("/")[2]
    if "/" in one.source_file and "main" not in config:
        yield from _misnamed(one, config)


def _of_state(one: PublishedNetwork) -> Iterator[str]:
    if one.sha256 and not re.fullmatch(r"[0-9a-f]{8,64}", one.sha256):
        yield f"sha256 {one.sha256!r} is not 8 to 64 hexadecimal digits"
    if bool(one.urls) == bool(one.page) or (one.state == "manual") != bool(one.page):
        yield f"state {one.state} with urls {one.urls} and page {one.page!r}"
    if one.state == "verified" and (len(one.sha256) < 64 or one.size_bytes is None):
        yield "verified without the whole hash and the size"


def _of_id(one: PublishedNetwork) -> Iterator[str]:
    model, _, variant = one.id.partition(":")
    if model != one.model or not variant:
        yield f"the id is not of {one.model}"
    how = one.preprocessing
    if how.has_window != bool(re.search("-dense|-c2d", one.id)):
        yield f"sampling {how.sampling} contradicts the id"
    frames = re.search(r"-(\d+)f", one.id)
    if frames and int(frames[1]) != one.frames:
        yield f"{one.frames} frames contradict the id"


def _of_classes(one: PublishedNetwork) -> Iterator[str]:
    names = one.class_names
    if one.class_list is not None and names is None:
        yield f"there is no class list {one.class_list!r}"
    if names is not None and len(names) != one.classes:
        yield f"{one.classes} classes, but {len(names)} names in {one.class_list}"
    if one.class_list and one.class_list.partition(":")[0] != one.data:
        yield f"class list {one.class_list} contradicts the id"


def _of_accuracies(one: PublishedNetwork) -> Iterator[str]:
    for printed in one.printed:
        if not 0 < printed.top1 <= (printed.top5 or 100) <= 100:
            yield f"top-1 {printed.top1} and top-5 {printed.top5}"
        twice = printed.views is not None and printed.views.twice_sample
        if twice and one.preprocessing.has_window:
            yield "twice_sample of a window"


def _misnamed(one: PublishedNetwork, name: str) -> Iterator[str]:
    """Words in a file name that contradict data set, backbone or family of the entry."""
    # Names of fine-tuned networks also have the data that their training started from.
    bare = re.sub(r"k400_pretrained|(?<=hmdb51_)(?:imagenet|kinetics400|mit)", "", name)
    data = {key for key, words in WORDS.items() if re.search(words, bare, re.IGNORECASE)}
    if one.data == "minikinetics":
        data -= {"kinetics400"}
    if data and data != {one.data}:
        yield f"{bare} names the data {', '.join(sorted(data))}"
    family, backbone = re.fullmatch(r"(tsm_nl|gst_large|[a-z]+)_(.+)", one.model).groups()
    others = [
        key
        for key, words in BACKBONES.items()
        if key != backbone and re.search(rf"(?<![a-z0-9])(?:{words})(?![0-9])", bare)
    ]
    if others:
        yield f"{bare} names the backbone {', '.join(others)}"
    if family in FAMILIES and not re.search(FAMILIES[family], bare, re.IGNORECASE):
        yield f"{bare} does not name the network {family}"


def _between(networks: list[PublishedNetwork]) -> list[str]:
    found = []
    for what, keys_of in (
        ("name", lambda one: one.names),
        ("hash", lambda one: [one.sha256[:8]] if one.sha256 else []),
        ("address", lambda one: [*one.urls, *filter(None, [one.page])]),
    ):
        holders = defaultdict(list)
        for one in networks:
            for key in keys_of(one):
                holders[key].append(one.id)
        for key, ids in holders.items():
            if len(ids) > 1:
                found.append(f"{what} {key} of {' and '.join(ids)}")
    dates = defaultdict(set)
    for one in networks:
        for url in one.urls:
            if match := DATED.search(url):
                dates[match["hash"]].add(match["date"])
    found += [
        f"hash {key} with dates {sorted(days)}" for key, days in dates.items() if len(days) > 1
    ]
    return found
