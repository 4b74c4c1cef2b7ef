"""Writes the list of docs/howto/published_networks.md from the catalog of published networks.

Run it after a change of the catalog or of benchmarks/results/model_cpu.json:
`python scripts/published_page.py`. A test checks that the page is up to date.
"""

import json
from pathlib import Path

from kinema.models.published.catalog import PrintedAccuracy, PublishedNetwork, list_published

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "howto" / "published_networks.md"
FORM = "fused-32"
BEGIN, END = "<!-- networks: python scripts/published_page.py -->\n", "<!-- end of networks -->"
HEAD = (
    "name", "also", "frames", "GMACs", "ms", "printed top-1 (top-5), protocol", "from", "state",
    "remarks",
)  # fmt: skip


def page() -> str:
    """Returns the list in Markdown."""
    networks = list_published()
    remarks = {
        text: number
        for number, text in enumerate(
            dict.fromkeys(text for one in networks for text in _remarks(one)), start=1
        )
    }
    lines, measured = [], _measured_ms()
    for model in dict.fromkeys(one.model for one in networks):
        rows = [[*HEAD], ["---", "---", *["---:"] * 3, *["---"] * 4]]
        rows += [_row(one, remarks, measured) for one in networks if one.model == model]
        lines += [f"### {model}", "", *("| " + " | ".join(row) + " |" for row in rows), ""]
    lines += ["### Remarks", "", *(f"{number}. {text}." for text, number in remarks.items())]
    lines += ["", "### Publishers", "", *_publishers(networks)]
    return "\n".join(lines) + "\n"


def written(text: str) -> str:
    """Returns the text of the page with the current list."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + page() + END + rest.partition(END)[2]


def _measured_ms() -> dict[tuple[str, int, int], float]:
    """Time of one view by network, frames and side, where it was measured."""
    file = ROOT / "benchmarks" / "results" / "model_cpu.json"
    result = json.loads(file.read_text(encoding="utf-8"))
    how = result["settings"]
    return {
        (row["model"], how["frames"], how["size_px"]): row["ms"] / how["batch"]
        for row in result["rows"]
        if row["form"] == FORM
    }


def _row(
    one: PublishedNetwork, remarks: dict[str, int], measured: dict[tuple[str, int, int], float]
) -> list[str]:
    # Options, such as a causal form, make another network of it.
    ms = measured.get((one.model, one.frames, one.preprocessing.crop_px))
    aliases = [f"`:{name.partition(':')[2]}`" for name in one.names if name != one.id]
    return [
        f"`{one.id}`",
        ", ".join(aliases),
        str(one.frames),
        f"{one.gmacs:g}",
        "" if ms is None or one.options else f"{ms:.0f}",
        "; ".join(map(_accuracy, one.printed)) or "not stated",
        f"[{one.publisher.name}]({(*one.urls, one.page)[0]})",
        one.state if one.sha256 or one.state == "manual" else "listed, no hash",
        ", ".join(str(remarks[text]) for text in _remarks(one)),
    ]


def _remarks(one: PublishedNetwork) -> list[str]:
    return [text[:1].upper() + text[1:] for text in (*one.differences, *one.notes)]


def _accuracy(printed: PrintedAccuracy) -> str:
    top5 = "" if printed.top5 is None else f" ({printed.top5:g})"
    views = printed.views
    if views is None:
        return f"{printed.top1:g}{top5}, {printed.protocol}"
    how = f"{views.clips} x {views.crops}"
    words = [
        " full" * views.full_resolution,
        "" if views.clip_places == "even" else f" {views.clip_places}",
    ]
    return f"{printed.top1:g}{top5}, {how}{''.join(words)}"


def _publishers(networks: list[PublishedNetwork]) -> list[str]:
    publishers = dict.fromkeys(one.publisher for one in networks)
    return [
        f"- **{of.name}**: {of.source}, commit {of.commit}. License of the code: "
        f"{of.code_license}; of the weights: {of.weights_license}. Cite: {of.citation}."
        for of in publishers
    ]


if __name__ == "__main__":
    TARGET.write_text(written(TARGET.read_text(encoding="utf-8")), encoding="utf-8")
