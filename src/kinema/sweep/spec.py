"""Sweep file: variants of one recipe, their seeds, and the sets to test on.

title = "Which parts of TEINet matter?"
recipe = "motion.toml"          # relative to this file
seeds = [0, 1, 2]

[motion]                        # optional: a synthetic motion set to render and train on
camera = 0.15

[variants]                      # settings to change, as on the command line of `kinema train`
MEM = ["model.temporal=mem"]
TIM = ["model.temporal=tim"]

[tests.strong_camera]           # optional: further sets to test on, changes of [motion]
camera = 1.0
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from kinema.errors import OptionError, RecipeError
from kinema.synthetic.motion_set import MotionSettings
from kinema.train.recipe import Recipe, find_recipe, load_recipe, read_toml
from kinema.train.recipe_errors import explain
from kinema.train.settings import Section

MAIN_TEST = "val"  # the validation set of the recipe


class Quoted(Section):
    """A paper's numbers for rows of the sweep, usually on another data set.

    Attributes:
        source: Paper, table and data set.
        top1: Accuracy in percent, by variant.
    """

    source: str
    top1: dict[str, float]


class SweepFile(Section):
    """The keys of a sweep file.

    Attributes:
        title: Question that the sweep answers; heading of table and plot.
        recipe: Recipe file, relative to the sweep file.
        seeds: Random seeds; every variant is trained once with each.
        variants: Settings of each variant, by name.
        motion: Settings of a motion set to render; by default the recipe names the videos.
        tests: Additional test sets by name, as changes of `motion`.
        axis: Horizontal axis of the plot: names, or a cost of the network.
        quoted: A paper's numbers for the same rows, if any.
    """

    title: str
    recipe: Path
    seeds: tuple[int, ...] = (0,)
    variants: dict[str, list[str]]
    motion: dict[str, Any] | None = None
    tests: dict[str, dict[str, Any]] = Field(default={})
    axis: Literal["names", "GMACs", "parameters"] = "names"
    quoted: Quoted | None = None

    @model_validator(mode="after")
    def _has_work(self) -> Self:
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError("seeds must be different whole numbers from 0 on, at least one")
        if not self.variants:
            raise ValueError("a sweep needs at least one variant")
        for name in (*self.variants, *self.tests):
            if Path(name).name != name or name != name.strip() or name.startswith("."):
                raise ValueError(
                    f"{name!r} must be usable as a folder name: no slashes, no leading dot"
                )
        if self.quoted is not None and (other := set(self.quoted.top1) - set(self.variants)):
            raise ValueError(f"quoted numbers are for variants; there is no {min(other)!r}")
        if self.tests and self.motion is None:
            raise ValueError("tests are changes of [motion], which is missing")
        if MAIN_TEST in self.tests:
            raise ValueError(f"the test {MAIN_TEST!r} is the recipe's own validation set")
        return self


@dataclass(frozen=True)
class TestSet:
    """Labeled videos to test on; the class names are those of training."""

    annotations: Path
    root: Path


@dataclass(frozen=True)
class Cell:
    """One training of a sweep.

    Attributes:
        variant: Name of the variant.
        seed: Seed of the training.
        recipe: Its full settings.
        run: Run folder.
        tests: Additional test sets, by name.
    """

    variant: str
    seed: int
    recipe: Recipe
    run: Path
    tests: Mapping[str, TestSet]

    @property
    def name(self) -> str:
        """Such as "TSM, seed 0"."""
        return f"{self.variant}, seed {self.seed}"


@dataclass(frozen=True)
class Sweep:
    """A checked sweep.

    Attributes:
        spec: The keys of the file.
        source: The file.
        out: Folder for everything.
        motion: Motion sets to render, by folder.
        cells: The trainings, all variants of the first seed first.
    """

    spec: SweepFile
    source: Path
    out: Path
    motion: Mapping[Path, MotionSettings]
    cells: tuple[Cell, ...]


def load_sweep(
    path: str | Path,
    *,
    out: str | Path,
    overrides: Sequence[str] = (),
    recipe: str | Path | None = None,
) -> Sweep:
    """Reads a sweep file and builds the recipe of every cell, so that errors show early.

    Args:
        path: Sweep file (TOML); recipes/sweeps/NAME.toml may be one of the package.
        out: Folder of the sweep.
        overrides: Settings for all variants, such as `train.epochs=2`; a variant's own take
            precedence.
        recipe: Another recipe to vary, with its own videos; the file's [motion] and [tests] are
            then ignored.

    Raises:
        RecipeError: no such file, an unknown key or a wrong value, in the sweep or in the recipe
            of a variant.
        OptionError: settings of a motion set that are out of range.
    """
    path, out = Path(path), Path(out)
    file = find_recipe(path, "sweep")
    spec = _read(file)
    base = file.parent / spec.recipe
    if recipe is not None:
        base, spec = Path(recipe), spec.model_copy(update={"motion": None, "tests": {}})
    sets = _motion_sets(spec, path, out)
    videos = out / "videos"
    data = [] if spec.motion is None else _data_of(videos / MAIN_TEST)
    tests = {n: TestSet(videos / n / "val.csv", videos / n / "videos") for n in spec.tests}
    _check_seeds(path, overrides, spec)
    cells = [
        Cell(
            variant=variant,
            seed=seed,
            recipe=_recipe(base, [*data, *overrides, *words, f"train.seed={seed}"], path, variant),
            run=out / "runs" / variant / f"seed{seed}",
            tests=tests,
        )
        for seed in spec.seeds
        for variant, words in spec.variants.items()
    ]
    return Sweep(spec, path, out, sets, tuple(cells))


def _check_seeds(path: Path, overrides: Sequence[str], spec: SweepFile) -> None:
    for word in (*overrides, *chain(*spec.variants.values())):
        if word.partition("=")[0].strip() == "train.seed":
            raise RecipeError(f"{path}: set the seeds of a sweep in its `seeds`, not in {word}.")


def _recipe(base: Path, words: Sequence[str], path: Path, variant: str) -> Recipe:
    try:
        recipe = load_recipe(base, words)
    except RecipeError as error:
        raise RecipeError(f"{path}, variant {variant!r}: {error}") from error
    if recipe.train.keep == "best":
        raise RecipeError(
            f'{path}, variant {variant!r}: train.keep is "best", but the network of the last epoch '
            'is tested. Set it to "last" or "both".'
        )
    return recipe


def _read(path: Path) -> SweepFile:
    data, origin = read_toml(path)
    try:
        return SweepFile.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        raise RecipeError(explain(error, SweepFile, data, origin)) from error


def _motion_sets(spec: SweepFile, path: Path, out: Path) -> dict[Path, MotionSettings]:
    if spec.motion is None:
        return {}
    tables = {MAIN_TEST: spec.motion}
    for name, changes in spec.tests.items():
        # One training video per class, since the set is only tested on.
        tables[name] = {**spec.motion, "train_per_class": 1, **changes}
    try:
        return {out / "videos" / name: MotionSettings(**t) for name, t in tables.items()}
    except TypeError as error:
        raise OptionError(f"{path}: [motion] or [tests]: {error}.") from error


def _data_of(folder: Path) -> list[str]:
    return [
        f"data.train={folder / 'train.csv'}",
        f"data.val={folder / 'val.csv'}",
        f"data.root={folder / 'videos'}",
        f"data.classes={folder / 'classes.txt'}",
    ]
