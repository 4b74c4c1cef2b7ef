"""Most commands run without PyTorch's compiler; where it is used, nothing differs."""

import subprocess
import sys

import pytest

LOADED = """
import sys
import kinema
def compiler():
    return sorted(sys.modules.keys() & {"torch._dynamo", "torch._inductor", "sympy"})
"""
SAVED = (
    LOADED
    + """
kinema.Recognizer.load(sys.argv[1]).predict(sys.argv[2])
kinema.create_model("tsn_test_resnet", classes=2)
print(compiler())
"""
)
USED = (
    LOADED
    + """
import torch
from kinema.system import image_libraries
supported = image_libraries.torchvision.ops.roi_align.__globals__["is_compile_supported"]
assert not compiler()
assert supported("cpu") == sys.modules["torch._dynamo"].utils.is_compile_supported("cpu")

def seen(x):
    return x + int(torch.compiler.is_compiling())

kept_out = image_libraries._disable(seen)
for function in (seen, kept_out):
    run = torch.compile(lambda x: 10 * function(x), backend="eager")
    print(int(run(torch.tensor(1))), end=" ")
iterator = image_libraries.timm.models.naflexvit.NaFlexRopeIterator
print(iterator.__next__.__code__ is kept_out.__code__)
"""
)


def printed(script: str, *words: object) -> str:
    run = [sys.executable, "-c", script, *map(str, words)]
    return subprocess.run(run, check=True, capture_output=True, text=True).stdout


def test_a_saved_network_predicts_without_the_compiler(checkpoint, color_set):
    video = next(color_set.rglob("*.mp4"))
    assert printed(SAVED, checkpoint, video) == "[]\n"


@pytest.mark.slow
def test_the_functions_that_need_the_compiler_load_it():
    assert printed(USED) == "20 10 True\n"
