"""A results file of a sweep: the repository's own sweep files, made-up accuracies."""

from pathlib import Path

from kinema.sweep.spec import load_sweep
from kinema.sweep.summary import summarize, write_summary

SWEEPS = Path(__file__).resolve().parent.parent / "src" / "kinema" / "recipes" / "sweeps"
FACTS = {"versions": {}, "git_commit": None, "machine": {}}


def write_results(folder: Path, sweep: str) -> Path:
    """results.json of `recipes/sweeps/<sweep>.toml`.

    Top-1 of variant i with seed s is 0.5 + 0.05 i + 0.01 s; it has 10 + i million parameters and
    2 + i / 2 GMACs.
    """
    plan = load_sweep(SWEEPS / f"{sweep}.toml", out=folder)
    variants = list(plan.spec.variants)
    results = []
    for cell in plan.cells:
        number = variants.index(cell.variant)
        top1 = {"top1": 0.5 + 0.05 * number + 0.01 * cell.seed}
        result = {
            "variant": cell.variant,
            "seed": cell.seed,
            "model": f"{cell.recipe.model.temporal}_{cell.recipe.model.backbone}",
            "params": (10 + number) * 10**6,
            "macs": (2 * 10**9) + number * 5 * 10**8,
            "epochs": 1,
            "train_s": 60.0,
            "tests": dict.fromkeys(("val", *plan.spec.tests), top1),
        }
        results.append({**result, **FACTS})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    write_summary(summarize(plan, results), path)
    return path
