"""Private names of PyTorch that the package needs, with the reason; nothing else may be used."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

import kinema

# They exist in PyTorch 2.11 (the oldest that pyproject.toml allows) to 2.15.
PRIVATE = {
    # Kernels read memory by its address: not while a mode or transform has to see each operator.
    "torch._C._len_torch_dispatch_stack": lambda: torch._C._len_torch_dispatch_stack,
    "torch._C._functorch": lambda: torch._C._functorch.peek_interpreter_stack,
    "forward_ad._current_level": lambda: forward_ad._current_level,
    # Modules with hooks run one by one.
    "._forward_hooks": lambda: nn.Module()._forward_hooks,
    "._forward_pre_hooks": lambda: nn.Module()._forward_pre_hooks,
    "._backward_hooks": lambda: nn.Module()._backward_hooks,
    "._backward_pre_hooks": lambda: nn.Module()._backward_pre_hooks,
    # A batch norm may be folded only if nothing has written to its input since the convolution.
    "._version": lambda: torch.zeros(1)._version,
    # Convolutions of oneDNN with an activation or an addition, as TorchInductor calls them.
    "torch.ops.mkldnn._is_mkldnn_bf16_supported": lambda: (
        torch.ops.mkldnn._is_mkldnn_bf16_supported
    ),
    "torch.ops.mkldnn._reorder_convolution_weight": lambda: (
        torch.ops.mkldnn._reorder_convolution_weight
    ),
    "torch.ops.mkldnn._convolution_pointwise": lambda: torch.ops.mkldnn._convolution_pointwise,
    "torch.ops.mkldnn._convolution_pointwise_": lambda: torch.ops.mkldnn._convolution_pointwise_,
    # Stand-ins for them keep the compiler out of commands that do not use it.
    "torch._dynamo": lambda: (
        torch._dynamo.disable,
        torch._dynamo.utils.is_compile_supported,
    ),
    # The documented way to compile ahead of time has no public name, nor has the compiler's cache.
    "torch._inductor": lambda: (
        torch._inductor.aoti_compile_and_package,
        torch._inductor.aoti_load_package,
        torch._inductor.runtime.cache_dir_utils.default_cache_dir,
        torch._inductor.config.cpp_cache_precompile_headers is not None,
        torch._inductor.config.aot_inductor.precompile_headers is not None,
    ),
}

USES = re.compile(
    r"torch(?:\.\w+)*?\._(?!_)\w+(?:\._\w+)?"
    r"|\bforward_ad\._\w+"
    r"|\._(?:version|(?:forward|backward)_(?:pre_)?hooks)\b"
    r"|(?<=import )_[A-Z]\w+"
)


@pytest.mark.parametrize("name", PRIVATE)
def test_private_names_exist(name):
    assert PRIVATE[name]() is not None


def test_no_other_private_name_of_pytorch_is_used():
    files = Path(kinema.__file__).parent.rglob("*.py")
    used = {use for file in files for use in USES.findall(file.read_text(encoding="utf-8"))}
    assert used <= set(PRIVATE), "use a public name, or list it here with the reason"
