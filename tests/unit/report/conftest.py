"""A small evaluation to draw."""

import numpy as np
import pytest

from kinema.evaluation.evaluate import report_scores
from kinema.values import Report, Skipped, Views


@pytest.fixture
def report() -> Report:
    """Three classes, the last without videos, one mistake; names that look like markup."""
    scores = np.array([[3, 1, 0], [1, 3, 0], [1, 3, 0]], np.float32)
    return report_scores(
        scores=scores,
        labels=np.array([0, 0, 1]),
        paths=("a.mp4", "b.mp4", "c.mp4"),
        class_names=("[red] jump", "run, fast", "<b>sit</b>"),
        views=Views(clips=10, crops=3),
        skipped=(Skipped("d.mp4", "d.mp4 is empty."),),
    )
