"""Finds the videos that are most like a given one.

    python nearest_clips.py runs/first/best videos/ query.mp4

The search is usearch's: `pip install usearch`. Its index can be saved and grows to millions.
"""

import sys
from pathlib import Path

import numpy as np
from usearch.index import Index

import kinema
from kinema.data.listing import list_videos


def main(checkpoint: str, folder: str, query: str, count: int = 5) -> None:
    """Prints the nearest videos of the folder with their cosine similarity."""
    recognizer = kinema.Recognizer.load(checkpoint)
    paths = list(list_videos([Path(folder)]))
    features = np.stack(list(recognizer.embed(paths)))
    index = Index(ndim=features.shape[1], metric="cos", dtype="f32")
    index.add(np.arange(len(paths)), features)
    for match in index.search(recognizer.embed(query), min(count, len(paths))):
        print(f"{1 - match.distance:.3f} {paths[match.key]}")


if __name__ == "__main__":
    main(*sys.argv[1:4])
