"""Writes the README's table of networks from the committed measurements and studies.

Run it after a benchmark or a study: `python scripts/readme_table.py`. A test checks that the
table is up to date.
"""

import json
from pathlib import Path
from typing import Any

import kinema

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "README.md"
BEGIN, END = "<!-- networks: python scripts/readme_table.py -->\n", "<!-- end of networks -->"
CLASSES, FRAMES, SIZE_PX = 174, 8, 224

# (name in the papers, network)
NETWORKS = (
    ("TSN", "tsn_resnet50"),
    ("TSM", "tsm_resnet50"),
    ("TIM", "tim_resnet50"),
    ("TEINet", "tei_resnet50"),
    ("TEA", "tea_res2net50_26w_4s"),
    ("GTE", "gte_resnet50"),
    ("TSI", "tsi_resnet50"),
    ("TANet", "tanet_resnet50"),
)
# (column, study)
STUDIES = (
    ("motion set", "motion_networks"),
    ("camera motion", "cameramotion8"),
    ("hand washing", "handwash12"),
)
HEAD = (
    "network", "parameters", "GMACs", "time, float32", "time, bfloat16",
    *(column for column, _ in STUDIES),
)  # fmt: skip


def table() -> str:
    """Returns the table in Markdown."""
    times = _times()
    accuracies = [_accuracies(study) for _, study in STUDIES]
    lines = [list(HEAD), ["---", *["---:"] * (len(HEAD) - 1)]]
    for name, network in NETWORKS:
        cost = kinema.create_model(network, classes=CLASSES, frames=FRAMES).cost(size=SIZE_PX)
        lines.append(
            [
                name,
                f"{cost.params / 1e6:.2f} M",
                f"{cost.macs / 1e9:.2f}",
                *(f"{times[network, form]:.2f}" for form in ("eager-32", "fused-bf16")),
                *(found.get(name, "-") for found in accuracies),
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def written(text: str) -> str:
    """Returns the README with an updated table."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table() + END + after


def _times() -> dict[tuple[str, str], float]:
    """Time relative to the plain backbone in the same form; later files take precedence."""
    found = {}
    for name in ("model_cpu", "model_tsi_cpu"):
        for row in _read(ROOT / "benchmarks" / "results" / f"{name}.json")["rows"]:
            found[row["model"], row["form"]] = row["ratio"]
    return found


def _accuracies(study: str) -> dict[str, str]:
    """Top-1 of the networks finished in the study, with the number of seeds."""
    file = ROOT / "benchmarks" / "studies" / f"{study}.json"
    if not file.is_file():
        return {}
    found = {}
    for row in _read(file)["rows"]:
        (main, *_) = row["tests"].values()
        found[row["variant"]] = f"{100 * main['top1']:.1f} % ({main['seeds']})"
    return found


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    TARGET.write_text(written(TARGET.read_text(encoding="utf-8")), encoding="utf-8")
