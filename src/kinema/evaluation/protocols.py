"""Test protocols of the literature by name, and their sources in the papers.

A protocol defines the views of a video and the sizes in pixels; frames are sampled by the
network's own rule, as in training (see `kinema.data.sampling`). The scores of a video are the mean
over its views, before softmax. The rows are data, in protocols.toml.
"""

import functools
import tomllib
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from kinema.errors import UnknownNameError, did_you_mean
from kinema.values import Preprocessing, Views


@dataclass(frozen=True)
class Protocol:
    """Test protocol.

    Attributes:
        name: Clips x crops, such as "10x3".
        about: Description in a sentence.
        views: Clips and crops.
        short_side_px: Short side of the resized frames.
        crop_px: Side of the square crops, unless `views` uses full resolution.
    """

    name: str
    about: str
    views: Views
    short_side_px: int = 256
    crop_px: int = 224

    def applied_to(self, preprocessing: Preprocessing) -> Preprocessing:
        """Returns a network's preprocessing with the sizes of this protocol."""
        return replace(preprocessing, short_side_px=self.short_side_px, crop_px=self.crop_px)


@dataclass(frozen=True)
class PaperTest:
    """Test described in a section or table (`place`) of a paper.

    Attributes:
        id: Short name: paper, I for inference or Q for quoted rows, and what it is about.
        protocol: Name of the protocol.
        reading: Gaps and contradictions in the paper, and how they are read here.
    """

    id: str
    paper: str
    place: str
    datasets: tuple[str, ...]
    protocol: str
    reading: str = ""


@functools.cache
def protocols() -> dict[str, Protocol]:
    """All protocols by name."""
    return {
        row["name"]: Protocol(**{**row, "views": Views(**row.get("views", {}))})
        for row in _tables()["protocol"]
    }


@functools.cache
def all_paper_tests() -> tuple[PaperTest, ...]:
    """All tests that the papers describe."""
    return tuple(
        PaperTest(**{**row, "datasets": tuple(row["datasets"])}) for row in _tables()["paper_test"]
    )


def _tables() -> dict[str, Any]:
    file = files("kinema.evaluation") / "protocols.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def protocol_named(name: str) -> Protocol:
    """Returns the protocol of a name.

    Raises:
        UnknownNameError: the name does not exist; the message has the nearest one.

    Example:
        >>> protocol_named("4x3-256").views.count
        12
    """
    if name not in protocols():
        raise UnknownNameError(f"Unknown protocol {name!r}. {did_you_mean(name, protocols())}")
    return protocols()[name]


def paper_tests(protocol: Protocol) -> tuple[PaperTest, ...]:
    """Tests in the papers that use a protocol."""
    return tuple(test for test in all_paper_tests() if test.protocol == protocol.name)
