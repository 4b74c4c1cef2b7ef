"""Sweeps of the package: their quoted rows are the papers', and variants train two steps.

Those of the page of the papers' tables run in test_papers_page_runs.py; of others with the same
recipe and variants one is trained.
"""

import tomllib

import pytest

from kinema.sweep.spec import load_sweep
from kinema.train.loop import train

from ..docs.pages import Page
from ..sweep_results import SWEEPS

PAGE = Page("docs/reference/papers.md").text
OTHERS = {
    (spec["recipe"], str(spec["variants"])): path
    for path in sorted(SWEEPS.glob("*.toml"))
    if f"sweeps/{path.name} --out" not in PAGE and (spec := tomllib.loads(path.read_text("utf-8")))
}


@pytest.mark.slow
@pytest.mark.parametrize("path", OTHERS.values(), ids=lambda path: path.stem)
def test_every_variant_trains_two_steps(path, two_steps, tmp_path):
    sweep = load_sweep(path, out=tmp_path, overrides=two_steps)
    for cell in sweep.cells[: len(sweep.spec.variants)]:
        result = train(cell.recipe, out=tmp_path / cell.variant, quiet=True)
        assert 0 < result.history[0].loss < 10, cell.name


# Rows of the papers' tables: top-1 in percent, and the frames of every variant.
QUOTED = {
    "tea_parts": (
        {"TSN": 19.7, "TSM": 43.4, "STM": 47.5, "(2+1)D ResNet": 46.0, "(2+1)D Res2Net": 46.2}
        | {"ME": 48.4, "MTA": 47.5, "TEA": 48.9},
        {8},
    ),
    "tea_stages": ({"res2": 43.5, "res3": 45.3, "res4": 47.1, "res5": 46.7, "res2-5": 48.9}, {8}),
    "tea_transform": ({"none": 48.4, "next": 48.9}, {8}),
    "gte_ways": ({"3D convolution": 47.0, "LTS + 2D convolution": 48.1}, {8}),
    "tam_branches": ({"both": 76.1, "I3D": 74.3, "NL": 74.4}, {8}),
    "tsi_fusion": ({"sum": 51.2, "concat": 52.1, "cascade": 53.3}, {16}),
    "tam_kernel": (None, {8, 16}),
    "tam_styles": (None, {8}),
}


@pytest.mark.parametrize("name", QUOTED)
def test_quoted_rows_and_frames(name, tmp_path):
    sweep = load_sweep(f"recipes/sweeps/{name}.toml", out=tmp_path)
    top1, frames = QUOTED[name]
    assert (sweep.spec.quoted.top1 if sweep.spec.quoted else None) == top1
    assert {cell.recipe.model.frames for cell in sweep.cells} == frames


def test_tables_of_the_papers_have_their_variants(tmp_path):
    def cells(name):
        sweep = load_sweep(f"recipes/sweeps/{name}.toml", out=tmp_path)
        return {cell.variant: cell.recipe.model for cell in sweep.cells}

    assert {m.temporal for m in cells("tea_transform").values()} == {"tea"}
    assert [m.stages for m in cells("tea_stages").values()] == [(2,), (3,), (4,), (5,), None]
    assert [m.at for m in cells("tam_styles").values()] == ["a", "b", "c", "d"]
    assert {"tsm", "tei", "nl"} <= {m.temporal for m in cells("tam_branches").values()}
    kernels = {(m.frames, m.options["kernel"]) for m in cells("tam_kernel").values()}
    assert kernels == {(frames, k) for frames in (8, 16) for k in (3, 5, 7)}
