"""Writes a training state, a network, an index cache and a result over and over, until killed.

python writers.py FOLDER VIDEO TIMES: forks TIMES writers one after another, lets each work for a
moment and kills it with SIGKILL; after each it reads everything back and prints one JSON line.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import kinema
from kinema.bench.result import write_measurement
from kinema.models.saved import load_saved, put_back
from kinema.models.zoo import create_model
from kinema.train.checkpoint import Position, TrainState, load_state, save_state
from kinema.train.optim import build_optimizer, build_schedule
from kinema.train.settings import AdamWSettings, CosineSettings
from kinema.values import Preprocessing
from kinema.video.decode import VideoFile
from kinema.video.index_cache import IndexCache

HOW = Preprocessing(frames=4, short_side_px=40, crop_px=32)


def learner() -> TrainState:
    net = create_model("tsm_test_resnet", classes=3, frames=4)
    optimizer = build_optimizer(net, AdamWSettings(), batch_size=2)
    schedule = build_schedule(optimizer, CosineSettings(), epochs=1, steps_per_epoch=1, lr=1)
    return TrainState(net, optimizer, schedule)


def fill(net: torch.nn.Module, number: int) -> None:
    """Every weight gets the number, so that a mixture of two writings is seen."""
    with torch.no_grad():
        for weight in net.parameters():
            weight.fill_(number)


def write(folder: Path, video: Path, number: int) -> None:
    work, cache = learner(), IndexCache(folder / "index")
    while True:
        number += 1
        fill(work.net, number)
        save_state(folder / "state.pt", work, Position(steps=number))
        kinema.save(work.net, folder / "net", labels="abc", preprocessing=HOW, overwrite=True)
        with VideoFile(video) as opened:
            cache.put(video, os.stat(video), opened._indexed)
        write_measurement({"number": number, "rows": [number] * 1000}, folder / "result.json")


def read(folder: Path, video: Path) -> dict[str, object]:
    """Returns the stored content; raises if anything is damaged or mixed."""
    work = learner()
    position = load_state(folder / "state.pt", work)
    assert {float(w.unique()) for w in work.net.parameters()} == {position.steps}, "mixed state"
    moved = not (folder / "net").exists()
    put_back(folder / "net")
    (number,) = {float(w.unique()) for w in load_saved(folder / "net").net.parameters()}
    result = json.loads((folder / "result.json").read_text("utf-8"))
    assert set(result["rows"]) == {result["number"]}, "mixed result"
    assert IndexCache(folder / "index").get(video, os.stat(video)) is not None, "no entry"
    assert not list(folder.glob("*.damaged")), "a damaged cache"
    numbers = [position.steps, int(number), result["number"]]
    assert numbers == sorted(numbers, reverse=True), numbers  # written in this order
    return {"number": position.steps, "moved_aside": moved}


def main(folder: Path, video: Path, times: int) -> None:
    torch.set_num_threads(1)
    chance, number = random.Random(0), 0
    for _ in range(times):
        pid = os.fork()
        if pid == 0:
            try:
                write(folder, video, number)
            finally:
                os._exit(1)
        least = 1.0 if number == 0 else 0.15  # something good must be there once
        time.sleep(least + chance.uniform(0, 0.25))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        found = read(folder, video)
        number = int(str(found["number"]))
        found["killed"] = os.WIFSIGNALED(status)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
