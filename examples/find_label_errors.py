"""Lists videos whose label is probably wrong, and unlabeled videos to label next.

    python find_label_errors.py runs/first/best train.csv videos/ new_videos/

The judgement is cleanlab's: `pip install cleanlab`. It needs for each video the probabilities of a
classifier that did not see the video: here logistic regression on the features, in five folds.
"""

import sys
from pathlib import Path

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.multiannotator import get_active_learning_scores
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import kinema
from kinema.data.listing import list_videos


def main(checkpoint: str, table: str, root: str, unlabeled: str) -> None:
    """Prints suspicious labels, the most suspicious first, then what to label next."""
    recognizer = kinema.Recognizer.load(checkpoint)
    rows = kinema.read_annotations(table, root=root)
    labels = np.array([sample.label for sample in rows.samples])
    paths = [Path(root) / sample.path for sample in rows.samples]
    features = np.stack(list(recognizer.embed(paths)))
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    probs = cross_val_predict(classifier, features, labels, cv=5, method="predict_proba")
    for row in find_label_issues(labels, probs, return_indices_ranked_by="self_confidence"):
        given, likely = rows.class_names[labels[row]], rows.class_names[probs[row].argmax()]
        print(f"label {given}, probably {likely}: {paths[row]}")
    others = list(list_videos([Path(unlabeled)]))
    classifier.fit(features, labels)
    new = classifier.predict_proba(np.stack(list(recognizer.embed(others))))
    _, scores = get_active_learning_scores(pred_probs_unlabeled=new)
    for row in np.argsort(scores):
        print(f"label next ({scores[row]:.3f}): {others[row]}")


if __name__ == "__main__":
    main(*sys.argv[1:5])
