"""Writes docs/reference/networks.md: which network can be built on which backbone.

Run it after adding a family or a backbone: `python scripts/reference_tables.py`. A test compares
the file with what this makes.
"""

from pathlib import Path

import torch

from kinema.errors import KinemaError
from kinema.models.backbones import BACKBONES
from kinema.models.zoo import FAMILIES, create_model, list_models
from kinema.temporal import TemporalEntry, list_temporal, temporal_named

TARGET = Path(__file__).resolve().parents[1] / "docs" / "reference" / "networks.md"

# One of each further kind of block that has sites.
MORE_BACKBONES = ("efficientnet_b0", "tf_efficientnetv2_b0", "regnetx_004", "convnext_atto")

HEAD = """# Networks and backbones

Made by `python scripts/reference_tables.py`. A network is named `<family>_<backbone>`, such as
`tsm_resnet50`; `a+b_<backbone>` joins families. The tests run every pair with a tick; the others
are refused with the reason. Any timm CNN whose blocks are of one of these kinds can be named the
same way.
"""


def table() -> str:
    """The whole page."""
    parts = [HEAD, "## Families", _families(), "## Temporal modules", _modules()]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _families() -> str:
    backbones = (*BACKBONES, *MORE_BACKBONES)
    lines = [
        "| family | modules | " + " | ".join(b.replace("_", " ") for b in backbones) + " |",
        "| --- | --- |" + " :-: |" * len(backbones),
    ]
    for family, rows in FAMILIES.items():
        made = ", ".join(row.module for row in rows) or "none"
        ticks = " | ".join("✓" if _fits(family, b) else "-" for b in backbones)
        lines.append(f"| {family} | {made} | {ticks} |")
    return "\n".join(lines)


def _fits(family: str, backbone: str) -> bool:
    name = f"{family}_{backbone}"
    if backbone in BACKBONES:  # a test builds each of them, and sees that the others are refused
        return name in list_models()
    try:
        with torch.device("meta"):  # no weights are needed
            create_model(name, classes=2, frames=8)
    except KinemaError:
        return False
    return True


def _modules() -> str:
    lines = [
        "| module | position | options | what it is |",
        "| --- | --- | --- | --- |",
    ]
    for name in list_temporal():
        entry = temporal_named(name)
        places = " or ".join(f"`{p}`" for p in entry.positions({}))
        options = ", ".join(f"`{option}`" for option in entry.options)
        lines.append(f"| `{name}` | {places} | {options} | {_first_line(entry)} |")
    return "\n".join(lines)


def _first_line(entry: TemporalEntry) -> str:
    return (entry.module.__doc__ or "").strip().splitlines()[0].rstrip(".")


if __name__ == "__main__":
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(table(), encoding="utf-8")
