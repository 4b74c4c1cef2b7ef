"""Servers for the tests, and the networks they serve."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kinema import Recognizer
from kinema.decoders.pool import DecoderSettings
from kinema.serve.limits import Access, BatchSettings, Limits
from kinema.serve.service import Service

from ..causal import save_causal
from .running import Program, Running, running

# Nobody reads the access log of most tests, and a full pipe would stop the server.
FIXED = ("--port", "0", "--json", "--device", "cpu", "--no-access-log")


@pytest.fixture(scope="session")
def causal(tmp_path_factory) -> Path:
    """A causal network of three classes."""
    return save_causal(tmp_path_factory.mktemp("served") / "causal")


@pytest.fixture(scope="session")
def recognizers(causal, checkpoint) -> dict[str, Recognizer]:
    """A causal network, and one that looks ahead."""
    return {
        "causal": Recognizer.load(causal, device="cpu"),
        "ahead": Recognizer.load(checkpoint, device="cpu"),
    }


@pytest.fixture(scope="session")
def server(recognizers, color_set) -> Iterator[Running]:
    """Takes the videos of the color set (64 x 48, 12 frames, 1 s) and not much more."""
    limits = Limits(
        upload_bytes=200_000,
        duration_s=3.0,
        frames=60,
        pixels=100 * 100,
        views=30,
        timeline_bytes=400_000,
        timeline_duration_s=60.0,
        timeline_windows=500,
        requests=8,
        streams=2,
        frame_bytes=60_000,
        upload_s=30.0,
    )
    service = Service(
        recognizers,
        limits=limits,
        access=Access(folder=color_set),
        batching=BatchSettings(clips=8, delay_s=0.03),
        decoding=DecoderSettings(workers=2),
    )
    with running(service) as started:
        yield started


@pytest.fixture
def program(causal, tmp_path) -> Iterator[Callable[..., Program]]:
    """Starts `kinema serve CAUSAL WORDS...` on a free port, with a temporary folder of its own."""
    started: list[Program] = []

    def start(*words: object) -> Program:
        command = [sys.executable, "-m", "kinema.cli.main", "serve", f"causal={causal}"]
        process = subprocess.Popen(
            [*command, *FIXED, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
        )
        line = process.stdout.readline()
        assert line, process.stderr.read()
        document = json.loads(line)
        assert document["models"] == ["causal"]
        started.append(Program(process, document["url"]))
        return started[-1]

    yield start
    for program in started:
        program.process.kill()
        program.process.communicate()
