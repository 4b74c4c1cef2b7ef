"""Catalog of published networks: catalog.toml as dataclasses, and look-up by name.

A name is NETWORK:DATA, such as tsm_resnet50:kinetics400, or NETWORK:DATA-VARIANT.
"""

import fnmatch
import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from kinema.class_lists import shipped_class_names
from kinema.errors import UnknownNameError, did_you_mean
from kinema.values import Preprocessing, Views

State = Literal["listed", "manual", "verified"]
NOT_STATED = "not stated"
# At least two characters in front of the colon: C:\videos is a path.
_NAME = re.compile(r"[a-z0-9][\w+]+:[a-z0-9][\w.-]*")


@dataclass(frozen=True)
class Publisher:
    """Code base that published weights.

    Attributes:
        name: Name for people.
        source: Address of the code.
        commit: State of the code that the facts were read from.
        citation: Paper or report to cite.
        code_license: License of the code, not of the weights.
        weights_license: License of the weights.
        differs: Points in which kinema does something else for all of its networks.
    """

    name: str
    source: str
    commit: str
    citation: str
    code_license: str = NOT_STATED
    weights_license: str = NOT_STATED
    differs: tuple[str, ...] = ()


@dataclass(frozen=True)
class PrintedAccuracy:
    """Accuracy that a publisher prints.

    Attributes:
        top1: Percent.
        protocol: Test protocol in the publisher's words.
        top5: Percent.
        views: The protocol as views of `kinema evaluate`, where it can be expressed.
    """

    top1: float
    protocol: str
    top5: float | None = None
    views: Views | None = None


@dataclass(frozen=True, kw_only=True)
class PublishedNetwork:
    """Entry of the catalog: one published file, with everything needed to use it.

    Attributes:
        id: NETWORK:DATA-VARIANT.
        aliases: Shorter names of the entry.
        publisher: Code base that it comes from.
        source_file: Configuration or page of the publisher with these facts.
        model: Network, as in `create_model`.
        preprocessing: Sampling and size of clips, as far as kinema can express the publisher's.
        gmacs: GMACs of one view, counted by kinema.
        state: "listed" (direct address), "manual" (download by hand) or "verified" (fetched with
            kinema, whole hash recorded, test clip predicted).
        urls: Direct addresses of the file.
        page: Web page to download the file from.
        file_name: Name of the file behind `page`.
        sha256: SHA-256 in hexadecimal, whole or the first digits; empty where none is published.
        size_bytes: Size of the file.
        options: `causal`, and options of the temporal module.
        classes: Number of classes.
        class_list: List of class names in kinema, in the order of the scores.
        trained_on: Frames of the training, in the publisher's words.
        printed: Accuracies that the publisher prints.
        differs: Points in which kinema does something else than the publisher.
        notes: Remarks.
    """

    id: str
    publisher: Publisher
    source_file: str
    model: str
    preprocessing: Preprocessing
    gmacs: float
    state: State
    aliases: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    page: str = ""
    file_name: str = ""
    sha256: str = ""
    size_bytes: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    classes: int | None = None
    class_list: str | None = None
    trained_on: str = NOT_STATED
    printed: tuple[PrintedAccuracy, ...] = ()
    differs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def data(self) -> str:
        """Data set of the training, such as kinetics400."""
        return self.id.partition(":")[2].partition("-")[0]

    @property
    def names(self) -> tuple[str, ...]:
        """All names of the entry, the shortest first."""
        return tuple(sorted((self.id, *self.aliases), key=len))

    @property
    def frames(self) -> int:
        """T of one clip."""
        return self.preprocessing.frames

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Class names in the order of the scores; None if kinema has no list of them."""
        return None if self.class_list is None else shipped_class_names(self.class_list)

    @property
    def differences(self) -> tuple[str, ...]:
        """Points in which kinema does something else than the publisher."""
        return (*self.differs, *self.publisher.differs)

    @property
    def license(self) -> str:
        """Licenses of code and weights."""
        of = self.publisher
        return f"code {of.code_license}, weights {of.weights_license}"

    @property
    def own_file_name(self) -> str:
        """The publisher's name of the file; empty if it is not stated."""
        return self.file_name or (file_name_of(self.urls[0]) if self.urls else "")


def file_name_of(url: str) -> str:
    """Last part of an address.

    Example:
        >>> file_name_of("https://host/models/net_20220831-64d69186.pth?download=1")
        'net_20220831-64d69186.pth'
    """
    return unquote(PurePosixPath(urlsplit(url).path).name)


def list_published(pattern: str = "*") -> list[PublishedNetwork]:
    """Published networks with a name that matches a shell pattern, in the order of the catalog.

    Raises:
        UnknownNameError: none matches.

    Example:
        >>> [network.id for network in list_published("gsf_*")]
        ['gsf_resnet50:something_v1-16f-authors']
    """
    found = [one for one in _catalog() if fnmatch.filter(one.names, pattern)]
    if not found:
        near = did_you_mean(pattern, _by_name())
        raise UnknownNameError(f"No published network matches {pattern!r}. {near}")
    return found


def find_published(name: str) -> PublishedNetwork:
    """The published network of a name.

    Raises:
        UnknownNameError: there is none; the message has the nearest name.

    Example:
        >>> find_published("tsm_resnet50:something_v2").sha256
        'be0fc26e'
    """
    if name not in _by_name():
        near = did_you_mean(name, _by_name())
        raise UnknownNameError(
            f"{name!r} is neither a folder nor a published network. {near} "
            "`kinema models --published` lists all."
        )
    return _by_name()[name]


def looks_published(name: str) -> bool:
    """True for a text of the form NETWORK:DATA.

    Example:
        >>> looks_published("tsm_resnet50:kinetics400"), looks_published("runs/first/best")
        (True, False)
    """
    return _NAME.fullmatch(name) is not None


def is_on_hub(text: str) -> bool:
    """True for an hf:// address of the Hugging Face Hub; as a path it has a slash less.

    Example:
        >>> is_on_hub("hf://owner/waving"), is_on_hub("hf:/owner/waving"), is_on_hub("hf/waving")
        (True, True, False)
    """
    return text.startswith("hf:/")


def published_for(model: str, data: str) -> str | None:
    """Name of the published network `model` on a data set, "kinetics400" or "kinetics400-16f".

    Returns:
        The name; None if nobody published any network on this data set.

    Raises:
        UnknownNameError: others were published on it, but not this one.
    """
    sets = {one.data for one in _catalog()}
    if data.partition("-")[0] not in sets:
        return None
    name = f"{model}:{data}"
    if name not in _by_name():
        same = [one for one in _by_name() if one.startswith(f"{model}:")]
        on = data.partition("-")[0]
        others = sorted({one.model for one in _catalog() if one.data == on})
        near = f"{did_you_mean(name, same)} " if same else ""
        raise UnknownNameError(
            f"There are no published weights {name!r}. {near}Networks with weights on {on}: "
            f"{', '.join(others)}."
        )
    return name


def read_catalog(text: str) -> tuple[PublishedNetwork, ...]:
    """Reads the text of a catalog.

    Raises:
        OptionError: a preprocessing or a protocol has impossible values.
    """
    content = tomllib.loads(text)
    publishers = {
        key: Publisher(**{**facts, "differs": tuple(facts.get("differs", ()))})
        for key, facts in content["publishers"].items()
    }
    return tuple(_entry(row, publishers) for row in content["networks"])


def _entry(row: dict[str, Any], publishers: Mapping[str, Publisher]) -> PublishedNetwork:
    facts: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in row.items()
    }
    facts["publisher"] = publishers[row["publisher"]]
    facts["preprocessing"] = Preprocessing.from_dict(
        {"frames": facts.pop("frames"), **row["preprocessing"]}, source=row["id"]
    )
    facts["printed"] = tuple(
        PrintedAccuracy(**{**one, "views": Views(**one["views"]) if "views" in one else None})
        for one in row.get("printed", ())
    )
    return PublishedNetwork(**facts)


@functools.cache
def _catalog() -> tuple[PublishedNetwork, ...]:
    file = resources.files("kinema.models.published") / "catalog.toml"
    return read_catalog(file.read_text(encoding="utf-8"))


@functools.cache
def _by_name() -> dict[str, PublishedNetwork]:
    return {name: one for one in _catalog() for name in one.names}
