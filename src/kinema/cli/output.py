"""What `kinema evaluate` and `kinema ensemble` write: score files and submissions."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from kinema.cli.console import notes

if TYPE_CHECKING:
    from kinema.report.submission import SubmissionForm
    from kinema.values import Report

ScoresOption = Annotated[Path | None, typer.Option(help="Write all scores to this .npz file.")]
SubmissionOption = Annotated[
    Path | None, typer.Option(help="Write the predictions in the form of a test server.")
]
SubmissionFormOption = Annotated[
    str | None,
    typer.Option(
        "--submission-form",
        help="name (id;class name: Something-Something V1, Jester) or top5 (id and five class "
        "numbers: V2).",
        show_default="that of --format",
    ),
]


@dataclass(frozen=True)
class ScoreFiles:
    """The files that are wanted; `form` is that of the submission, if there is one."""

    scores: Path | None
    submission: Path | None
    form: "SubmissionForm | None"

    @property
    def none(self) -> bool:
        """Whether nothing is to be written."""
        return self.scores is None and self.submission is None

    def check(self, paths: list[str], class_names: tuple[str, ...]) -> None:
        """Refuses what could not be submitted, before it is scored."""
        from kinema.report.submission import check_submission

        if self.form is not None:
            check_submission(paths, class_names, form=self.form)

    def write(self, report: "Report") -> None:
        """Writes the files and says where they are."""
        from kinema.evaluation.evaluate import save_scores
        from kinema.report.submission import write_submission

        if self.scores is not None:
            notes().print(f"Scores: {save_scores(report, self.scores)}")
        if self.submission is not None and self.form is not None:
            written = write_submission(report, self.submission, form=self.form)
            notes().print(f"Submission: {written}")


def check_new(file: Path | None, option: str) -> None:
    """Refuses a file that is there already."""
    if file is not None and file.exists():
        raise typer.BadParameter(f"{file} already exists", param_hint=option)


def score_files(
    scores: Path | None, submission: Path | None, form: str | None, *, annotations: str | None
) -> ScoreFiles:
    """The wanted files; wrong and existing names are refused before any work.

    `annotations` is the format of the annotation file, which a form may go with.
    """
    if scores is not None and scores.suffix != ".npz":
        raise typer.BadParameter(f"expected a name in .npz, got {scores}", param_hint="--scores")
    check_new(scores, "--scores")
    check_new(submission, "--submission")
    if form is not None and form not in ("name", "top5"):
        raise typer.BadParameter(
            f"expected name or top5, got {form!r}", param_hint="--submission-form"
        )
    if submission is None:
        if form is not None:
            raise typer.BadParameter("goes with --submission", param_hint="--submission-form")
        return ScoreFiles(scores, None, None)
    from kinema.report.submission import FORM_OF

    chosen = form or FORM_OF.get(annotations or "")
    if chosen is None:
        raise typer.BadParameter(
            "say with --submission-form which form the file is to have", param_hint="--submission"
        )
    return ScoreFiles(scores, submission, cast("SubmissionForm", chosen))
