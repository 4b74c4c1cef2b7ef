"""Files that `kinema evaluate`, `kinema ensemble` and `kinema sweep` write."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from kinema.cli.console import notes
from kinema.system.files import check_writable

if TYPE_CHECKING:
    from kinema.report.submission import SubmissionForm
    from kinema.values import Report

# Read by `kinema papers --against`.
RESULTS_FILE = "results.json"

ScoresOption = Annotated[Path | None, typer.Option(help="Write all scores to this .npz file.")]
SubmissionOption = Annotated[
    Path | None, typer.Option(help="Write the predictions in a test server's format.")
]
SubmissionFormOption = Annotated[
    str | None,
    typer.Option(
        "--submission-form",
        help="Submission format: name (id;class name: Something-Something V1, Jester) or top5 (id "
        "and five class numbers: V2).",
        show_default="by --format",
    ),
]


@dataclass(frozen=True)
class ScoreFiles:
    """Files to write; `form` is the format of the submission, if there is one."""

    scores: Path | None
    submission: Path | None
    form: "SubmissionForm | None"

    def write(self, report: "Report") -> None:
        """Writes the files and prints their paths."""
        from kinema.evaluation.evaluate import save_scores
        from kinema.report.submission import write_submission

        if self.scores is not None:
            notes().print(f"Scores: {save_scores(report, self.scores)}")
        if self.submission is not None and self.form is not None:
            written = write_submission(report, self.submission, form=self.form)
            notes().print(f"Submission: {written}")


def check_new(file: Path | None, option: str, *, suffix: str = "") -> None:
    """Raises if a file exists already, cannot be written, or its name has not the suffix."""
    if file is None:
        return
    if suffix and file.suffix != suffix:
        raise typer.BadParameter(
            f"expected a file name ending in {suffix}, got {file}", param_hint=option
        )
    if file.exists():
        raise typer.BadParameter(f"{file} already exists", param_hint=option)
    check_writable(file)


def score_files(
    scores: Path | None, submission: Path | None, form: str | None, *, annotations: str | None
) -> ScoreFiles:
    """Checks the options for score files and submissions before any work.

    `annotations` is the format of the annotation file; some imply a submission format.
    """
    check_new(scores, "--scores", suffix=".npz")
    check_new(submission, "--submission")
    if form is not None and form not in ("name", "top5"):
        raise typer.BadParameter(
            f"expected name or top5, got {form!r}", param_hint="--submission-form"
        )
    if submission is None:
        if form is not None:
            raise typer.BadParameter("needs --submission", param_hint="--submission-form")
        return ScoreFiles(scores, None, None)
    from kinema.report.submission import FORM_OF

    chosen = form or FORM_OF.get(annotations or "")
    if chosen is None:
        raise typer.BadParameter(
            "give the format with --submission-form name or top5", param_hint="--submission"
        )
    return ScoreFiles(scores, submission, cast("SubmissionForm", chosen))
