"""Report of the quick start: one self-contained HTML file."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinema.errors import missing_extra
from kinema.report.tables import percent
from kinema.system.files import write_whole
from kinema.values import ClassProb

try:
    from jinja2 import Environment, PackageLoader, StrictUndefined
except ModuleNotFoundError as error:
    raise missing_extra("The report", error.name, "train") from error


@dataclass(frozen=True)
class RunSection:
    """Trained network with its description, accuracy and plots."""

    name: str
    about: str
    top1: float
    pair_top1: float
    train_s: float
    epochs: int
    params: int
    curves_png: bytes
    confusion_png: bytes


@dataclass(frozen=True)
class SampleStrip:
    """Frames of a video of a class."""

    class_name: str
    png: bytes


@dataclass(frozen=True)
class PredictionSection:
    """Predicted clip."""

    path: str
    network: str
    truth: str
    top: tuple[ClassProb, ...]
    png: bytes


@dataclass(frozen=True)
class QuickstartPage:
    """Content of the page; each pair of samples is a class and its reverse."""

    runs: Sequence[RunSection]
    pairs: Sequence[tuple[SampleStrip, SampleStrip]]
    bars_png: bytes
    prediction: PredictionSection
    facts: Mapping[str, str]
    commands: Sequence[str]


def write_report(page: QuickstartPage, out: Path) -> Path:
    """Writes the page with embedded images and no external resources."""
    environment = Environment(
        loader=PackageLoader("kinema.report"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["percent"] = percent
    environment.filters["embedded"] = _embedded
    text = environment.get_template("report.html").render(page=page)
    write_whole(out, text)
    return out


def _embedded(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
