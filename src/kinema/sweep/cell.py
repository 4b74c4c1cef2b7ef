"""One cell of a sweep: trains or resumes, tests, and writes the result."""

import json
from typing import Any

import torch

from kinema.data.annotations import read_annotations
from kinema.data.dataset import VideoDataset
from kinema.errors import KinemaError, RecipeError
from kinema.evaluation.evaluate import evaluate
from kinema.models.saved import SavedModel, load_saved
from kinema.sweep.spec import MAIN_TEST, Cell, TestSet
from kinema.system.files import write_whole
from kinema.system.machine import run_facts
from kinema.train.loop import train
from kinema.train.recipe import Recipe
from kinema.train.run_folder import RunFolder, check_same_settings

RESULT_FILE = "result.json"


def read_result(cell: Cell) -> dict[str, Any] | None:
    """Result of a finished cell; None if it is not finished.

    Raises:
        RecipeError: the cell was trained with settings other than those of the sweep.
        KinemaError: its result file is damaged.
    """
    file = cell.run / RESULT_FILE
    if not file.is_file():
        return None
    check_same_settings(RunFolder(cell.run), cell.recipe)
    try:
        result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        finished = set(result["tests"]) == {MAIN_TEST, *cell.tests}
    except (ValueError, KeyError, TypeError) as error:
        raise KinemaError(
            f"{file} is damaged ({error}). Delete it: the network is then tested again."
        ) from error
    epochs = cell.recipe.train.epochs
    if result["epochs"] != epochs:
        raise RecipeError(
            f"{cell.run} was trained for {result['epochs']} epochs, not {epochs}. "
            "Set train.epochs as it was, or choose another folder for the sweep."
        )
    return result if finished else None


def run_cell(cell: Cell) -> dict[str, Any]:
    """Trains and tests one cell, or completes it.

    Tests the network of the last epoch, so that no test video influences its choice, in float32
    regardless of the precision of training.

    Raises:
        KinemaError: a setting does not fit, or a video cannot be read.
    """
    run = RunFolder(cell.run)
    trained = train(cell.recipe, out=run.path, resume=run.recipe.is_file())
    saved = load_saved(run.last)
    data = cell.recipe.data
    own = TestSet(data.val, data.val_folder)
    cost = saved.net.cost(size=saved.preprocessing.crop_px)
    result = {
        "variant": cell.variant,
        "seed": cell.seed,
        "model": saved.net.name,
        "params": cost.params,
        "macs": cost.macs,
        "epochs": trained.epochs,
        "train_s": round(trained.train_s, 1),
        "tests": {
            name: _test(saved, test, cell.recipe)
            for name, test in {MAIN_TEST: own, **cell.tests}.items()
        },
        **run_facts(),
    }
    write_whole(cell.run / RESULT_FILE, json.dumps(result, indent=2) + "\n")
    return result


def _test(saved: SavedModel, test: TestSet, recipe: Recipe) -> dict[str, Any]:
    data = recipe.data
    rows = read_annotations(
        test.annotations,
        format=data.format,
        root=test.root,
        classes=saved.labels,
        split=data.split,
        subset="test",
    )
    report = evaluate(
        saved.net,
        VideoDataset(rows, test.root, saved.preprocessing, index_cache=data.index_cache),
        views=recipe.evaluation.views,
        batch_views=recipe.evaluation.batch_views,
        workers=data.workers,
        unreadable=data.unreadable,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
    return {
        "top1": report.top1,
        "top5": report.top5,
        "mean_class": report.mean_class,
        "videos": report.videos,
        "skipped": len(report.skipped),
        "classes": list(report.class_names),
        "confusion": report.confusion.tolist(),
    }
