"""Triton kernels without a device: interpreted, compiled ahead, and falling back to PyTorch.

tests/gpu runs them on one.
"""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kinema.temporal.kernels import dispatch

triton = pytest.importorskip("triton", reason="Triton is not installed")
from kinema.temporal.kernels import cuda  # noqa: E402 - it needs Triton

INTERPRETED = Path(__file__).with_name("interpreted_kernels.py")


@pytest.mark.slow
@pytest.mark.parametrize("which", ["not slow", "slow"])
def test_they_equal_their_equations_in_the_interpreter(which):
    process = subprocess.run(
        [sys.executable, "-m", "pytest", str(INTERPRETED), "-p", "no:cacheprovider", "-m", which],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "KINEMA_NATIVE": "1"},
        cwd=INTERPRETED.parents[3],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert process.returncode == 0, process.stdout[-5000:] + process.stderr[-1000:]


SIZES = {"ROWS": 16, "COLUMNS": 128}
EVEN = {"x_ptr", "w_ptr", "out_ptr", "grad_ptr", "ld", "wb", "wt", "channels", "ahead", "moved"}


@pytest.mark.parametrize(
    ("kernel", "sizes"),
    [
        ("_mix_kernel", {"K": 3, **SIZES}),
        ("_weight_grad_kernel", {"K": 3, "PART": 256, **SIZES}),
        ("_shift_kernel", SIZES),
    ],
)
@pytest.mark.parametrize("values", ["*bf16", "*fp32", "*fp16"])
def test_they_compile_for_a_device_and_move_16_bytes_at_once(
    kernel, sizes, values, tmp_path, monkeypatch
):
    backends = pytest.importorskip("triton.backends.compiler")
    # Compiling for CUDA needs no device, but a build of Triton with that backend. Others, for
    # ROCm or the CPU alone, cannot generate the code that is read here, and it does not run there.
    if "nvidia" not in triton.backends.backends:
        pytest.skip("this Triton does not compile for CUDA")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    function = getattr(cuda, kernel)
    types = {"w_ptr": "*fp32", "x_ptr": values, "grad_ptr": values}
    types["out_ptr"] = "*fp32" if kernel == "_weight_grad_kernel" else values
    names = function.arg_names
    source = triton.compiler.ASTSource(
        function,
        {name: "constexpr" if name in sizes else types.get(name, "i32") for name in names},
        constexprs={(names.index(name),): size for name, size in sizes.items()},
        attrs={(names.index(n),): [["tt.divisibility", 16]] for n in EVEN & set(names)},
    )
    target = backends.GPUTarget("cuda", 90, 32)
    code = triton.compile(source, target=target, options=cuda._OPTIONS).asm["ptx"]
    loads = set(re.findall(r"ld\.global[\w.]*", code))
    assert "ld.global.v4.b32" in loads
    assert loads <= {"ld.global.v4.b32", "ld.global.b32"}
    if kernel != "_weight_grad_kernel":
        assert set(re.findall(r"st\.global[\w.]*", code)) == {"st.global.v4.b32"}


def test_kernels_that_do_not_compile_are_named_once(monkeypatch, caplog):
    monkeypatch.delenv("KINEMA_NATIVE", raising=False)
    cuda.works.cache_clear()
    with caplog.at_level(logging.INFO, "kinema"):
        assert not cuda.works(torch.device("cpu"), torch.float32)
        assert not cuda.works(torch.device("cpu"), torch.float32)
    cuda.works.cache_clear()
    (record,) = caplog.records
    assert "do not work for torch.float32 on cpu" in record.getMessage()
    assert record.levelno == logging.WARNING


def test_kinema_native_0_turns_them_off(monkeypatch, caplog):
    monkeypatch.setenv("KINEMA_NATIVE", "0")
    cuda.works.cache_clear()
    assert not cuda.works(torch.device("cpu"), torch.float32)
    cuda.works.cache_clear()
    assert not caplog.records


def test_small_activations_and_gates_without_derivatives_are_left_to_pytorch():
    large, small = torch.empty(64, 64, 8, 8, device="meta"), torch.empty(8, 64, 8, 8, device="meta")
    assert cuda.wins(large, 3)
    assert cuda.wins(large, 1)
    assert not cuda.wins(small, 3)
    assert not cuda.wins(large, 17)
    with torch.no_grad():
        assert cuda.wins(large, 3)
        assert not cuda.wins(large, 1)


def test_without_triton_pytorch_serves_and_it_is_said_once(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "kinema.temporal.kernels.cuda", None)
    monkeypatch.delattr("kinema.temporal.kernels.cuda", raising=False)
    dispatch._triton.cache_clear()
    with caplog.at_level(logging.INFO, "kinema"):
        assert dispatch._backend_on("cuda") is None
        assert dispatch._backend_on("cuda") is None
    dispatch._triton.cache_clear()
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "No Triton" in caplog.text
    assert "slower" in caplog.text
    assert dispatch._backend_on("meta") is None
