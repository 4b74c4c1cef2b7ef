"""Decoder processes that hang, crash or want too much cost one request, never the server."""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from kinema.decoders.jobs import ClipsJob, VideoLimits
from kinema.decoders.parent import DecoderParent
from kinema.decoders.pool import DecoderPool, DecoderSettings, DecodingError
from kinema.values import Preprocessing

from .running import children, repeat_video, wait_until, write_video

LIMITS = VideoLimits(duration_s=3600, frames=10_000, pixels=1 << 30)
HOW = Preprocessing(frames=4, short_side_px=40, crop_px=32)

pytestmark = pytest.mark.slow


def job(path: Path, clips: int = 1) -> ClipsJob:
    return ClipsJob(str(path), HOW, clips, 1, LIMITS)


@pytest.fixture(scope="module")
def parent():
    with DecoderParent() as started:
        yield started


@pytest.fixture
def pooled(parent):
    """Makes pools with settings, and keeps the reasons why their processes ended."""
    pools = []

    def make(**settings) -> tuple[DecoderPool, list[str]]:
        ends: list[str] = []
        pools.append(DecoderPool(DecoderSettings(**settings), parent, on_end=ends.append))
        return pools[-1], ends

    yield make
    for pool in pools:
        pool.close()


def decoders() -> list[int]:
    """The processes below the one that forks; it is the only child with children."""
    return [pid for child in children(os.getpid()) for pid in children(child)]


def fails(pool: DecoderPool, wanted: ClipsJob, reason: str, part: str) -> None:
    with pytest.raises(DecodingError, match=part) as error:
        list(pool.answers(wanted))
    assert error.value.reason == reason


def test_a_process_is_reused_and_then_replaced(pooled, color_set):
    pool, ends = pooled(workers=1, jobs=3)
    for count in range(3):
        assert len(list(pool.answers(job(color_set / "red" / "0.mp4", clips=2)))) == 3
        assert ends == (["worn"] if count == 2 else [])
    list(pool.answers(job(color_set / "red" / "0.mp4")))
    assert ends == ["worn"]


def test_too_much_memory(pooled, color_set, tmp_path):
    bomb = write_video(tmp_path / "bomb.mp4", frames=2, size=(4096, 4096))
    pool, ends = pooled(workers=1, memory_bytes=64 << 20)
    fails(pool, job(bomb), "decoding_needs_memory", "more than 64 MiB")
    assert ends == ["decoding_needs_memory"]
    assert list(pool.answers(job(color_set / "red" / "0.mp4")))


def test_too_much_processor_time(pooled, color_set, tmp_path):
    heavy = repeat_video(write_video(tmp_path / "a.ts", size=(1024, 768)), tmp_path / "b.ts", 150)
    pool, ends = pooled(workers=1, cpu_s=1)
    fails(pool, job(heavy), "decoding_takes_long", "1 s of CPU time")
    assert ends == ["decoding_takes_long"]
    assert list(pool.answers(job(color_set / "red" / "0.mp4")))


def test_the_processor_time_is_that_of_all_clips(pooled, tmp_path):
    """Every clip decodes the file from its start."""
    heavy = repeat_video(write_video(tmp_path / "a.ts", size=(640, 480)), tmp_path / "b.ts", 20)
    pool, ends = pooled(workers=1, cpu_s=3)
    assert len(list(pool.answers(job(heavy)))) == 2
    fails(pool, job(heavy, clips=100), "decoding_takes_long", "3 s of CPU time")
    assert ends == ["decoding_takes_long"]


def test_a_process_that_hangs(pooled, color_set):
    pool, ends = pooled(workers=1, silence_s=1.0)
    before = set(decoders())
    pool.start()
    (pid,) = set(decoders()) - before
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    fails(pool, job(color_set / "red" / "0.mp4"), "decoding_takes_long", "or 1 s")
    assert time.monotonic() - began < 5
    assert ends == ["decoding_takes_long"]
    assert pid not in decoders()
    assert list(pool.answers(job(color_set / "red" / "0.mp4")))


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGSEGV, "decoder_crashed"), (signal.SIGKILL, "decoder_lost")],
)
def test_a_process_that_crashes(pooled, color_set, number, reason):
    pool, ends = pooled(workers=1)
    before = set(decoders())
    pool.start()
    (pid,) = set(decoders()) - before
    os.kill(pid, signal.SIGSTOP)  # so that it takes the job, but never answers

    def end() -> None:
        os.kill(pid, number)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    threading.Timer(0.5, end).start()
    fails(pool, job(color_set / "red" / "0.mp4"), reason, "decoder")
    assert ends == [reason]
    assert list(pool.answers(job(color_set / "red" / "0.mp4")))


def test_a_process_that_died_while_idle_is_replaced(pooled, color_set):
    pool, ends = pooled(workers=1)
    before = set(decoders())
    pool.start()
    (pid,) = set(decoders()) - before
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: " Z " in Path(f"/proc/{pid}/stat").read_text())
    assert list(pool.answers(job(color_set / "red" / "0.mp4")))
    assert ends == ["decoder_lost"]


def test_the_parent_is_replaced_too(color_set):
    with DecoderParent() as parent:
        pool = DecoderPool(DecoderSettings(workers=1), parent)
        before = set(children(os.getpid()))
        pool.start()
        own = set(children(os.getpid())) - before
        for pid in own:
            os.kill(pid, signal.SIGKILL)
        fails(pool, job(color_set / "red" / "0.mp4"), "decoder_lost", "decoder")
        assert list(pool.answers(job(color_set / "red" / "0.mp4")))
        pool.close()
    wait_until(lambda: not set(children(os.getpid())) - before)


def test_decoders_write_no_files_and_hear_no_signals(pooled, color_set, tmp_path):
    pool, _ = pooled(workers=1)
    before = set(decoders())
    pool.start()
    (pid,) = set(decoders()) - before
    list(pool.answers(job(color_set / "red" / "0.mp4")))
    limits = Path(f"/proc/{pid}/limits").read_text()
    lines = {line[:26].strip(): line[26:].split()[0] for line in limits.splitlines()[1:]}
    assert lines["Max file size"] == lines["Max core file size"] == "0"
    assert lines["Max open files"] == "32"
    assert int(lines["Max address space"]) < 16 << 30
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(pid, number)
    assert list(pool.answers(job(color_set / "red" / "0.mp4")))
    assert pid in decoders()
