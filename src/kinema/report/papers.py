"""The papers' parameters and GFLOPs compared with counted ones."""

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kinema.errors import UnknownNameError, did_you_mean
from kinema.models.network import VideoNetwork
from kinema.models.zoo import create_model
from kinema.report import published as ledger
from kinema.report.published import CountingRule, OpenPoint, Published

MET = "met"
MILLION, GIGA = 10**6, 10**9


@dataclass(frozen=True)
class Figure:
    """A printed number, if any, and the counted one.

    Attributes:
        published: As printed, such as "24.3M" or "33".
        counted: Parameters or MACs.
        unit: Unit of the printed number: `MILLION` or `GIGA`.
    """

    published: str | None
    counted: float
    unit: int

    @property
    def in_units(self) -> float:
        """The counted number in the unit of the printed one."""
        return self.counted / self.unit

    @property
    def difference(self) -> float | None:
        """Relative difference, (counted - published) / published."""
        if self.published is None:
            return None
        return self.in_units / float(_number(self.published)) - 1

    @property
    def verdict(self) -> str | None:
        """See `verdict`; None without a printed number."""
        if self.published is None:
            return None
        return verdict(self.published, self.in_units)

    @property
    def met(self) -> bool:
        """True if the counted number rounds to the printed one."""
        return self.verdict == MET


@dataclass(frozen=True)
class Comparison:
    """Row of the ledger with the counted numbers.

    Attributes:
        row: The printed figures and their network.
        params: Parameters.
        gflops: MACs of one view.
        by_rule: The same under the row's other rule of counting, if it has one.
    """

    row: Published
    params: Figure
    gflops: Figure
    by_rule: Figure | None


def verdict(published: str, counted: float) -> str:
    """Returns "met" if the counted number rounds to the printed one, else the relative difference.

    Args:
        published: As printed.
        counted: In the unit of the printed number.

    Example:
        >>> verdict("24.3M", 24.328), verdict("19.3M", 19.149), verdict("34", 34.845)
        ('met', '0.8 % low', '2.5 % high')
    """
    printed = _number(published)
    if Decimal(counted).quantize(printed, rounding=ROUND_HALF_UP) == printed:
        return MET
    percent = 100 * (counted / float(printed) - 1)
    digits = 1 if abs(percent) >= 0.05 else 2
    return f"{abs(percent):.{digits}f} % {'high' if percent > 0 else 'low'}"


def _number(published: str) -> Decimal:
    return Decimal(published.removesuffix("M"))


def published_rows(pattern: str = "*") -> list[Published]:
    """Rows about networks whose name matches a shell pattern.

    Raises:
        UnknownNameError: no row matches.
    """
    rows = [row for row in ledger.published() if fnmatch.fnmatchcase(row.model, pattern)]
    if not rows:
        near = did_you_mean(pattern, {row.model for row in ledger.published()})
        raise UnknownNameError(
            f"There is no published figure of a network named {pattern!r}. {near}"
        )
    return rows


def open_points(pattern: str = "*") -> list[OpenPoint]:
    """Open points that concern networks whose name matches a shell pattern."""
    return [point for point in ledger.open_points() if fnmatch.filter(point.models, pattern)]


def compare(
    rows: Sequence[Published], progress: Callable[[int, int], None] | None = None
) -> list[Comparison]:
    """Builds the network of every row and counts parameters and MACs.

    Args:
        rows: Rows, such as `published_rows("tsm_*")`.
        progress: Called with (done, total).
    """
    comparisons: list[Comparison] = []
    counts: dict[tuple[Any, ...], _Count] = {}  # several papers may have the same network
    for done, row in enumerate(rows, start=1):
        options = tuple(sorted(row.options.items()))
        key = (row.model, options, row.frames, row.size_px, row.classes, row.rule)
        if key not in counts:
            counts[key] = _count(row)
        comparisons.append(_comparison(row, counts[key]))
        if progress is not None:
            progress(done, len(rows))
    return comparisons


def count_met(comparisons: Sequence[Comparison]) -> tuple[int, int, int]:
    """Counts figures that are met, figures met only by another rule, and all figures.

    Ignores readings of a paper that are not kinema's.
    """
    met = by_rule = printed = 0
    for comparison in comparisons:
        if comparison.row.ours:
            figures = [f for f in (comparison.params, comparison.gflops) if f.published]
            printed += len(figures)
            met += sum(figure.met for figure in figures)
            other = comparison.by_rule
            by_rule += other is not None and other.met and not comparison.gflops.met
    return met, by_rule, printed


@dataclass(frozen=True)
class _Count:
    params: int
    macs: int
    operations_by_rule: float | None


def _comparison(row: Published, count: _Count) -> Comparison:
    operations = count.operations_by_rule
    return Comparison(
        row=row,
        params=Figure(row.params, count.params, MILLION),
        gflops=Figure(row.gflops, count.macs, GIGA),
        by_rule=None if operations is None else Figure(row.gflops, operations, GIGA),
    )


def _count(row: Published) -> _Count:
    with torch.device("meta"):  # counting needs no weight values
        net = create_model(row.model, classes=row.classes, frames=row.frames, **row.options)
    cost = net.cost(row.size_px)
    if row.rule is None:
        return _Count(cost.params, cost.macs, None)
    more = _operations_that_differ(net, row.size_px, row.rule)
    return _Count(cost.params, cost.macs, cost.macs + more)


def _operations_that_differ(net: VideoNetwork, size_px: int, rule: CountingRule) -> float:
    """Operations that the rule counts in addition to those of `net.cost`, possibly negative."""
    total = 0.0

    def look(module: nn.Module, _inputs: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            total += rule.norms * out.numel()
        elif isinstance(module, nn.Linear):
            total += (rule.linear - 1) * out.numel() * module.in_features
        elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.bias is not None:
            total += rule.biases * out.numel()

    net.eval()
    for module in net.modules():
        module.register_forward_hook(look)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        net(torch.empty(1, net.frames, 3, size_px, size_px, device="meta"))
    flops = counter.get_flop_counts().get("Global", {})
    products = sum(n for op, n in flops.items() if "bmm" in str(op) or "attention" in str(op))
    return total + (rule.products - 1) * products / 2
