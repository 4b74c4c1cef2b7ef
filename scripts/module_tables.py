"""Writes the tables of docs/explain/modules.md and docs/explain/cost.md.

What is counted comes from the networks, what is measured from benchmarks/results/. Run it after
adding a network or a measurement: `python scripts/module_tables.py`. A test compares the pages with
what this makes.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kinema.models.families import FAMILIES
from kinema.models.shapes_only import shapes_only
from kinema.models.zoo import create_model
from kinema.temporal import TemporalModule, takes_conv, temporal_named
from kinema.values import Cost

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "docs/explain/modules.md", ROOT / "docs/explain/cost.md")
RESULTS = ROOT / "benchmarks" / "results"

RESNET, RES2NET = "resnet50", "res2net50_26w_4s"
ON_RES2NET = ("mta", "tea")
# C2D-TConv is r2plus1d_conv under another name, and TANet-R costs what TANet does.
LEFT_OUT = ("c2d_tconv", "tam_reverse")
CLASSES, FRAMES, SIZE_PX = 174, 8, 224

FORMS = ("authors", "eager-32", "fused-32", "fused-bf16")
ALIASES = {"tanet_resnet50": "tam_resnet50"}


def filled(text: str) -> str:
    """Returns the page with its tables regenerated."""
    place = r"(<!-- module_tables.py: (\w+) -->\n).*?(<!-- end -->)"
    return re.sub(place, lambda m: f"{m[1]}{TABLES[m[2]]()}\n{m[3]}", text, flags=re.DOTALL)


def modules() -> str:
    """Table of the position, cost and temporal receptive field of every family."""
    lines = [
        "| family | place | parameters (more) | GMACs (more) | sees | causal |",
        "| --- | --- | ---: | ---: | --- | --- |",
    ]
    for family in _families():
        cost, plain = _counted(family)
        lines.append(
            f"| `{family}` | {_places(family)} "
            f"| {cost.params:,} ({cost.params - plain.params:+,}) "
            f"| {cost.macs / 1e9:.2f} ({(cost.macs - plain.macs) / 1e9:+.2f}) "
            f"| {_reach(family, causal=False)} | {_reach(family, causal=True)} |"
        )
    return "\n".join(lines)


def cost() -> str:
    """Table of added cost and measured times relative to the plain backbone."""
    ratios = measured_ratios()
    measured = {name for name, _ in ratios}
    lines = [
        "| family | adds | " + " | ".join(FORMS) + " |",
        "| --- | --- |" + " ---: |" * len(FORMS),
    ]
    for family in (family for family in _families() if _model(family) in measured):
        cost, plain = _counted(family)
        params, macs = (cost.params - plain.params) / 1e6, (cost.macs - plain.macs) / 1e9
        times = (_two_digits(ratios.get((_model(family), form))) for form in FORMS)
        lines.append(f"| `{family}` | {params:+.2f} M, {macs:+.2f} G | {' | '.join(times)} |")
    return "\n".join(lines)


def operators() -> str:
    """Table of the smallest and largest ratio of each operator over the sizes of a ResNet-50."""
    rows = json.loads((RESULTS / "operators_cpu.json").read_text(encoding="utf-8"))["rows"]
    lines = [
        "| operator | float32 | float32, authors | bfloat16 | bfloat16, authors |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for operator in dict.fromkeys(row["operator"] for row in rows):
        cells = []
        for precision in ("32", "bf16"):
            same = [r for r in rows if (r["operator"], r["precision"]) == (operator, precision)]
            cells += [_span([row[key] for row in same]) for key in ("ratio", "authors")]
        lines.append(f"| {operator} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


# Channels and side of the 3 x 3 convolutions of res3, taps, and share t of temporal channels.
C, SIDE_PX, K, SHARE = 128, 28, 3, 0.25


@dataclass(frozen=True)
class OperatorRow:
    """Operator with the weights of its printed formula, and its cost for a clip as built."""

    name: str
    source: str
    formula: str
    printed: int | None  # weights by the formula
    params: int
    macs: int


def operator_rows() -> list[OperatorRow]:
    """The operators of TEINet's section 3.2 and GTE's table 1, and CTI."""
    both, gte = "TEINet, section 3.2; GTE, table 1", "GTE, table 1"
    dense, t = K * K * C * C, SHARE
    printed: list[tuple[str, str, str, str, float | None]] = [
        ("2D convolution", "", gte, "k_H k_W C_i C_o", dense),
        ("3D convolution", "c3d", both, "k_T k_H k_W C_i C_o", K * dense),
        ("GST", "gst", gte, "(1 - t + t k_T) k_H k_W C_i C_o / 2", (1 - t + t * K) * dense / 2),
        ("GTE", "gte", gte, "(k_H k_W + t k_T) C_i C_o / 2", (K * K + t * K) * C * C / 2),
        ("dense temporal convolution", "tconv", "TEINet, section 3.2", "C_o C_i k_T", K * C * C),
        ("TIM", "tim", "TEINet, section 3.2", "C_o k_T", K * C),
        ("CTI", "cti", "TSI, eq. 8-10", "", None),
    ]
    rows = []
    for name, module, source, formula, weights in printed:
        operator = _operator(module)
        params = sum(p.numel() for p in operator.parameters())
        by_formula = None if weights is None else round(weights)
        rows.append(OperatorRow(name, source, formula, by_formula, params, _macs(operator)))
    return rows


def _operator(module: str) -> nn.Module:
    """A temporal module, or the 2D convolution that modules replace, without numbers."""
    with shapes_only():
        conv = nn.Conv2d(C, C, K, padding=K // 2, bias=False)
        if not module:
            return conv
        build: Callable[..., TemporalModule] = temporal_named(module).module
        return build(conv if takes_conv(temporal_named(module).module) else C, frames=FRAMES)


def _macs(operator: nn.Module) -> int:
    """Multiply-accumulates for the frames of one clip, as in `count_cost`."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        operator.eval()(torch.empty(FRAMES, C, SIDE_PX, SIDE_PX, device="meta"))
    return counter.get_total_flops() // 2


def formulas() -> str:
    """Table of the weights of operators by the papers' formulas, and of their cost as counted."""
    lines = [
        "| operator | formula | printed in | weights by it | weights | GMACs |",
        "| --- | --- | --- | ---: | ---: | ---: |",
    ]
    for row in operator_rows():
        formula = f"`{row.formula}`" if row.formula else "none printed"
        by_it = "" if row.printed is None else f"{row.printed:,}"
        lines.append(
            f"| {row.name} | {formula} | {row.source} | {by_it} | {row.params:,} "
            f"| {row.macs / 1e9:.4f} |"
        )
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "modules": modules,
    "cost": cost,
    "formulas": formulas,
    "operators": operators,
}


def measured_ratios() -> dict[tuple[str, str], float]:
    """CPU time relative to the plain backbone, by network and form."""
    found: dict[tuple[str, str], float] = {}
    for path in sorted(RESULTS.glob("model*_cpu.json"), reverse=True):
        for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
            found[ALIASES.get(row["model"], row["model"]), row["form"]] = row["ratio"]
    return found


def _counted(family: str) -> tuple[Cost, Cost]:
    """Costs of a family's network and of its plain backbone for one clip."""
    return _cost(_model(family)), _cost(f"tsn_{_backbone(family)}")


@cache
def _cost(name: str) -> Cost:
    return _network(name).cost(SIZE_PX)


def _network(name: str, *, causal: bool = False) -> Any:
    with shapes_only():  # counting needs no weights
        return create_model(name, classes=CLASSES, frames=FRAMES, causal=causal)


def _families() -> Iterator[str]:
    return (family for family in FAMILIES if family not in LEFT_OUT)


def _backbone(family: str) -> str:
    return RES2NET if family in ON_RES2NET else RESNET


def _model(family: str) -> str:
    return f"{family}_{_backbone(family)}"


def _places(family: str) -> str:
    sites = _counted(family)[0].sites
    # Relations of frames stand at no site of the backbone but in the head.
    positions = dict.fromkeys((s.place.split()[1] if s.place else "head") for s in sites)
    return ", ".join(positions) or "none"


def _reach(family: str, *, causal: bool) -> str:
    """Largest look back and look ahead of each kind of module, such as "0, 1; 1, 1"."""
    try:
        net = _network(_model(family), causal=causal)
    except ValueError:
        return "no form"
    kinds: dict[str, list[TemporalModule]] = {}
    for _, module in net.temporal_modules():
        kinds.setdefault(type(module).__name__, []).append(module)
    if not kinds:
        return "0" if causal else "0, 0"
    return "; ".join(_seen(group, causal=causal) for group in kinds.values())


def _seen(group: list[TemporalModule], *, causal: bool) -> str:
    back = _largest([module.look_back for module in group])
    return back if causal else f"{back}, {_largest([module.look_ahead for module in group])}"


def _largest(numbers: list[int | None]) -> str:
    known = [number for number in numbers if number is not None]
    return "all" if len(known) < len(numbers) else str(max(known))


def _two_digits(number: float | None) -> str:
    return "" if number is None else f"{number:.2f}"


def _span(numbers: list[float]) -> str:
    return f"{min(numbers):.2g} to {max(numbers):.2g}"


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
