"""Feeds damaged files to kinema and reports whatever ends in neither a result nor a typed error.

    python tests/fuzz/run.py --target videos --count 5000 --jobs 2

Every damaged file has a number, from which it can be made again: `--target videos --first 4711
--count 1 --keep`. Files are read in child processes with bounded memory and time; a child that
crashes or hangs is a finding and is replaced.
"""

import argparse
import gc
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SECONDS = 30.0  # for one file
START_SECONDS = 180.0  # for the imports
MEMORY_MB = 2048  # beyond what the process has after its imports
LEAKED_FILES = 3


def child(target: str, data: Path, kept: Path) -> None:
    """Reads numbers from stdin and answers with a JSON line for each."""
    import torch
    from targets import TARGETS, Originals

    from kinema.errors import KinemaError
    from kinema.system.process import bound_memory

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    work = kept / f"work_{os.getpid()}"
    originals = Originals(data, kept, work)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    bound_memory(MEMORY_MB * 2**20)
    answers.write("{}\n")
    gc.freeze()  # collecting the imports, too, would take most of the time
    for line in sys.stdin:
        number, outcome = int(line), {"kind": "result", "what": ""}
        work.mkdir()
        try:
            TARGETS[target](originals, number)
        except KinemaError as error:
            named = "damaged" in str(error) or "sound" in str(error)
            outcome = {"kind": "error" if named else "nameless", "what": _described(error)}
        except BaseException as error:
            outcome = {"kind": "untyped", "what": _described(error)}
        gc.collect()  # threads of decoders end with their objects
        outcome["files"] = len(os.listdir("/proc/self/fd"))
        outcome["threads"] = len(os.listdir("/proc/self/task"))
        shutil.rmtree(work)
        answers.write(json.dumps(outcome) + "\n")


def _described(error: BaseException) -> str:
    """The error, and the last line of kinema that it went through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        f"{Path(frame.filename).name}:{frame.lineno}"
        for frame in frames
        if "kinema" in frame.filename
    ]
    return f"{own[-1] if own else '?'}: {error!r}"[:300]


class Child:
    """A process that works off numbers."""

    def __init__(self, target: str, data: Path, kept: Path) -> None:
        words = [sys.executable, __file__, "--child", "--target", target]
        self.process = subprocess.Popen(
            [*words, "--data", str(data), "--kept", str(kept)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )
        self.number: int | None = None
        self.deadline = time.monotonic() + START_SECONDS

    def ask(self, number: int) -> None:
        """Hands out the next number."""
        self.number, self.deadline = number, time.monotonic() + SECONDS
        self.process.stdin.write(f"{number}\n")

    def end(self) -> None:
        """Kills the process and all it holds."""
        self.process.kill()
        self.process.communicate()


def fuzz(target: str, *, first: int, count: int, jobs: int, data: Path) -> dict[str, object]:
    """Tries `count` files; what came out, by kind, and every finding."""
    kinds: Counter[str] = Counter()
    findings: list[dict[str, object]] = []
    numbers = iter(range(first, first + count))
    held: dict[int, tuple[int, int]] = {}
    with tempfile.TemporaryDirectory(prefix="kinema-fuzz-") as kept:
        children = [Child(target, data, Path(kept)) for _ in range(min(jobs, count))]
        while children:
            _wait(children)
            for child in list(children):
                answer = _answer(child)
                if answer is None:
                    continue
                if child.number is not None:
                    kinds[answer["kind"]] += 1
                    if answer["kind"] not in ("result", "error"):
                        findings.append({"number": child.number, **answer})
                    _watch_files(child, answer, held, findings)
                elif answer.get("kind"):
                    raise SystemExit(f"The child for {target} does not start.")
                if child.process.poll() is not None or answer.get("kind") in ("hang", "crash"):
                    child.end()
                    children.remove(child)
                    children.append(Child(target, data, Path(kept)))
                    continue
                number = next(numbers, None)
                if number is None:
                    child.process.stdin.close()
                    child.process.wait()
                    child.process.stdout.close()
                    children.remove(child)
                else:
                    child.ask(number)
        left = [path.name for path in Path(kept).glob("work_*/*")]
    return {
        "target": target,
        "files": count,
        "kinds": dict(kinds),
        "findings": findings,
        "left": left,
    }


def _wait(children: list[Child]) -> None:
    soonest = min(child.deadline for child in children) - time.monotonic()
    select.select([child.process.stdout for child in children], [], [], max(0.01, soonest))


def _answer(child: Child) -> dict[str, object] | None:
    """The child's answer, that it has crashed or hung, or None while it works."""
    ready, _, _ = select.select([child.process.stdout], [], [], 0)
    if ready:
        line = child.process.stdout.readline()
        if line:
            return json.loads(line)
        child.process.wait()
        return {"kind": "crash", "what": f"exit code {child.process.returncode}"}
    if time.monotonic() > child.deadline:
        return {"kind": "hang", "what": f"more than {SECONDS:.0f} s"}
    return None


def _watch_files(
    child: Child,
    answer: dict[str, object],
    held: dict[int, tuple[int, int]],
    findings: list[dict[str, object]],
) -> None:
    """Open files and threads may not grow with the number of files read."""
    if "files" not in answer:
        return
    now = (answer["files"], answer["threads"])
    before = held.setdefault(child.process.pid, now)
    if now[0] > before[0] + LEAKED_FILES or now[1] > before[1] + LEAKED_FILES:
        what = f"{before} open files and threads became {now}"
        findings.append({"number": child.number, "kind": "leak", "what": what})
        held[child.process.pid] = now


def main() -> None:
    """Parses, runs and reports; exit code 1 when there are findings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", action="append", required=True)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("KINEMA_DATA", DATA)))
    parser.add_argument("--kept", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.child:
        child(words.target[0], words.data, words.kept)
        return
    reports = []
    for target in words.target:
        started = time.monotonic()
        report = fuzz(
            target, first=words.first, count=words.count, jobs=words.jobs, data=words.data
        )
        report["seconds"] = round(time.monotonic() - started, 1)
        print(json.dumps(report, indent=1), flush=True)
        reports.append(report)
    if any(report["findings"] or report["left"] for report in reports):
        sys.exit(1)


if __name__ == "__main__":
    main()
