"""Parameters and GFLOPs that the papers print, and the points that they leave open.

The rows are data, in published.toml. `kinema.report.papers` counts and compares.
"""

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Literal

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
        params: As printed, such as "24.3M"; None where none is printed.
        gflops: As printed, such as "33", for one view; None where none is printed.
        source: Paper and place.
        options: Keyword arguments for `create_model`.
        classes: Number of classes that the parameters fit.
        size_px: Side of the frames.
        rule: Another way to count under which the GFLOPs may agree.
        note: A remark about the figure.
        ours: False for a reading of the paper that is not kinema's default.
    """

    model: str
    frames: int
    params: str | None
    gflops: str | None
    source: str
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


@functools.cache
def published() -> tuple[Published, ...]:
    """All printed figures, grouped by source."""
    ledger = _ledger()
    rules = {name: CountingRule(**rule) for name, rule in ledger["rules"].items()}
    return tuple(
        Published(
            **{"params": None, "gflops": None, **shared, **row},
            source=name,
            rule=None if rule is None else rules[rule],
        )
        for name, shared, rows in map(_split, ledger["sources"])
        for rule, row in ((row.pop("rule", None), row) for row in rows)
    )


@functools.cache
def open_points() -> tuple[OpenPoint, ...]:
    """All open points, in the order of their numbers."""
    return tuple(
        OpenPoint(**{**point, "models": tuple(point["models"])})
        for point in _ledger()["open_points"]
    )


def _split(source: dict[str, Any]) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
    """The name of a source, the fields that its rows share, and the rows."""
    shared = dict(source)
    return shared.pop("name"), shared, shared.pop("rows")


def _ledger() -> dict[str, Any]:
    return tomllib.loads((files("kinema.report") / "published.toml").read_text(encoding="utf-8"))
