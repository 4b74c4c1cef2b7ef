"""Verdicts follow from the numbers, and the tables of facts hang together."""

from itertools import pairwise

import pytest

from kinema.errors import UnknownNameError
from kinema.models.families import ALIASES
from kinema.models.zoo import list_models
from kinema.report.papers import (
    GIGA,
    MILLION,
    Comparison,
    Figure,
    compare,
    count_met,
    verdict,
)
from kinema.report.published import CountingRule, Published, open_points, published_rows


@pytest.mark.parametrize(
    ("published", "counted", "text"),
    [
        ("24.3M", 24.328, "met"),
        ("24.3M", 24.349, "met"),
        ("24.3M", 24.25, "met"),  # a half is rounded up
        ("24.3M", 24.35, "0.2 % high"),
        ("24.3M", 24.367, "0.3 % high"),
        ("19.3M", 19.149, "0.8 % low"),
        ("33", 32.5, "met"),
        ("33", 33.5, "1.5 % high"),
        ("34", 34.845, "2.5 % high"),
        ("66", 65.499, "0.8 % low"),
        ("28.10M", 28.1, "met"),
        ("62.55", 62.541, "0.01 % low"),
        ("33", 65.4, "98.2 % high"),
    ],
)
def test_a_figure_is_met_when_the_count_rounds_to_it(published, counted, text):
    assert verdict(published, counted) == text


def test_a_figure_compares_in_the_unit_of_its_print():
    figure = Figure("24.3M", 24_327_632, MILLION)
    assert figure.met
    assert figure.in_units == 24.327632
    assert figure.difference == pytest.approx(27_632 / 24_300_000)
    low = Figure("29.5", 29_004_300_000, GIGA)
    assert (low.met, low.verdict) == (False, "1.7 % low")
    assert low.difference == pytest.approx(-0.0168, abs=1e-4)


def test_nothing_is_said_about_a_figure_that_no_paper_prints():
    figure = Figure(None, 24_043_218, MILLION)
    assert (figure.difference, figure.verdict, figure.met) == (None, None, False)


def test_a_pattern_selects_rows_and_points():
    assert {row.model for row in published_rows("tsn*")} == {"tsn_resnet50"}
    assert [point.number for point in open_points("gte_*")] == [7, 8]
    assert [point.number for point in open_points("tea_*")] == [5, 6, 22]
    assert "init=part_shift" in open_points("mta_*")[-1].decision
    assert open_points("tsn*") == []
    with pytest.raises(UnknownNameError, match="'tsm_resnet51'. Did you mean 'tsm_resnet50'?"):
        published_rows("tsm_resnet51")


def test_the_facts_name_networks_that_exist():
    known = set(list_models())
    known |= {f"{alias}_resnet50" for alias in ALIASES}
    assert {row.model for row in published_rows()} <= known
    assert {model for point in open_points() for model in point.models} <= known


def test_open_points_are_numbered_in_order():
    numbers = [point.number for point in open_points()]
    assert all(later == earlier + 1 for earlier, later in pairwise([0, *numbers]))


def test_other_readings_say_what_they_are():
    assert all(row.note and row.options for row in published_rows() if not row.ours)


def small(model: str = "tsn_resnet18", **given) -> Published:
    row = {"model": model, "frames": 2, "params": "11.7M", "gflops": "1", "source": "test"}
    return Published(**{**row, "classes": 5, "size_px": 32, **given})


def by_rule(row: Published) -> float:
    (comparison,) = compare([row])
    assert comparison.by_rule is not None
    return comparison.by_rule.counted - comparison.gflops.counted


def test_norms_count_for_every_element():
    once, twice = (by_rule(small(rule=CountingRule("", norms=n))) for n in (1, 2))
    # 16 x 16 behind the stem, then 8 x 8 and half of it in each stage; two blocks of two norms,
    # and one in front of every stage but the first.
    frame = 64 * 16**2 + 64 * 8**2 * 4 + 128 * 4**2 * 5 + 256 * 2**2 * 5 + 512 * 1 * 5
    assert (once, twice) == (2 * frame, 4 * frame)


def test_linear_layers_and_biases_can_count_more():
    assert by_rule(small(rule=CountingRule("", linear=2))) == 2 * 512 * 5
    assert by_rule(small(rule=CountingRule("", biases=1))) == 0
    blocks = small("nl_resnet18", rule=CountingRule("", biases=1))
    # 1.5 C for the three projections and C for the output; C at 4 x 4 and 2 x 2 pixels, one block
    # in each of the two stages.
    assert by_rule(blocks) == 2 * 2.5 * (128 * 4**2 + 256 * 2**2)


def test_products_can_be_left_out():
    half, none, without = compare(
        [
            small("tsi_test_resnet", rule=CountingRule("", products=0.5)),
            small("tsi_test_resnet", rule=CountingRule("", products=0)),
            small("tsi_test_resnet", options={"alignment": False}),
        ]
    )
    assert half.by_rule is not None
    assert none.by_rule is not None
    assert none.by_rule.counted == without.gflops.counted
    assert half.by_rule.counted == (none.by_rule.counted + none.gflops.counted) / 2


def test_the_same_network_is_counted_once(monkeypatch):
    from kinema.report import papers

    built = []
    real = papers.create_model

    def counting(name, **options):
        built.append(name)
        return real(name, **options)

    monkeypatch.setattr(papers, "create_model", counting)
    steps = []
    first, second, longer = compare(
        [small(), small(gflops="9", source="another"), small(frames=4)],
        lambda done, total: steps.append((done, total)),
    )
    assert built == ["tsn_resnet18"] * 2
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert first.gflops.counted == second.gflops.counted
    assert longer.gflops.counted == 2 * first.gflops.counted
    assert (first.gflops.published, second.gflops.published) == ("1", "9")
    assert first.by_rule is None


def test_a_multiple_of_another_network_is_counted():
    plain = small(gflops=None, params=None)
    row = small("nl_resnet18", ratio="2.0", ratio_to=plain.model, gflops=None, params=None)
    blocks, alone = compare([row, plain])
    assert alone.ratio is None
    assert blocks.ratio.in_units == blocks.gflops.counted / alone.gflops.counted > 1
    assert blocks.ratio.published == "2.0"
    assert count_met([blocks, alone]) == (int(blocks.ratio.met), 0, 1)


def test_gtes_formula_is_counted_by_hand():
    """Table 1: (9 + 3t) C^2 / 2 weights instead of 9 C^2 in the 16 blocks, t = 1/4."""
    (row,) = [row for row in published_rows("gte_*") if row.source == "GTE, table 1"]
    plain, squares = 23_864_558, 3 * 64**2 + 4 * 128**2 + 6 * 256**2 + 3 * 512**2
    formula = plain - 9 * squares + (9 + 3 / 4) / 2 * squares
    assert row.params == f"{formula / 1e6:.2f}M" == "18.68M"
    (compared,) = compare([row])
    assert (compared.params.counted, compared.params.verdict) == (17_970_158, "3.8 % low")


def test_tsis_multiple_of_resnet():
    (row,) = [row for row in published_rows("tsi_*") if row.ratio]
    assert (row.ratio, row.ratio_to, row.source) == ("1.03", "tsn_resnet50", "TSI, section 1")
    (compared,) = compare([row])
    assert compared.ratio.verdict == "3.4 % high"


def test_the_summary_counts_printed_figures_of_our_readings():
    def row(params, gflops, other=None, *, ours=True) -> Comparison:
        return Comparison(
            row=small(params=params, gflops=gflops, ours=ours),
            params=Figure(params, 24_328_000, MILLION),
            gflops=Figure(gflops, 42_713_000_000, GIGA),
            by_rule=None if other is None else Figure(gflops, other, GIGA),
        )

    rows = [
        row("24.33M", "43"),
        row("24.33M", "42.95", 42_952_000_000),
        row(None, "42.95", 42_900_000_000),
        row("24.3M", None),
        row("24.3M", "43", ours=False),
        row(None, None),
    ]
    assert count_met(rows) == (4, 1, 6)
