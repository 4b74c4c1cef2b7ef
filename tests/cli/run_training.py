"""Trains in a process of its own, for the tests that kill it or start two of it.

python run_training.py RECIPE OUT [--resume] [--kill-at STEP] [key=value ...]
"""

import multiprocessing
import os
import signal
import sys
from pathlib import Path

import torch

from kinema.train import load_recipe, loop


def main(words: list[str]) -> None:
    """Trains, and dies where it is told to."""
    multiprocessing.set_start_method("fork", force=True)  # for the loader, however this began
    torch.set_num_threads(1)
    resume = "--resume" in words
    if resume:
        words.remove("--resume")
    if "--kill-at" in words:
        at = words.index("--kill-at")
        last_step = int(words[at + 1])
        del words[at : at + 2]
        real_step = loop.take_step

        def step_or_die(job: loop.Job) -> None:
            """Dies without a word in the middle of a step."""
            if job.position.steps == last_step:
                os.kill(os.getpid(), signal.SIGKILL)
            real_step(job)

        loop.take_step = step_or_die
    recipe, out, *overrides = words
    result = loop.train(load_recipe(recipe, overrides), out=Path(out), resume=resume, quiet=True)
    print(f"rank {result.rank} finished {result.epochs} epochs")


if __name__ == "__main__":
    main(sys.argv[1:])
