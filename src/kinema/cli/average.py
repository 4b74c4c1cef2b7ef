"""`kinema average`: the mean accuracy over the splits of a data set."""

from pathlib import Path
from typing import Annotated

import typer

from kinema.cli.console import JsonOption, print_json, results


def average(
    files: Annotated[
        list[Path], typer.Argument(help="The score file of each split.", metavar="SCORES...")
    ],
    as_json: JsonOption = False,
) -> None:
    """Average the accuracies of splits (UCF101, HMDB51): mean and standard deviation.

    Example: kinema average split1.npz split2.npz split3.npz
    """
    from kinema.evaluation.ensemble import average_splits

    averaged = average_splits(files)
    if as_json:
        splits = [
            {"file": file, "videos": r.videos, "top1": r.top1, "top5": r.top5}
            | {"mean_class": r.mean_class}
            for file, r in zip(averaged.files, averaged.reports, strict=True)
        ]
        print_json({**averaged.mean, "deviation": averaged.deviation, "splits": splits})
        return
    from rich.table import Table
    from rich.text import Text

    from kinema.report.tables import percent

    table = Table("split")
    for column in ("videos", "top-1", "top-5", "mean class"):
        table.add_column(column, justify="right")
    for file, report in zip(averaged.files, averaged.reports, strict=True):
        accuracies = (percent(a) for a in (report.top1, report.top5, report.mean_class))
        table.add_row(Text(file), str(report.videos), *accuracies)
    table.add_section()
    spread = (f"{percent(m)} ± {percent(averaged.deviation[k])}" for k, m in averaged.mean.items())
    table.add_row("mean ± deviation", "", *spread)
    results().print(table)
