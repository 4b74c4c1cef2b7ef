"""`kinema sweep`: trains and tests variants of a recipe."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kinema.cli.console import JsonOption, notes, print_json, progress_bar, results, resume_hint
from kinema.cli.output import RESULTS_FILE

PLOT_FILE = "results.png"


def sweep(
    file: Annotated[Path, typer.Argument(help="Sweep file (TOML).")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Settings for all variants, such as data.root=DIR.", metavar="KEY=VALUE"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the sweep; default: runs/<file>.")
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(help="Another recipe to vary, with its own videos."),
    ] = None,
    jobs: Annotated[
        int, typer.Option(help="Concurrent trainings, spread over GPUs or cores.", min=1)
    ] = 1,
    known: Annotated[
        list[Path] | None,
        typer.Option(
            help="results.json of the same sweep from another machine, whose finished trainings "
            "are not repeated. Can be given several times."
        ),
    ] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Report the finished trainings without training.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train and test variants of one recipe with several seeds.

    A stopped sweep resumes when the same command is run again. Writes results.json, results.png and
    a run folder for every training.

    Example: kinema sweep recipes/sweeps/motion_networks.toml --jobs 2
    """
    from kinema.report.sweeps import accuracy, draw_sweep, sweep_table
    from kinema.sweep.run import finished_results, run_sweep
    from kinema.sweep.spec import MAIN_TEST, Cell, load_sweep
    from kinema.sweep.summary import known_results, summarize, write_summary

    folder = out or Path("runs") / file.stem
    plan = load_sweep(file, out=folder, overrides=overrides or (), recipe=recipe)
    elsewhere: dict[tuple[str, int], dict[str, Any]] = {}
    for other in known or ():
        elsewhere |= known_results(plan, other)

    def say(cell: Cell, result: dict[str, Any] | None) -> None:
        what = "failed"
        if result is not None:
            top1 = {"top1": result["tests"][MAIN_TEST]["top1"], "deviation": None}
            what = f"{accuracy(top1)} after {result['train_s'] / 60:.1f} min"
        notes().print(f"{cell.name}: {what}")

    if report_only:
        done = finished_results(plan, known=elsewhere)
        notes().print(f"{len(done)} of {len(plan.cells)} trainings are finished")
    else:
        notes().print(f"{len(plan.cells)} trainings in {folder}; logs lie beside their folders")
        if elsewhere:
            notes().print(f"{len(elsewhere)} of them are finished elsewhere")
        with resume_hint("the same command"), progress_bar("rendering") as rendering:
            done = run_sweep(plan, jobs=jobs, known=elsewhere, rendering=rendering, finished=say)
    document = summarize(plan, done)
    write_summary(document, folder / RESULTS_FILE)
    draw_sweep(document, folder / PLOT_FILE)
    if as_json:
        print_json(document)
        return
    results().print(sweep_table(document))
    notes().print(f"Numbers: {folder / RESULTS_FILE}, plot: {folder / PLOT_FILE}")
