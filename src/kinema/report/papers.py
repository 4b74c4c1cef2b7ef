"""The papers' parameters and GFLOPs compared with counted ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kinema.models.network import NORMS, VideoNetwork
from kinema.models.shapes_only import shapes_only
from kinema.models.zoo import create_model
from kinema.report.published import CountingRule, Published

MET = "met"
MILLION, GIGA = 10**6, 10**9


@dataclass(frozen=True)
class Figure:
    """A number as printed, such as "24.3M", if any, and the counted parameters or MACs."""

    published: str | None
    counted: float
    unit: int  # of the printed number: MILLION, GIGA, or 1 of a ratio

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
        return None if self.published is None else verdict(self.published, self.in_units)

    @property
    def met(self) -> bool:
        """True if the counted number rounds to the printed one."""
        return self.verdict == MET


@dataclass(frozen=True)
class Comparison:
    """Row of the ledger with the counted parameters and MACs of one view.

    `by_rule` are the MACs under the row's other rule of counting, if it has one, and `ratio` their
    multiple of the MACs of another network, if one is printed.
    """

    row: Published
    params: Figure
    gflops: Figure
    by_rule: Figure | None
    ratio: Figure | None = None


def verdict(published: str, counted: float) -> str:
    """Returns "met" if the counted number rounds to the printed one, else the relative difference.

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


def compare(
    rows: Sequence[Published], progress: Callable[[int, int], None] | None = None
) -> list[Comparison]:
    """Builds the network of every row and counts parameters and MACs."""
    comparisons: list[Comparison] = []
    counts: dict[tuple[Any, ...], tuple[int, int, float | None]] = {}

    def count(row: Published) -> tuple[int, int, float | None]:
        # Several papers may have the same network.
        options = tuple(sorted(row.options.items()))
        key = (row.model, options, row.frames, row.size_px, row.classes, row.rule)
        if key not in counts:
            counts[key] = _count(row)
        return counts[key]

    for done, row in enumerate(rows, start=1):
        params, macs, operations = count(row)
        by_rule = None if operations is None else Figure(row.gflops, operations, GIGA)
        ratio = None
        if row.ratio is not None:
            other = count(replace(row, model=row.ratio_to, options={}, rule=None))
            ratio = Figure(row.ratio, macs / other[1], 1)
        figures = Figure(row.params, params, MILLION), Figure(row.gflops, macs, GIGA)
        comparisons.append(Comparison(row, *figures, by_rule, ratio))
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
            parts = (comparison.params, comparison.gflops, comparison.ratio)
            figures = [figure for figure in parts if figure is not None and figure.published]
            printed += len(figures)
            met += sum(figure.met for figure in figures)
            other = comparison.by_rule
            by_rule += other is not None and other.met and not comparison.gflops.met
    return met, by_rule, printed


def _count(row: Published) -> tuple[int, int, float | None]:
    """Parameters, MACs, and operations by the row's other rule of counting."""
    with shapes_only():  # counting needs no weight values
        net = create_model(row.model, classes=row.classes, frames=row.frames, **row.options)
    cost = net.cost(row.size_px)
    if row.rule is None:
        return cost.params, cost.macs, None
    more = _operations_that_differ(net, row.size_px, row.rule)
    return cost.params, cost.macs, cost.macs + more


def _operations_that_differ(net: VideoNetwork, size_px: int, rule: CountingRule) -> float:
    """Operations that the rule counts in addition to those of `net.cost`, possibly negative."""
    total = 0.0

    def look(module: nn.Module, _inputs: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, NORMS):
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
        net(torch.empty(1, net.clip_frames, 3, size_px, size_px, device="meta"))
    flops = counter.get_flop_counts().get("Global", {})
    products = sum(n for op, n in flops.items() if "bmm" in str(op) or "attention" in str(op))
    return total + (rule.products - 1) * products / 2
