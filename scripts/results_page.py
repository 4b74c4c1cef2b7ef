"""Writes docs/results.md and its plots from the sweeps in benchmarks/studies/.

Run it after a study: `python scripts/results_page.py`. A test compares the page with what this
makes.
"""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kinema.data.mirrored_names import mirror_map
from kinema.evaluation.metrics import group_accuracy
from kinema.report.sweeps import accuracy, draw_sweep
from kinema.sweep.spec import MAIN_TEST, load_sweep
from kinema.sweep.summary import read_summary
from kinema.synthetic.motion import MOTION_CLASSES, REVERSED_PAIRS

ROOT = Path(__file__).resolve().parents[1]
STUDIES = ROOT / "benchmarks" / "studies"
SWEEPS = ROOT / "src" / "kinema" / "recipes" / "sweeps"
TARGET = ROOT / "docs" / "results.md"
FIGURES = ROOT / "docs" / "figures"

HEAD = """# Results

Made by `python scripts/results_page.py` from the files in `benchmarks/studies/`, which hold every
seed's numbers, confusion matrix, settings, versions and machine. Accuracies are top-1 of the last
epoch's network on the validation videos (one clip, center crop), mean and sample deviation over
the seeds. **Quoted** numbers are printed in the papers, on other data and larger backbones: compare
their order, not their size.
"""

# What the papers claim of a network, and the two test sets that tell: (question, network, easy
# set, hard set). TSI's pyramid is that of its cross-scale integration.
CLAIMS = (
    ("Does alignment help when the camera moves?", "TSI", "still camera", "moving camera"),
    ("Do kernels made from the clip help when speeds vary?", "TANet", "one speed", "many speeds"),
    ("Does a pyramid help when scales vary?", "TSI", "one scale", "many scales"),
)
REFERENCE = "TSM"


def page() -> str:
    """The whole page."""
    return "\n\n".join([HEAD.strip(), _times(), *(_section(path) for path in _studies())]) + "\n"


def draw() -> None:
    """The plot of every study."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    for path in _studies():
        draw_sweep(read_summary(path), FIGURES / f"study_{path.stem}.png")


def _studies() -> list[Path]:
    return sorted(STUDIES.glob("*.json"))


def _times() -> str:
    """How long every study of recipes/sweeps takes, finished or not."""
    lines = [["study", "trainings", "hours of one core", "from"], ["---", "---:", "---:", "---"]]
    for file in sorted(SWEEPS.glob("*.toml")):
        sweep = load_sweep(file, out=ROOT / "runs" / file.stem)
        measured = STUDIES / f"{file.stem}.json"
        similar = STUDIES / f"{'motion_networks' if sweep.motion else 'cameramotion8'}.json"
        source = measured if measured.is_file() else similar
        one = statistics.fmean(cell["train_s"] for cell in read_summary(source)["cells"]) / 3600
        lines.append(
            [
                f"`make study-{file.stem}`",
                str(len(sweep.cells)),
                f"{one * len(sweep.cells):.0f}",
                "its trainings" if measured.is_file() else f"those of {similar.stem}",
            ]
        )
    return (
        "Every study is one command, which goes on where it was stopped; `JOBS=2`, its default, "
        "trains two networks at once. `OPTIONS='--known benchmarks/studies/NAME.json'` trains only "
        "what that file lacks. The hours are the wall time of the trainings so far, or of similar "
        "ones, times their number; some waited for other work on the machine, so they are high:"
        f"\n\n{_markdown(lines)}"
    )


def _section(path: Path) -> str:
    study = read_summary(path)
    data, train = study["recipe"]["data"], study["recipe"]["train"]
    where = _set_of(study, data)
    seeds = len(study["seeds"])
    planned = seeds * len(study["variants"])
    missing = planned - len(study["cells"])
    hours = sum(cell["train_s"] for cell in study["cells"]) / 3600
    machines = "; ".join(dict.fromkeys(_machine(fact) for fact in study["facts"]))
    parts = [
        f"## {study['title']}",
        f"`kinema sweep recipes/sweeps/{path.stem}.toml`: {where}, {train['epochs']} epochs, "
        f"{seeds} {'seeds' if seeds > 1 else 'seed'}, {hours:.1f} hours of training on {machines}."
        + (f" **Not finished: {missing} of {planned} trainings are missing.**" if missing else ""),
        _table(study),
        *_settings(study),
        *_claims(study),
        f"By class, mean over the seeds, in %:\n\n{_class_table(study)}",
        f"![top-1 of every network](figures/study_{path.stem}.png)",
    ]
    if study.get("quoted"):
        parts.insert(3, f"Quoted from {study['quoted']['source']}.")
    return "\n\n".join(parts)


def _set_of(study: dict[str, Any], data: dict[str, Any]) -> str:
    videos = study["cells"][0]["tests"][MAIN_TEST]["videos"]
    if study["motion"] is not None:
        return f"synthetic motion set, {videos} validation videos"
    return f"{Path(data['train']).parent.name}, {videos} validation videos"


def _machine(fact: dict[str, Any]) -> str:
    machine = fact["machine"]
    gpus = ", " + ", ".join(machine["gpus"]) if machine["gpus"] else ""
    return f"{machine['cpu']} ({machine['cores']} cores{gpus}), PyTorch {fact['versions']['torch']}"


def _table(study: dict[str, Any]) -> str:
    tests = list(study["rows"][0]["tests"])
    groups = _groups(study["cells"][0]["tests"][MAIN_TEST]["classes"])
    quoted = study.get("quoted")
    head = [
        "network",
        "parameters",
        "GMACs",
        "minutes",
        *("top-1" if t == MAIN_TEST else t for t in tests),
    ]
    head += [groups[0]] if groups else []
    head += ["quoted"] if quoted else []
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for row in study["rows"]:
        cells = [cell for cell in study["cells"] if cell["variant"] == row["variant"]]
        line = [
            row["variant"],
            f"{row['params'] / 1e6:.2f} M",
            f"{row['macs'] / 1e9:.2f}",
            f"{row['train_s'] / 60:.0f}",
            *(accuracy(row["tests"][test]) for test in tests),
        ]
        line += [_group_accuracy(cells, groups[1])] if groups else []
        line += [_quoted(quoted["top1"], row["variant"])] if quoted else []
        lines.append(line)
    return _markdown(lines)


def _settings(study: dict[str, Any]) -> list[str]:
    """What the variants in the table set beside the network's name."""
    shown = [row["variant"] for row in study["rows"]]
    words = {
        variant: [w for w in study["variants"][variant] if w.startswith(("model.at", "model.opt"))]
        for variant in shown
    }
    said = [
        f"{variant}: {', '.join(f'`{w}`' for w in words[variant])}"
        for variant in shown
        if words[variant]
    ]
    return [f"Set beside the network: {'; '.join(said)}."] if said else []


def _claims(study: dict[str, Any]) -> list[str]:
    """What every network loses where the papers say that one loses less; nothing without tests."""
    said = [line for claim in CLAIMS if (line := _claim(study, *claim))]
    if not said:
        return []
    head = (
        f"The papers' claims, as points lost from the easier to the harder test set, against "
        f"{REFERENCE}; a claim shows where the difference is larger than its deviation over the "
        "seeds and than one point:"
    )
    return [head + "\n\n" + "\n".join(f"- {line}" for line in said)]


def _claim(study: dict[str, Any], question: str, network: str, easy: str, hard: str) -> str | None:
    losses = {
        name: {
            cell["seed"]: 100 * (cell["tests"][easy]["top1"] - cell["tests"][hard]["top1"])
            for cell in study["cells"]
            if cell["variant"] == name and easy in cell["tests"]
        }
        for name in (network, REFERENCE)
    }
    seeds = losses[network].keys() & losses[REFERENCE].keys()
    if not seeds:
        return None
    own, other = (statistics.fmean(losses[n][s] for s in seeds) for n in (network, REFERENCE))
    gains = [losses[REFERENCE][seed] - losses[network][seed] for seed in seeds]
    numbers = f"{network} loses {own:.1f} points, {REFERENCE} {other:.1f}"
    if len(gains) < 2:
        return f"{question} {numbers} (one seed)."
    deviation = statistics.stdev(gains)
    shows = statistics.fmean(gains) > max(1.0, deviation)
    return (
        f"{question} {numbers}: {statistics.fmean(gains):.1f} ± {deviation:.1f} points less. "
        f"{'It shows' if shows else 'It does not show'}."
    )


def _class_table(study: dict[str, Any]) -> str:
    """A row for every class, a column for every network."""
    variants = [row["variant"] for row in study["rows"]]
    means = [_class_means(study, variant) for variant in variants]
    lines = [["class", *variants], ["---", *["---:"] * len(variants)]]
    for label, name in enumerate(study["cells"][0]["tests"][MAIN_TEST]["classes"]):
        lines.append([name, *(f"{100 * mean[label]:.0f}" for mean in means)])
    return _markdown(lines)


def _class_means(study: dict[str, Any], variant: str) -> list[float]:
    confusions = [
        np.array(cell["tests"][MAIN_TEST]["confusion"])
        for cell in study["cells"]
        if cell["variant"] == variant
    ]
    shares = [c.diagonal() / np.maximum(1, c.sum(axis=1)) for c in confusions]
    return [float(share) for share in np.mean(shares, axis=0)]


def _markdown(lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _quoted(top1: dict[str, float], variant: str) -> str:
    return f"{top1[variant]:.1f} %" if variant in top1 else "-"


def _groups(class_names: Sequence[str]) -> tuple[str, list[int]] | None:
    """Classes that differ only in the direction of motion or of time, as numbers of groups."""
    if tuple(class_names) == MOTION_CLASSES:
        pair = {name: number for number, names in enumerate(REVERSED_PAIRS) for name in names}
        return "right but for the direction of time", [pair[name] for name in class_names]
    mirrored = mirror_map(class_names)
    if all(other in (label, None) for label, other in mirrored.items()):
        return None
    return "right but for left and right", [
        label if (other := mirrored[label]) is None else min(label, other)
        for label in range(len(class_names))
    ]


def _group_accuracy(cells: Iterable[dict[str, Any]], groups: Sequence[int]) -> str:
    shares = [group_accuracy(np.array(c["tests"][MAIN_TEST]["confusion"]), groups) for c in cells]
    deviation = statistics.stdev(shares) if len(shares) > 1 else None
    return accuracy({"top1": statistics.fmean(shares), "deviation": deviation})


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
    draw()
