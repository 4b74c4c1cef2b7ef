"""The ledger of printed accuracies: numbers of the papers, and questions to it."""

import pytest
import torch

from kinema.errors import UnknownNameError
from kinema.models.zoo import create_model
from kinema.report.accuracies import Accuracy, printed_accuracies

# Read in the papers' text: source, row, frames, clips, crops, data set and split, top-1, top-5.
V1, V2, K400 = "something_v1", "something_v2", "kinetics400"
READ = [
    ("TEA supplement, table 1", "(2+1)D ResNet-Shift (Ours)", "8", 1, 1, V1, None, 46.0, 75.3),
    ("TEA supplement, table 1", "TSM", "8", 1, 1, V1, None, 43.4, 73.2),
    ("TEA supplement, table 2", "I3D (3D ResNet)", "32", 2, 3, V1, "val", 41.6, None),
    ("TEA supplement, table 2", "MTA (c in Figure 4)", "8", 1, 1, V1, "val", 47.5, None),
    ("TEA supplement, table 2", "TEA", "8", 1, 1, V1, "val", 48.9, None),
    ("TEA supplement, table 4", "STM", "16", 10, 3, V2, "test", 63.5, 89.6),
    ("TEA supplement, table 4", "TSM-RGB", "16", 2, 3, V2, "val", 59.4, 86.1),
    ("TEINet, table 1a", "Res50+MEM", None, 1, 1, V1, None, 33.5, 61.5),
    ("TEINet, table 1a", "Res50+MEM+TIM", None, 1, 1, V1, None, 47.4, 76.6),
    ("TEINet, table 2", "Res50+TIM", "16", None, None, V1, None, 48.5, None),
    ("TEINet, table 3", "TEINet-RGB", "16", 1, 1, V1, "val", 49.9, None),
    ("TEINet, table 4", "TEINet RGB_16f+8f", "16+8", None, None, V2, "test", 64.6, None),
    ("TEINet, table 5", "TEINet_16f", "16", 10, 3, K400, None, 76.2, 92.5),
    ("TEINet, table 6", "TEINet-RGB", "16", 10, 3, "hmdb51", "mean of 3 splits", 72.1, None),
    ("GTE, table 2", "GST", "8", None, None, V1, None, 47.0, 76.1),
    ("GTE, table 2", "GTE(ours)", "16", 1, 1, V1, None, 49.4, 78.9),
    ("GTE, table 3", "GTE(ours)", "8", 1, 1, V2, "val", 62.3, 87.8),
    ("GTE, table 4", "TSM(our impl.)", None, None, None, "diving48", None, 36.3, None),
    ("GTE, table 4", "GTE(ours)", "16", None, None, "diving48", None, 39.7, None),
    ("TSI, table 1", "TSM", "8", 1, 1, V1, None, 45.6, 74.2),
    ("TSI, table 1", "TSI", "16", 10, 3, V2, None, 66.1, 90.9),
    ("TSI, table 2", "TEA", "8", 10, 3, K400, None, 75, 91.8),
    ("TSI, table 3", "TSM", None, None, None, "ucf101", None, 96, None),
    ("TSI, table 4", "+ SME (w/o CA)", "8", 1, 1, V1, None, 47.5, 77.0),
    ("TSI, table 5", "Res50 + MTA", "8", 1, 1, V1, None, 47.5, 76.4),
    ("TSI, table 7", "TSI", "16", 1, 1, V1, None, 52.1, 81.0),
    ("TSI, table 8", "TSM", "8", 1, 1, V1, None, 43.4, None),
    ("TSI, table 8", "Res50 + CTI", "16", 1, 1, V1, None, 51.2, None),
    ("TAM, table 2, section 4.3", "TANet", "8", 10, 3, K400, "val", 76.1, None),
    ("TAM, table 2, section 4.3", "NL C2D", "8", 10, 3, K400, "val", 74.4, None),
]

COUNTS = {"tea": 38, "tei": 105, "gte": 23, "tsi": 96, "tam": 34}


@pytest.fixture(scope="module")
def ledger() -> list[Accuracy]:
    return printed_accuracies()


@pytest.mark.parametrize("read", READ, ids=lambda read: f"{read[0]} {read[1]}")
def test_rows_read_in_the_papers(ledger, read):
    keys = ("source", "method", "frames", "clips", "crops", "dataset", "split", "top1", "top5")
    found = [row for row in ledger if tuple(getattr(row, key) for key in keys) == read]
    assert len(found) == 1


def test_all_rows_of_the_five_papers_are_there(ledger):
    papers = [row.paper for row in ledger]
    assert {paper: papers.count(paper) for paper in papers} == COUNTS
    assert len(ledger) == 296


def test_every_row_has_numbers_or_says_why_not(ledger):
    numbers = ("top1", "params_m", "latency_ms", "gflops", "videos_per_s")
    bare = [row for row in ledger if all(getattr(row, n) is None for n in numbers) and not row.note]
    assert bare == []
    percents = [p for row in ledger for p in (row.top1, row.top5) if p is not None]
    assert all(0 < percent < 100 for percent in percents)


def test_printed_costs_and_digits(ledger):
    (tei,) = [r for r in ledger if r.source == "TEINet, table 2" and r.videos_per_s == 46.9]
    assert (tei.params_m, tei.gflops, tei.latency_ms, tei.top1) == (30.4, 33, 36.5, 47.4)
    assert tei.hardware.startswith("single NVIDIA Tesla P100")
    (tsm,) = [r for r in ledger if (r.source, r.top1, r.method) == ("TSI, table 3", 96, "TSM")]
    assert str(tsm.top1) == "96"
    (tsm,) = [r for r in ledger if (r.source, r.top1) == ("TEINet, table 6", 96.0)]
    assert str(tsm.top1) == "96.0"


def test_questions_select_rows():
    rows = printed_accuracies("tei_*", paper="tsi", dataset="something_v1", frames="8")
    assert [(row.source, row.top1) for row in rows] == [
        ("TSI, table 1", 47.4),
        ("TSI, table 8", 47.4),
    ]
    others = printed_accuracies(paper="tsi", dataset="something_v1", frames="64")
    assert [(row.method, row.network) for row in others] == [("S3D-G", None), ("I3D", None)]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (
            {"paper": "tee"},
            "No row of the papers has the paper 'tee'. Did you mean 'tei'?",
        ),
        (
            {"dataset": "something"},
            "No row of the papers has the dataset 'something'. Did you mean 'something_v2'?",
        ),
        (
            {"frames": "7"},
            "No row of the papers has the frames '7'. ",
        ),
        (
            {"pattern": "tei_resnet5"},
            "No paper prints a row of a network named 'tei_resnet5'. Did you mean 'tei_resnet50'?",
        ),
        (
            {"pattern": "tam_*", "paper": "tei", "frames": "8"},
            "No paper prints a row of tam_* with paper tei, frames 8.",
        ),
    ],
)
def test_questions_without_an_answer(question, message):
    with pytest.raises(UnknownNameError) as error:
        printed_accuracies(**question)
    assert message in str(error.value)


@pytest.mark.slow
def test_kinema_builds_every_named_network(ledger):
    named = {(row.network, str(row.options)): row for row in ledger if row.network is not None}
    for row in named.values():
        with torch.device("meta"):
            net = create_model(row.network, classes=2, frames=8, **row.options)
        assert net.name == row.network
