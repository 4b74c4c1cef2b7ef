"""Times the C kernels against plain PyTorch, for each temporal module.

    python -m benchmarks.kernels                # about 10 minutes on two cores
    python -m benchmarks.kernels --smoke        # seconds: tests that the script runs

A module is built for one block of each stage of ResNet-50 (of Res2Net-50 for MTA and TEA) at 224
pixels, and a run passes one activation of each stage through it. Its forms are eager float32,
eager bfloat16, a training step in float32 (forward and backward) and a stream's step. Each form is
timed with all kernels, without any, and without each single kernel that it calls. All of them take
turns in this process.

Letters: B clips, T frames, N = B*T, C channels, H, W.
"""

import argparse
import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.models.res2net import Bottle2neck
from torch import nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from kinema.bench.result import Measurement, write_measurement
from kinema.bench.timing import alternate
from kinema.models.res2net import ScaleConv
from kinema.system.process import keep_freed_memory
from kinema.temporal import TemporalModule, takes_conv, temporal_named
from kinema.temporal.kernels import native
from kinema.temporal.memory import Memory, State
from kinema.temporal.sequence import run_in_order

RESULT = Path(__file__).parent / "results" / "kernels_cpu.json"
# Registered modules that each network puts into one block.
MODULES = {
    "tsm": ("tsm",),
    "tim": ("tim",),
    "tei": ("mem", "tim"),
    "tam": ("tam",),
    "me": ("me",),
    "mta": ("mta",),
    "tea": ("me", "mta"),
    "gst": ("gst",),
    "gte": ("gte",),
    "tsi": ("tsi",),
    "gsm": ("gsm",),
    "tin": ("tin",),
    "stm": ("stm",),
}
NOT_CAUSAL = ("tin",)
FORMS = ("eager-32", "eager-bf16", "train-32", "stream-32")
# Channels inside the blocks and side of the frames, for each stage; a block's input is 4 C wide.
STAGES = ((64, 56), (128, 28), (256, 14), (512, 7))
RES2NET_GROUPS, RES2NET_BASE_WIDTH = 4, 26
# A stream's step is short, so a timed run makes several.
STEPS = 20
NOTES = (
    "A run passes one activation of every stage of ResNet-50 (Res2Net-50 for mta and tea) through "
    "one module each, with the convolution whose place the module takes.",
    "ms: median time of a run with all C kernels. kernel: the kernels turned off for without_ms, "
    "where PyTorch's own operators run instead; 'all' is plain PyTorch.",
    "ratio: ms over without_ms; below 1 the kernel is faster. spread: half the interquartile range "
    "over the median, of the run with all kernels.",
)


@dataclass(frozen=True)
class Settings:
    """Sizes and number of measurements."""

    clips: int = 2
    frames: int = 8
    rounds: int = 15
    stages: tuple[tuple[int, int], ...] = STAGES
    steps: int = STEPS


SMOKE = Settings(clips=1, frames=4, rounds=2, stages=((64, 7),), steps=2)


class Site:
    """The modules of one network in one block, with an activation that fits them."""

    def __init__(
        self, names: Iterable[str], stage: tuple[int, int], settings: Settings, *, causal: bool
    ) -> None:
        channels, side = stage
        entries = [temporal_named(name) for name in names]
        if any(entry.name == "mta" for entry in entries):
            channels = RES2NET_GROUPS * (channels * RES2NET_BASE_WIDTH // 64)
        elif entries[0].at == "before_conv1":
            channels *= 4
        options = {"causal": True} if causal else {}
        self.modules = nn.ModuleList(
            entry.module.from_conv(
                _replaced_conv(entry.name, stage[0], channels), frames=settings.frames, **options
            )
            if takes_conv(entry.module)
            else entry.build(channels, frames=settings.frames, options=options)
            for entry in entries
        )
        count = settings.clips * (1 if causal else settings.frames)
        shape = (count, channels, side, side)
        self.x_NCHW = torch.randn(shape).contiguous(memory_format=torch.channels_last)
        self.state: State = ()

    def prepare(self, form: str) -> None:
        """Brings modules and activation into the mode, dtype and memory format of a form."""
        training = form.startswith("train")
        self.modules.train(training)
        for layer in self.modules.modules():
            if isinstance(layer, nn.Conv2d):
                layer.to(memory_format=torch.channels_last)
        if form.startswith("stream"):
            _fold_norms(self.modules)
        if form.endswith("bf16"):
            self.modules.to(torch.bfloat16)
            self.x_NCHW = self.x_NCHW.to(torch.bfloat16)
        self.x_NCHW.requires_grad_(training)

    def run(self) -> torch.Tensor:
        """Runs the modules on the activation."""
        return run_in_order(self.modules, self.x_NCHW)

    def train(self) -> None:
        """Runs the modules forward and backward."""
        out_NCHW = self.run()
        out_NCHW.backward(torch.ones_like(out_NCHW))

    def step(self) -> None:
        """Runs the modules on the newest frame of each stream."""
        memory, x_NCHW = Memory(self.state), self.x_NCHW
        for module in self.modules:
            assert isinstance(module, TemporalModule)
            x_NCHW = module.step(x_NCHW, memory)
        self.state = memory.state()


def _fold_norms(modules: nn.Module) -> None:
    """Folds the norms of TAM's global branch, without which its kernel does not run."""
    for group in modules.modules():
        if isinstance(group, nn.Sequential) and len(group) > 1:
            linear, norm = group[0], group[1]
            if isinstance(linear, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
                group[0], group[1] = fuse_linear_bn_eval(linear, norm), nn.Identity()


def _replaced_conv(name: str, planes: int, channels: int) -> nn.Module:
    """The layer of a block whose place a module takes."""
    if name == "mta":
        block = Bottle2neck(
            4 * planes,
            planes,
            base_width=RES2NET_BASE_WIDTH,
            scale=RES2NET_GROUPS,
            act_layer=nn.ReLU,
            norm_layer=nn.BatchNorm2d,
        )
        return ScaleConv(block)
    return nn.Conv2d(channels, channels, 3, padding=1, bias=False)


def _runs(name: str, form: str, settings: Settings) -> Callable[[], None]:
    """A function that makes one timed run."""
    sites = [
        Site(MODULES[name], stage, settings, causal=form.startswith("stream"))
        for stage in settings.stages
    ]
    for site in sites:
        site.prepare(form)

    def train() -> None:
        for site in sites:
            site.train()

    @torch.inference_mode()
    def step() -> None:
        for site in sites:
            for _ in range(settings.steps):
                site.step()

    @torch.inference_mode()
    def evaluate() -> None:
        for site in sites:
            site.run()

    return {"train": train, "stream": step, "eager": evaluate}[form.partition("-")[0]]


def measure(
    names: Iterable[str], settings: Settings, progress: Callable[[str], None]
) -> Measurement:
    """Times every module in every form.

    Args:
        names: Keys of `MODULES`.
        settings: Sizes and rounds.
        progress: Called with the name of each module and form before it is measured.
    """
    torch.manual_seed(0)
    keep_freed_memory()
    rows: list[dict[str, Any]] = []
    for name in names:
        for form in FORMS:
            if form.startswith("stream") and name in NOT_CAUSAL:
                continue
            progress(f"{name} {form}")
            rows += _measure(name, form, settings)
    facts = {
        "clips": settings.clips,
        "frames": settings.frames,
        "rounds": settings.rounds,
        "stages": [list(stage) for stage in settings.stages],
        "steps": settings.steps,
        "threads": torch.get_num_threads(),
    }
    return Measurement("kernels", facts, rows, NOTES)


def _measure(name: str, form: str, settings: Settings) -> list[dict[str, Any]]:
    run = _runs(name, form, settings)
    with _called_kernels() as called:
        run()
    runs: dict[str, Callable[[], None]] = {"with": run, "all": functools.partial(_without, run)}
    if len(called) > 1:  # without the only one is the same as without all
        runs |= {kernel: functools.partial(_without, run, kernel) for kernel in sorted(called)}
    times = alternate(runs, rounds=settings.rounds, warmup=2)
    base = times.pop("with")
    only = f" ({next(iter(called), 'none')})" if len(called) < 2 else ""
    return [
        {
            "module": name,
            "form": form,
            "kernel": kernel + (only if kernel == "all" else ""),
            "ms": round(1e3 * base.seconds, 3),
            "without_ms": round(1e3 * time.seconds, 3),
            "ratio": round(base.seconds / time.seconds, 3),
            "spread": round(base.spread, 3),
        }
        for kernel, time in times.items()
    ]


def _without(run: Callable[[], None], *kernels: str) -> None:
    with native.without(*kernels):
        run()


@contextlib.contextmanager
def _called_kernels() -> Iterator[set[str]]:
    """Collects the names of the kernels that take an activation meanwhile."""
    called: set[str] = set()
    takes, takes_attention = native.takes, native.takes_attention

    def watch(x_NCHW: torch.Tensor, taps: int = 1, kernel: str = "mix") -> bool:
        taken = takes(x_NCHW, taps, kernel)
        if taken:
            called.add(kernel)
        return taken

    def watch_attention(queries_PSD: torch.Tensor) -> bool:
        taken = takes_attention(queries_PSD) and not queries_PSD.requires_grad
        if taken:
            called.add("attend")
        return takes_attention(queries_PSD)

    native.takes, native.takes_attention = watch, watch_attention
    try:
        yield called
    finally:
        native.takes, native.takes_attention = takes, takes_attention


def main() -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(MODULES)}")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to test the script")
    parser.add_argument("--rounds", type=int, default=Settings.rounds)
    parser.add_argument("--out", type=Path, default=RESULT)
    words = parser.parse_args()
    unknown = [name for name in words.modules if name not in MODULES]
    if unknown:
        parser.error(f"unknown module {unknown[0]!r}; choose from {', '.join(MODULES)}")
    if native.library() is None:
        parser.error("there are no C kernels on this machine, so there is nothing to compare")
    settings = SMOKE if words.smoke else Settings(rounds=words.rounds)
    measurement = measure(words.modules or MODULES, settings, lambda text: print(text, flush=True))
    for row in measurement.rows:
        print(*(f"{key}={value}" for key, value in row.items()), sep="  ")
    if words.out == RESULT and (words.smoke or words.modules):
        print(f"Not written to {RESULT.name}: only a full measurement is kept. See --out.")
        return
    write_measurement(measurement.document(), words.out)


if __name__ == "__main__":
    main()
