"""Parameters and GFLOPs that the papers print, and the points that they leave open.

The rows are data, in published.toml. `kinema.report.papers` counts and compares.
"""

import fnmatch
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Literal

from kinema.errors import UnknownNameError, did_you_mean

Confidence = Literal["high", "medium-high", "medium", "medium-low", "low"]


@dataclass(frozen=True)
class CountingRule:
    """Way to count operations, other than ours (`count_cost`), that a paper may have used.

    Attributes:
        text: The rule in a sentence.
        norms: Operations per element that passes a batch norm.
        biases: Operations per element that a convolution adds a bias to.
        linear: Operations per MAC of a linear layer.
        products: Operations per MAC of an attention's matrix products.
    """

    text: str
    norms: float = 0
    biases: float = 0
    linear: float = 1
    products: float = 1


@dataclass(frozen=True)
class Published:
    """Figures that a paper prints for one network and one clip.

    Attributes:
        model: Name for `create_model`.
        frames: T of the clip.
        source: Paper and place.
        params: As printed, such as "24.3M"; None where none is printed.
        gflops: As printed, such as "33", for one view; None where none is printed.
        ratio: GFLOPs as a printed multiple of another network's, such as "1.03"; None likewise.
        ratio_to: That network.
        options: Keyword arguments for `create_model`.
        classes: Number of classes that the parameters fit.
        size_px: Side of the frames.
        rule: Another way to count under which the GFLOPs may agree.
        note: A remark about the figure.
        ours: False for a reading of the paper that is not kinema's default.
    """

    model: str
    frames: int
    source: str
    params: str | None = None
    gflops: str | None = None
    ratio: str | None = None
    ratio_to: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    classes: int = 174
    size_px: int = 224
    rule: CountingRule | None = None
    note: str = ""
    ours: bool = True


@dataclass(frozen=True)
class OpenPoint:
    """A detail that a paper omits or states in two ways, and kinema's decision.

    Attributes:
        number: Reference for documentation and notes.
        models: Networks that it concerns.
        point: The open question.
        decision: What kinema does.
        confidence: Confidence in the decision.
    """

    number: int
    models: tuple[str, ...]
    point: str
    decision: str
    confidence: Confidence


def published_rows(pattern: str = "*") -> list[Published]:
    """Printed figures of networks whose name matches a shell pattern, grouped by source.

    Raises:
        UnknownNameError: no row matches.
    """
    ledger = _ledger()
    rules = {name: CountingRule(**rule) for name, rule in ledger["rules"].items()}
    rows = []
    for source in ledger["sources"]:
        shared = {key: source[key] for key in source if key not in ("name", "rows")}
        for row in source["rows"]:
            rule = rules[row.pop("rule")] if "rule" in row else None
            rows.append(Published(source=source["name"], rule=rule, **{**shared, **row}))
    found = [row for row in rows if fnmatch.fnmatchcase(row.model, pattern)]
    if not found:
        near = did_you_mean(pattern, {row.model for row in rows})
        raise UnknownNameError(
            f"There is no published figure of a network named {pattern!r}. {near}"
        )
    return found


def open_points(pattern: str = "*") -> list[OpenPoint]:
    """Open points about networks whose name matches a shell pattern, in order of their numbers."""
    points = [
        OpenPoint(**{**point, "models": tuple(point["models"])})
        for point in _ledger()["open_points"]
    ]
    return [point for point in points if fnmatch.filter(point.models, pattern)]


def _ledger() -> dict[str, Any]:
    return tomllib.loads((files("kinema.report") / "published.toml").read_text(encoding="utf-8"))
