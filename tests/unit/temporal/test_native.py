"""C kernels: building, caching, falling back to PyTorch, and attention."""

import hashlib
import logging
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel

from kinema.system.cache_folder import _folder_of_process
from kinema.temporal.kernels import dispatch, native
from kinema.temporal.kernels.depthwise import depthwise
from kinema.temporal.kernels.gate import gate, map_gate, spatial_mean
from kinema.temporal.kernels.shift import shift
from kinema.temporal.tsi import attend

from .plain_forms import depthwise_reference

FRAMES = 4
needs_compiler = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("gcc") is None, reason="native operators need gcc"
)


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An empty cache folder, a compiler that takes no time to optimize, nothing loaded yet."""
    compiler = tmp_path / "compiler"
    compiler.write_text(f'#!/bin/sh\nexec {shutil.which("gcc")} "$@" -O0\n', encoding="utf-8")
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("KINEMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KINEMA_NATIVE", raising=False)
    native.library.cache_clear()
    yield tmp_path / "cache"
    native.library.cache_clear()


def rows(*shape: int) -> torch.Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def works() -> bool:
    """Checks a result, and returns whether a C kernel computed it."""
    x, weight = rows(2 * FRAMES, 6, 3, 5), torch.randn(6, 1, 3, 1)
    torch.testing.assert_close(
        depthwise(x, weight, FRAMES), depthwise_reference(x, weight, FRAMES), rtol=1e-5, atol=1e-5
    )
    return native.takes(x)


@needs_compiler
def test_the_library_is_built_once_and_kept_in_the_cache_folder(fresh, monkeypatch):
    assert works()
    (built,) = fresh.iterdir()
    written = built.stat().st_mtime_ns
    native.library.cache_clear()
    assert works()
    assert [file.stat().st_mtime_ns for file in fresh.iterdir()] == [written]


@needs_compiler
@pytest.mark.parametrize("words", ["{} -g", "env {}", "'{}' -g"])
def test_the_compiler_may_have_arguments(fresh, words, monkeypatch):
    compiler = Path(os.environ["CC"])
    if "'" in words:
        compiler = compiler.rename(compiler.with_name("my compiler"))
    monkeypatch.setenv("CC", words.format(compiler))
    assert works()


@needs_compiler
def test_a_compiler_in_a_folder_with_a_space_is_found(fresh, monkeypatch):
    compiler = Path(os.environ["CC"])
    monkeypatch.setenv("CC", str(compiler.rename(compiler.with_name("my compiler"))))
    assert works()


@needs_compiler
def test_single_kernels_can_be_turned_off(fresh):
    x, queries = rows(8, 6, 3, 5), torch.randn(2, 15, 8)
    assert dispatch.backend_name("cpu") == "C"
    with native.without("shift", "attend"):
        assert native.takes(x, 3)
        assert not native.takes(x, 3, "shift")
        assert not native.takes_attention(queries)
    with native.without():
        assert not any(native.takes(x, 3, kernel) for kernel in native.KERNELS)
        assert works() is False
    assert native.takes(x, 3, "shift")
    assert native.takes_attention(queries)


@needs_compiler
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_library_is_built_again(fresh, damage):
    library = native.library()
    assert library is not None
    (built,) = fresh.iterdir()
    code = built.read_bytes()
    middle = len(code) // 2
    harm = {
        "cut": code[:middle],
        "flipped": code[:middle] + bytes([code[middle] ^ 1]) + code[middle + 1 :],
        "empty": b"",
    }
    built.unlink()  # the file that is loaded keeps its content
    built.write_bytes(harm[damage])
    native.library.cache_clear()
    assert works()
    assert len(built.read_bytes()) == len(code)


@needs_compiler
def test_the_cache_folder_is_only_ours(fresh):
    assert works()
    (built,) = fresh.iterdir()
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o700
    assert stat.S_IMODE(built.stat().st_mode) == 0o700
    assert built.stem.rpartition("-")[2] == hashlib.sha256(built.read_bytes()).hexdigest()


@needs_compiler
@pytest.mark.parametrize("what", ["folder", "file"])
def test_code_that_others_may_have_written_is_not_loaded(fresh, what, tmp_path):
    """A library that would leave a mark when it is loaded, with a correct digest in its name."""
    assert works()
    (built,) = fresh.iterdir()
    mark, source = tmp_path / "mark", tmp_path / "evil.c"
    source.write_text(
        "#include <stdio.h>\n__attribute__((constructor)) static void f(void)"
        f'{{ fclose(fopen("{mark}", "w")); }}\n',
        encoding="utf-8",
    )
    evil = tmp_path / "evil.so"
    subprocess.run(["gcc", "-shared", "-fPIC", str(source), "-o", str(evil)], check=True)
    digest = hashlib.sha256(evil.read_bytes()).hexdigest()
    built.unlink()
    planted = fresh / f"{built.stem.rpartition('-')[0]}-{digest}.so"
    shutil.copy(evil, planted)
    (fresh if what == "folder" else planted).chmod(0o777)
    native.library.cache_clear()
    assert works()
    assert not mark.exists()


@needs_compiler
def test_a_library_without_its_functions_is_replaced(fresh, tmp_path):
    assert works()
    (built,) = fresh.iterdir()
    source, other = tmp_path / "empty.c", tmp_path / "empty.so"
    source.write_text("int nothing;\n", encoding="utf-8")
    subprocess.run(["gcc", "-shared", "-fPIC", str(source), "-o", str(other)], check=True)
    digest = hashlib.sha256(other.read_bytes()).hexdigest()
    built.unlink()
    planted = fresh / f"{built.stem.rpartition('-')[0]}-{digest}.so"
    shutil.copy(other, planted)
    planted.chmod(0o700)
    native.library.cache_clear()
    assert works()


@needs_compiler
@pytest.mark.parametrize("folder", ["file", "/proc/kinema", "no home"])
def test_without_a_cache_folder_the_library_serves_this_process(fresh, folder, monkeypatch, caplog):
    if folder == "file":
        fresh.write_text("in the way", encoding="utf-8")
    elif folder == "no home":
        monkeypatch.delenv("KINEMA_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", no_home)
    else:
        monkeypatch.setenv("KINEMA_CACHE", folder)
    _folder_of_process.cache_clear()
    with caplog.at_level(logging.INFO, "kinema"):
        assert works()
        assert works()
    assert [r.getMessage().split(" (")[0] for r in caplog.records] == [
        "The cache folder is not used"
    ]


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize(
    ("compiler", "message"),
    [
        ("no-such-compiler", r"No C compiler \(no-such-compiler\) .* slower. Install gcc"),
        ("no-such-cache gcc", r"No C compiler \(no-such-cache gcc\) .* slower. Install gcc"),
        ("gcc '-m64", r"No C compiler \(gcc '-m64\) .* slower. Install gcc"),
        ("false", "could not be built .* slower. Set CC .* KINEMA_NATIVE=0 turns"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no compiler is looked for")
def test_without_a_compiler_everything_works_and_says_so_once(
    fresh, compiler, message, monkeypatch, caplog
):
    monkeypatch.setenv("CC", compiler)
    with caplog.at_level(logging.INFO, "kinema"):
        assert not works()
        assert not works()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert dispatch.backend_name("cpu") == "PyTorch"
    assert re.search(message, record.getMessage())


def test_kinema_native_0_turns_them_off(fresh, monkeypatch, caplog):
    monkeypatch.setenv("KINEMA_NATIVE", "0")
    with caplog.at_level(logging.INFO, "kinema"):
        assert not works()
    assert not caplog.records
    assert not fresh.exists()


BUILD = """
import logging, torch
logging.basicConfig(level="INFO")
from kinema.temporal.kernels import native
print(native.takes(torch.randn(4, 6, 3, 3).contiguous(memory_format=torch.channels_last)))
"""


def start(script: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@needs_compiler
def test_two_processes_may_build_at_once(fresh):
    # Each waits in the compiler until the other has got there too.
    gate = fresh.parent / "gate"
    gate.mkdir()
    compiler = Path(os.environ["CC"])
    compiler.write_text(
        "#!/bin/sh\n"
        f"touch {gate}/$PPID; i=0\n"
        f'while [ "$(ls {gate} | wc -l)" -lt 2 ] && [ $i -lt 300 ]\n'
        "do sleep 0.1; i=$((i+1)); done\n"
        f'exec {shutil.which("gcc")} "$@" -O0\n',
        encoding="utf-8",
    )
    both = [start(BUILD), start(BUILD)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert outputs == [("True\n", ""), ("True\n", "")]
    assert len(list(gate.iterdir())) == 2
    assert len(list(fresh.iterdir())) == 1


@pytest.mark.slow
def test_a_process_without_any_programs_works(tmp_path):
    process = start(BUILD, PATH=str(tmp_path), KINEMA_CACHE=str(tmp_path / "cache"))
    output, log = process.communicate(timeout=120)
    assert output == "False\n"
    assert len(log.splitlines()) == 1
    assert "No C compiler" in log


class Network(nn.Module):
    """Every operator of native.py."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 1, 3, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = shift(depthwise(x, self.weight, FRAMES), FRAMES, from_next=2, from_previous=2)
        return attend(gate(x, spatial_mean(x)), x)


def traced(net: nn.Module, x: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    graph = torch.jit.trace(net, x, check_trace=False)
    assert "aten::_convolution" in str(graph.inlined_graph)
    return graph


def exported(net: nn.Module, x: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    graph = torch.export.export(net, (x,)).module()
    assert "aten.split" in graph.code
    return graph


def functional(net: nn.Module, x: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    graph = make_fx(net)(x)
    assert "aten.convolution" in graph.code
    return graph


def compiled(net: nn.Module, x: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    seen = []

    def keep(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        seen.append(graph.code)
        return graph.forward

    run = torch.compile(net, backend=keep, fullgraph=True)
    run(x)
    assert "conv2d" in seen[0]
    return run


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("capture", [traced, exported, functional, compiled])
def test_captured_graphs_hold_operators_of_pytorch(capture):
    net = Network().eval()
    with torch.no_grad():
        graph = capture(net, rows(8, 8, 3, 5))
        x = rows(8, 8, 3, 5)
        torch.testing.assert_close(graph(x), net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_function_transforms_and_forward_derivatives_see_through():
    x, direction = rows(8, 8, 3, 5), rows(8, 8, 3, 5)
    weight = torch.randn(8, 1, 3, 1)

    def mixed(x: torch.Tensor) -> torch.Tensor:
        y = shift(depthwise(x, weight, FRAMES), FRAMES, from_next=2, from_previous=2)
        return gate(y, spatial_mean(y))

    def score(x: torch.Tensor) -> torch.Tensor:
        return mixed(x).sum()

    many = torch.vmap(mixed)(torch.stack([x, 2 * x]))
    torch.testing.assert_close(many[0], mixed(x), rtol=1e-4, atol=1e-5)
    leaf = x.clone().requires_grad_()
    score(leaf).backward()
    torch.testing.assert_close(torch.func.grad(score)(x), leaf.grad, rtol=1e-5, atol=1e-5)
    _, slope = torch.func.jvp(score, (x,), (direction,))
    torch.testing.assert_close(slope, (leaf.grad * direction).sum(), rtol=1e-4, atol=1e-4)


@needs_compiler
def test_loading_the_library_leaves_tiny_numbers_alone(fresh):
    """Libraries linked with -ffast-math round them to zero for the whole process."""
    assert works()
    assert torch.tensor(1e-39).mul(1).item() != 0


@pytest.mark.parametrize("backend", ["native", "plain"])
@pytest.mark.parametrize("differences", [1, 2])
@pytest.mark.parametrize("channels", [16, 48, 40])  # 40 has no kernel
@pytest.mark.parametrize("width", [1, 3, 8])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (23, 31)])
def test_map_gate_is_a_gate_of_every_pixel(
    size, width, channels, differences, backend, monkeypatch
):
    if backend == "plain":
        monkeypatch.setattr(native, "library", lambda: None)
    x, motion = rows(3, channels, *size), rows(3 * differences, width, *size)
    weight, bias = torch.randn(channels, width), 4 * torch.randn(channels)
    half = torch.einsum("cd,gndhw->gnchw", weight, motion.unflatten(0, (differences, 3)))
    half = (half + bias[:, None, None]).double()
    wanted = x.double() * (0.5 + torch.sigmoid(2 * half).mean(0))
    torch.testing.assert_close(
        map_gate(x, motion, weight, bias).double(), wanted, rtol=1e-5, atol=1e-5
    )
    wide = torch.cat([x, x], 1)[:, :channels]  # rows of another length
    assert torch.equal(map_gate(wide, motion, weight, bias), map_gate(x, motion, weight, bias))


def test_map_gate_of_extreme_motions():
    x, motion = torch.ones(1, 16, 1, 1), torch.tensor([1e30, -1e30]).reshape(2, 1, 1, 1)
    bias = torch.tensor([0.0, 100, -100, 8] * 4)
    got = map_gate(x, motion, torch.ones(16, 1), torch.zeros(16))
    torch.testing.assert_close(got, x, rtol=0, atol=1e-6)
    zeros = torch.zeros(1, 1, 1, 1)
    got = map_gate(x, zeros, torch.ones(16, 1), bias)[0, :4, 0, 0]
    torch.testing.assert_close(got, torch.tensor([1, 1.5, 0.5, 1.5]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("backend", ["native", "plain"])
@pytest.mark.parametrize("width", [4, 6, 8, 16, 32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 7), (17, 19)])
def test_attend_is_softmax_attention(size, dtype, width, backend, monkeypatch):
    if backend == "plain":
        monkeypatch.setattr(native, "library", lambda: None)
    queries, keys = (rows(3, width, *size).to(dtype) for _ in range(2))
    got = attend(queries, keys)
    assert (got.shape, got.dtype) == (queries.shape, dtype)
    q, k = (v.double().flatten(2).transpose(1, 2) for v in (queries, keys))
    wanted = torch.softmax(q @ k.mT * width**-0.5, 2) @ k
    rounding = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    torch.testing.assert_close(
        got.double(), wanted.transpose(1, 2).unflatten(2, size), rtol=rounding, atol=rounding
    )


@pytest.mark.parametrize("width", [4, 8, 16, 32])
@pytest.mark.parametrize("scale", [1e-3, 30.0, 1e4])
def test_attend_with_flat_and_with_sharp_scores(width, scale):
    """Also where the bound of the scores is far above all of them: keys against the queries."""
    queries, keys = rows(2, width, 5, 7), rows(2, width, 5, 7)
    for q, k in ((queries * scale, keys), (queries.abs() * scale, -keys.abs())):
        exact_q, exact_k = (v.double().flatten(2).transpose(1, 2) for v in (q, k))
        scores = exact_q @ exact_k.mT * width**-0.5
        wanted = (torch.softmax(scores, 2) @ exact_k).transpose(1, 2).unflatten(2, (5, 7))
        # Scores are rounded to float32: the error of a weight grows with them.
        rounding = 1e-5 + 3e-7 * float(scores.abs().max())
        torch.testing.assert_close(attend(q, k).double(), wanted, rtol=rounding, atol=rounding)


def test_attend_has_derivatives():
    queries, keys = (rows(2, 8, 3, 5).requires_grad_() for _ in range(2))
    attend(queries, keys).sum().backward()
    assert queries.grad is not None
    assert keys.grad is not None
    with torch.no_grad():
        natively = attend(queries, keys)
    torch.testing.assert_close(attend(queries, keys), natively, rtol=1e-5, atol=1e-5)
    lines = [v.flatten(2).mT.unsqueeze(1) for v in (queries, keys, keys)]
    plain = F.scaled_dot_product_attention(*lines).squeeze(1).mT.unflatten(2, (3, 5))
    torch.testing.assert_close(natively, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_attends_in_the_fused_kernel(dtype):
    """Pairs out of a clip lie with their channels far apart, which that kernel does not take."""
    clip_NDHW = torch.randn(2, 4, 4, 9, 9, requires_grad=True)
    present, following = clip_NDHW[:, :-1].flatten(0, 1), clip_NDHW[:, 1:].flatten(0, 1)
    queries, keys = present.to(dtype), following.to(dtype)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # or an error
        aligned = attend(queries, keys)
    (grad,) = torch.autograd.grad(aligned.float().square().sum(), clip_NDHW)
    q, k = (x.float().permute(0, 2, 3, 1).flatten(1, 2) for x in (queries, keys))
    plain = torch.softmax(q @ k.transpose(1, 2) / 2, 2) @ k
    (wanted,) = torch.autograd.grad(plain.square().sum(), clip_NDHW)
    rounding = 1e-4 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(
        grad, wanted, rtol=rounding, atol=rounding * float(wanted.abs().max())
    )
    assert aligned.dtype == dtype


def test_attend_carries_what_is_not_a_number():
    queries, keys = rows(1, 8, 3, 3), rows(1, 8, 3, 3)
    keys[0, 0, 1, 1] = torch.nan
    assert attend(queries, keys).isnan().all()


@pytest.mark.slow
@pytest.mark.parametrize("native_too", ["0", "1"])
def test_attend_never_stores_the_scores(native_too):
    script = """
import resource, torch
from kinema.temporal.tsi import attend
small, big = (torch.randn(1, n, n, 8).permute(0, 3, 1, 2) for n in (4, 128))
attend(small, small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
attend(big, big)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    output, log = start(script, KINEMA_NATIVE=native_too).communicate(timeout=120)
    assert not log
    assert int(output) < 100_000, "kB more; the scores would take 1 GB"
