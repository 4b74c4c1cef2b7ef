"""Looks for files that the readers of annotations and recipes do not expect, guided by coverage.

    python tests/fuzz/guided.py annotations --seconds 60

atheris changes files so that ever more lines of the readers are reached. It stops at the first
file that ends in neither a result nor a typed error with the file's name, and keeps it.
"""

import argparse
import os
import resource
import sys
import tempfile
from pathlib import Path

import atheris

READERS = ["kinema.data", "kinema.train", "kinema.sweep", "kinema.values", "tomllib"]
LONGEST = 4096  # bytes
MEMORY_MB = 1024  # beyond what the process has after its imports

with atheris.instrument_imports(include=READERS):
    from targets import ANNOTATIONS, REPOSITORY

    from kinema.data.annotations import read_annotations
    from kinema.errors import KinemaError
    from kinema.sweep.spec import load_sweep
    from kinema.train.recipe import load_recipe

FORMATS = tuple(ANNOTATIONS)


def read_as_annotations(data: bytes, folder: Path) -> None:
    """The first byte chooses the format, the others are the file."""
    name = FORMATS[data[0] % len(FORMATS)]
    file_name, _, classes = ANNOTATIONS[name]
    file = folder / f"damaged_{file_name}"
    file.write_bytes(data[1:])
    read_annotations(file, format=name, root=folder, classes=classes)


def read_as_recipe(data: bytes, folder: Path) -> None:
    """An odd first byte means a sweep, an even one a recipe."""
    file = folder / "damaged.toml"
    file.write_bytes(data[1:])
    if data[0] % 2:
        load_sweep(
            file,
            out=folder / "out",
            recipe=REPOSITORY / "src" / "kinema" / "recipes" / "motion.toml",
        )
    else:
        load_recipe(file)


def sound_files(target: str) -> list[bytes]:
    """What the search starts from."""
    if target == "annotations":
        return [bytes([at]) + ANNOTATIONS[name][1].encode() for at, name in enumerate(FORMATS)]
    files = sorted((REPOSITORY / "src" / "kinema" / "recipes").rglob("*.toml"))
    texts = [bytes([path.parent.name == "sweeps"]) + path.read_bytes() for path in files]
    return [text[:LONGEST] for text in texts]


TARGETS = {"annotations": read_as_annotations, "recipes": read_as_recipe}


def main() -> None:
    """Runs until the time is over or something is found; then the exit code is not 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument(
        "--kept", type=Path, help="folder for what is found, the present one if not"
    )
    words = parser.parse_args()
    kept = (words.kept or Path()).resolve()
    kept.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="guided"))
    corpus, work = place / "corpus", place / "work"
    corpus.mkdir()
    work.mkdir()
    for number, data in enumerate(sound_files(words.target)):
        (corpus / str(number)).write_bytes(data)
    read = TARGETS[words.target]

    def read_one(data: bytes) -> None:
        if not data:
            return
        try:
            read(data, work)
        except KinemaError as error:
            if "damaged" not in str(error):
                raise AssertionError(f"The message does not name the file: {error}") from error

    # The peak of the process that started this one counts as its own.
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    options = [
        f"-max_total_time={words.seconds}",
        f"-max_len={LONGEST}",
        f"-rss_limit_mb={peak_mb + MEMORY_MB}",
        "-timeout=20",
    ]
    prefix = f"-artifact_prefix={kept}{os.sep}"
    atheris.Setup([sys.argv[0], *options, prefix, str(corpus)], read_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
