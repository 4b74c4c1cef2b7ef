"""HTML tables by which results show themselves in notebooks."""

from collections.abc import Sequence
from html import escape

MOST_ROWS = 50


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def html_table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Table of the first `MOST_ROWS` rows; cells are escaped, except for those that are `Html`."""
    left = len(rows) - MOST_ROWS
    shown = [*rows[:MOST_ROWS], *([[f"... and {left} more"]] if left > 0 else [])]
    lines = "".join(f"<tr>{_cells('td', row)}</tr>" for row in shown)
    return (
        f'<table><caption style="text-align:left">{_escaped(caption)}</caption>'
        f"<thead><tr>{_cells('th', header)}</tr></thead><tbody>{lines}</tbody></table>"
    )


def bar(start: float, end: float) -> Html:
    """Bar over a part of its cell, from `start` to `end`, both in 0..1."""
    left, width = 100 * max(0.0, start), 100 * max(0.0, min(1.0, end) - max(0.0, start))
    return Html(
        '<div style="width:12em;background:#8883"><div style="height:0.8em;background:#3f51b5;'
        f'margin-left:{left:.1f}%;width:{width:.1f}%"></div></div>'
    )


def percent(share: float | None) -> str:
    """Formats 0.5 as "50.00 %" and None as a dash."""
    return "-" if share is None else f"{100 * share:.2f} %"


def _cells(tag: str, cells: Sequence[str]) -> str:
    return "".join(f'<{tag} style="text-align:left">{_escaped(cell)}</{tag}>' for cell in cells)


def _escaped(text: str) -> str:
    return text if isinstance(text, Html) else escape(text)
