"""Accuracies that the papers print, each with its table, row and setting.

The rows are data, in accuracies.toml. `kinema.report.against` compares own results with them.
"""

import fnmatch
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from kinema.errors import UnknownNameError, did_you_mean

# As printed: 46.0 has other digits than 46.
Printed = int | float


@dataclass(frozen=True)
class Accuracy:
    """Row of a table, figure or section of a paper.

    Attributes:
        paper: Short name: "tea", "tei", "gte", "tsi" or "tam".
        source: Paper and place, such as "TEINet, table 2".
        method: Name of the row, as printed.
        dataset: Class list of the data set, such as "something_v1"; None if the row has none.
        split: Videos of the test, such as "val"; None if not stated.
        config: Variant that the row is about.
        network: Name for `create_model`; None for networks that kinema does not build.
        options: Keyword arguments for `create_model`.
        backbone: As printed.
        pretrain: Data of the pretraining, "none" for random initial weights; None if not stated.
        frames: Frames of a clip, such as "8", or of the networks of an ensemble, such as "16+8".
        clips: Clips of a video; None if not stated, like all the following.
        crops: Crops of a clip.
        gflops: GFLOPs of one view.
        params_m: Millions of parameters.
        latency_ms: Milliseconds of a clip or video.
        videos_per_s: Throughput.
        top1: Percent.
        top5: Percent.
        hardware: Machine and conditions of the times.
        note: What is read into the row, and what is unclear in the paper.
    """

    paper: str
    source: str
    method: str
    dataset: str | None = None
    split: str | None = None
    config: str = ""
    network: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    backbone: str | None = None
    pretrain: str | None = None
    frames: str | None = None
    clips: int | None = None
    crops: int | None = None
    gflops: Printed | None = None
    params_m: Printed | None = None
    latency_ms: Printed | None = None
    videos_per_s: Printed | None = None
    top1: Printed | None = None
    top5: Printed | None = None
    hardware: str = ""
    note: str = ""


def printed_accuracies(
    pattern: str = "*",
    *,
    paper: str | None = None,
    dataset: str | None = None,
    frames: str | None = None,
) -> list[Accuracy]:
    """Rows of the papers that answer a question, in the order of the papers.

    Args:
        pattern: Shell pattern of the network's name; "*" includes networks of others.
        paper: Short name of a paper.
        dataset: Name of a data set.
        frames: Frames of a clip, as in `Accuracy`.

    Raises:
        UnknownNameError: no row has this value, or no row has all of them.

    Example:
        >>> [row.top1 for row in printed_accuracies("tim_*", paper="tei", frames="16")]
        [48.5]
    """
    rows = _rows()
    networks = {row.network for row in rows if row.network is not None}
    if pattern != "*" and not fnmatch.filter(networks, pattern):
        near = did_you_mean(pattern, networks)
        raise UnknownNameError(f"No paper prints a row of a network named {pattern!r}. {near}")
    wanted = {"paper": paper, "dataset": dataset, "frames": frames}
    for key, value in wanted.items():
        _check_known(key, value, (getattr(row, key) for row in rows))
    found = [
        row
        for row in rows
        if pattern == "*" or fnmatch.fnmatchcase(row.network or "", pattern)
        if all(value in (None, getattr(row, key)) for key, value in wanted.items())
    ]
    if not found:
        given = ", ".join(f"{key} {value}" for key, value in wanted.items() if value is not None)
        raise UnknownNameError(
            f"No paper prints a row of {'any network' if pattern == '*' else pattern} with {given}."
        )
    return found


def _check_known(key: str, value: str | None, values: Iterable[str | None]) -> None:
    known = sorted({known for known in values if known is not None})
    if value is not None and value not in known:
        raise UnknownNameError(
            f"No row of the papers has the {key} {value!r}. {did_you_mean(value, known)}"
        )


def _rows() -> list[Accuracy]:
    text = (files("kinema.report") / "accuracies.toml").read_text(encoding="utf-8")
    ledger = tomllib.loads(text)
    rows = []
    for table in ledger["tables"]:
        shared = {key: table[key] for key in table if key not in ("table", "rows")}
        source = f"{ledger['papers'][table['paper']]}, {table['table']}"
        rows += [Accuracy(source=source, **{**shared, **row}) for row in table["rows"]]
    return rows
