"""Writes docs/benchmarks.md and its figure from the measurements in benchmarks/results/.

Run it after adding a measurement: `python scripts/benchmark_tables.py`. A test compares the page
with what this makes.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
TARGET = ROOT / "docs" / "benchmarks.md"
FIGURE = ROOT / "docs" / "figures" / "accuracy_cost.png"

HEAD = """# Benchmarks

Made by `python scripts/benchmark_tables.py` from the files in `benchmarks/results/`, which hold
versions, commit and machine of every measurement. All forms of a table were timed in turns in one
process; medians count. Trust ratios: the machine was never quite quiet.
"""

TITLES = {
    "model": "Networks",
    "operators": "Operators along time",
    "decode": "Decoding eight frames",
    "video": "From a video file to its classes",
    "train": "Training step",
    "stream": "Frame by frame",
    "serve": "The service under load",
    "label": "Labeling an archive",
}

# Top-1 on Something-Something V1, 8 frames, one clip, center crop, as printed: TSN, TSM, TEINet and
# TSI in TSI's Table 1, TIM and CTI in its Table 4, TEA in TEA's Table 2, GTE in GTE's Table 2.
QUOTED_TOP1 = {
    "tsn_resnet50": 19.7,
    "tsm_resnet50": 45.6,
    "tim_resnet50": 46.1,
    "tei_resnet50": 47.4,
    "tea_res2net50_26w_4s": 48.9,
    "gte_resnet50": 48.1,
    "cti_resnet50": 48.4,
    "tsi_resnet50": 50.2,
}
FIGURE_FORM = "fused-bf16"
# Points beside the dot, where the usual place would cover a neighbor.
LABEL_PLACES = {"tsm_resnet50": (-32, -4)}


def page() -> str:
    """The whole page."""
    parts = [HEAD, *(_section(path) for path in sorted(RESULTS.glob("*.json")))]
    parts.append(_figure_section())
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def draw() -> None:
    """The figure: quoted accuracy against measured time."""
    rows = _figure_rows()
    figure = Figure(figsize=(7, 4.5), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for row in rows:
        x, y = row["ms"] / row["batch"], QUOTED_TOP1[row["model"]]
        axes.plot(x, y, "o", color="#1f6feb")
        name = row["model"].split("_", 1)[0].upper()
        place = LABEL_PLACES.get(row["model"], (6, -3))
        axes.annotate(name, (x, y), xytext=place, textcoords="offset points")
    axes.set_xlabel(f"measured time of one clip (ms, {FIGURE_FORM}, 8 frames at 224 px)")
    axes.set_ylabel("quoted top-1 on Something-Something V1 (%)")
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE)


def _section(path: Path) -> str:
    data = json.loads(path.read_text(encoding="utf-8"))
    machine, versions = data["machine"], data["versions"]
    where = f"{machine['cpu']}, {machine['threads']} threads, {machine['memory_gb']} GB"
    if machine["gpus"]:
        where += ", " + ", ".join(machine["gpus"])
    settings = ", ".join(
        f"{key.replace('_', ' ')} {_text(v)}" for key, v in data["settings"].items()
    )
    return "\n\n".join(
        [
            f"## {TITLES[data['kind']]} ({path.stem})",
            f"`{data['command']}`",
            f"{data['date']}, {where}, PyTorch {versions['torch']}. {settings}.",
            _table(data["rows"]),
            "\n".join(f"- {note}" for note in data["notes"]),
        ]
    )


def _table(rows: list[dict[str, Any]]) -> str:
    keys = list(rows[0])
    head = ["| " + " | ".join(key.replace("_", " ") for key in keys) + " |"]
    numbers = [any(isinstance(row[key], int | float) for row in rows) for key in keys]
    head.append("| " + " | ".join("---:" if number else "---" for number in numbers) + " |")
    return "\n".join([*head, *_lines(rows, keys)])


def _lines(rows: list[dict[str, Any]], keys: list[str]) -> Iterable[str]:
    for row in rows:
        yield "| " + " | ".join(_text(row.get(key)) for key in keys) + " |"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key} {part}" for key, part in value.items())
    return "-" if value is None else str(value)


def _figure_rows() -> list[dict[str, Any]]:
    """Of the newest measurement of each network in the form of the figure."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(RESULTS.glob("model*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        for row in data["rows"]:
            if row["form"] == FIGURE_FORM and row["model"] in QUOTED_TOP1:
                found[row["model"]] = {**row, "batch": data["settings"]["batch"]}
    return list(found.values())


def _figure_section() -> str:
    if not _figure_rows():
        return ""
    return (
        "## Accuracy and cost\n\nAccuracies are quoted from the papers (Something-Something V1, 8 "
        "frames, one clip, center\ncrop), times are measured here.\n\n"
        f"![quoted accuracy against measured time](figures/{FIGURE.name})"
    )


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
    draw()
