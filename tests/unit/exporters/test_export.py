"""Exported files give the network's scores for any number of clips."""

import copy
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import kinema
from kinema.errors import InputShapeError, MissingExtraError, OptionError
from kinema.exporters import FORMATS, Facts, export_stream, task
from kinema.exporters.torch_file import load_exported, write_exported
from kinema.inference.graph import clip_graph
from kinema.models.families import families
from kinema.models.network import VideoNetwork

from ...random_weights import OTHER_BACKBONES

REPOSITORY = Path(__file__).parents[3]
RUNNER = REPOSITORY / "examples" / "run_exported.py"
SIZE = 32


def trained_like(name: str, **options: bool) -> VideoNetwork:
    """A network of which every part matters: no scale of a norm is zero."""
    torch.manual_seed(0)
    net = kinema.create_model(name, classes=5, frames=4, **options)
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.0)
    with torch.no_grad():
        net.train()(clips_of(net))
    return net.eval()


def clips_of(net: VideoNetwork, count: int = 3, size: int = SIZE) -> torch.Tensor:
    return torch.randn(count, net.clip_frames, 3, size, size)


@pytest.fixture(scope="module")
def net() -> VideoNetwork:
    return trained_like("tsm_test_resnet")


SUFFIXES = pytest.mark.parametrize(
    "suffix", [".onnx", *(pytest.param(name, marks=pytest.mark.slow) for name in (".xml", ".pt2"))]
)


@SUFFIXES
def test_a_file_gives_the_scores_of_the_network(net, tmp_path, suffix):
    stem = "n" * (255 - len(suffix))  # the longest name
    report = kinema.export(net, tmp_path / f"{stem}{suffix}", size=SIZE, clips=clips_of(net))
    assert report.verification.max_rel_diff < 1e-5
    assert report.verification.top1_agreement == 1
    assert report.verification.clips == 3
    assert report.verification.speedup > 0
    assert report.inputs == {"clips": ("batch", 4, 3, SIZE, SIZE)}
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == [f"{stem}{s}" for s in ([".bin", ".xml"] if suffix == ".xml" else [suffix])]
    assert report.bytes == sum(file.stat().st_size for file in tmp_path.iterdir())
    weights = 4 * sum(parameter.numel() for parameter in net.parameters())
    assert weights < report.bytes < 1.5 * weights


@pytest.mark.slow
def test_an_exported_program_holds_no_example_clips(net, tmp_path):
    graph = clip_graph(net, size=224, facts={})
    write_exported(graph, tmp_path / "net.pt2")
    with zipfile.ZipFile(tmp_path / "net.pt2") as archive:
        largest = max(entry.file_size for entry in archive.infolist())
    weights = [4 * tensor.numel() for tensor in graph.program.state_dict.values()]
    assert largest <= max(*weights, 400_000)  # the graph itself has 350 kB
    assert (tmp_path / "net.pt2").stat().st_size < 2 * sum(weights)
    clips = clips_of(net, 3, 224)
    (got,) = load_exported(tmp_path / "net.pt2")(clips)
    with torch.no_grad():
        assert torch.equal(got, graph.program.module()(clips))


@pytest.mark.slow
@SUFFIXES
def test_a_file_names_no_path_of_this_machine(net, tmp_path, suffix):
    kinema.export(net, tmp_path / f"net{suffix}", size=SIZE)
    paths = {str(REPOSITORY), str(Path.home()), sys.prefix, str(Path(torch.__file__).parent)}
    for file in tmp_path.iterdir():
        content = [file.read_bytes()]
        if suffix == ".pt2":
            with zipfile.ZipFile(file) as archive:
                content = [archive.read(name) for name in archive.namelist()]
        assert not [path for path in paths for part in content if path.encode() in part]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
def test_a_network_with_a_temporal_pool_becomes_a_file(tmp_path, suffix):
    net = trained_like("tsm_test_resnet", temporal_pool=True)
    report = kinema.export(net, tmp_path / f"net{suffix}", size=SIZE, clips=clips_of(net))
    assert report.verification.max_rel_diff < 1e-5
    assert report.inputs == {"clips": ("batch", 4, 3, SIZE, SIZE)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    # MTA is a part of TEA, and Res2Net takes its time.
    [name for name in families() if "slowfast" not in name and name != "mta"],
)
def test_every_network_becomes_an_onnx_file_with_a_free_batch(family, tmp_path):
    net = trained_like(f"{family}_{OTHER_BACKBONES.get(family, 'test_resnet')}")
    path = tmp_path / "net.onnx"
    report = kinema.export(net, path, size=SIZE, clips=clips_of(net))
    assert report.verification.max_rel_diff < 1e-4
    assert report.verification.top1_agreement == 1
    assert report.inputs == {"clips": ("batch", net.clip_frames, 3, SIZE, SIZE)}
    graph = onnx.load(path).graph
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    opsets = onnx.load_model(path, load_external_data=False).opset_import
    assert next(o.version for o in opsets if o.domain in ("", "ai.onnx")) == 18
    assert not [node.op_type for node in graph.node if node.op_type.startswith("Scatter")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tanet_test_resnet", "tsi_test_resnet", "tsm_mobilenetv2_100"])
@pytest.mark.parametrize("suffix", [".xml", ".aoti.pt2"])
def test_further_networks_in_further_formats(name, suffix, tmp_path):
    net = trained_like(name)
    report = kinema.export(net, tmp_path / f"net{suffix}", size=SIZE, clips=clips_of(net))
    assert report.verification.max_rel_diff < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "suffix"),
    [("tsm_resnet18", ".onnx"), ("tsm_resnet18", ".xml"), ("tsi_test_resnet", ".xml")],
)
def test_int8_is_a_quarter_of_the_size_and_near(name, suffix, tmp_path):
    net = trained_like(name)
    calibration = [clips_of(net) for _ in range(4)]
    report = kinema.export(
        net, tmp_path / f"net{suffix}", size=SIZE, clips=calibration[0], calibration=calibration
    )
    assert report.int8
    assert report.bytes < 16e6
    assert report.verification.max_rel_diff < 0.2


@pytest.mark.slow
def test_class_names_and_preprocessing_are_in_the_file(net, tmp_path):
    how = kinema.Preprocessing(frames=4, short_side_px=40, crop_px=SIZE)
    facts = Facts(("a", "b", "c", "d", "e"), how)
    kinema.export(net, tmp_path / "net.onnx", size=SIZE, facts=facts)
    properties = onnx.load(tmp_path / "net.onnx").metadata_props
    inside = {entry.key: json.loads(entry.value) for entry in properties}["kinema"]
    assert inside["labels"] == ["a", "b", "c", "d", "e"]
    assert inside["preprocessing"]["short_side_px"] == 40
    assert inside["network"] == "tsm_test_resnet"


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
def test_a_file_runs_without_this_package(checkpoint, color_set, tmp_path, suffix):
    recognizer = kinema.Recognizer.load(checkpoint)
    how, net = recognizer.preprocessing, recognizer.net
    path, video = tmp_path / f"net{suffix}", color_set / "green" / "1.mp4"
    kinema.export(net, path, size=how.crop_px, facts=Facts(recognizer.labels, how))
    blocked = f"import sys; sys.modules['kinema'] = None; sys.argv = ['', {str(path)!r}, "
    code = f"{blocked}{str(video)!r}]; exec(open({str(RUNNER)!r}).read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split(" %  ") for line in done.stdout.splitlines()]
    said = {name: float(percent) for percent, name in lines}
    for wanted in recognizer.predict(video).top:
        # Pillow resizes in its own rounding.
        assert said[wanted.name] == pytest.approx(100 * wanted.prob, abs=2)


@pytest.mark.slow
def test_an_older_file_stays_unless_it_may_be_replaced(net, tmp_path, monkeypatch):
    path = tmp_path / "net.pt2"
    path.write_text("older")
    with pytest.raises(OptionError, match="net.pt2 exists. Choose another name"):
        kinema.export(net, path, size=SIZE)
    monkeypatch.setattr(task, "TOLERANCE", -1.0)
    with pytest.raises(OptionError, match="differs from the network by .* Nothing was written"):
        kinema.export(net, path, size=SIZE, overwrite=True)
    assert path.read_text() == "older"
    assert [file.name for file in tmp_path.iterdir()] == ["net.pt2"]
    monkeypatch.undo()
    kinema.export(net, path, size=SIZE, overwrite=True)
    assert path.stat().st_size > 1e5


def test_the_weights_of_another_file_stay(net, tmp_path):
    (tmp_path / "net.bin").write_text("mine")
    with pytest.raises(OptionError, match=r"net\.bin exists. Choose another name"):
        kinema.export(net, tmp_path / "net.xml", size=SIZE)
    assert (tmp_path / "net.bin").read_text() == "mine"


@pytest.mark.slow
def test_a_network_of_another_type_is_verified_in_float32(net, tmp_path):
    report = kinema.export(copy.deepcopy(net).double(), tmp_path / "net.pt2", size=SIZE)
    assert report.verification.max_rel_diff < 1e-4


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "net.bin",
            {},
            r"net.bin does not imply a format. Valid suffixes are: .onnx \(onnx\), .xml",
        ),
        ("net.onnx", {"format": "onx"}, "Unknown format 'onx'. Did you mean 'onnx'"),
        ("net.onnx", {"format": "openvino"}, "format openvino ends in .xml, got net.onnx"),
        (
            "net.pt2",
            {"calibration": []},
            "The format exported has no int8 form. Use onnx or openvino",
        ),
    ],
)
def test_wrong_use_is_named(net, tmp_path, name, options, message):
    with pytest.raises(OptionError, match=message):
        kinema.export(net, tmp_path / name, size=SIZE, **options)


def test_clips_and_sizes_that_do_not_fit_are_named(net, tmp_path):
    with pytest.raises(InputShapeError, match=r"\(B, 4, 3, 32, 32\), got \(1, 4, 3, 40, 40\)"):
        kinema.export(net, tmp_path / "n.pt2", size=SIZE, clips=clips_of(net, 1, 40))
    inception = kinema.create_model("tsn_inception_v3", classes=2, frames=1).eval()
    with pytest.raises(InputShapeError, match="inception_v3 does not accept frames of 32 x 32"):
        kinema.export(inception, tmp_path / "n.pt2", size=SIZE)
    with pytest.raises(OptionError, match="eval mode"):
        kinema.export(trained_like("tsm_test_resnet").train(), tmp_path / "n.pt2", size=SIZE)


@pytest.mark.parametrize(
    ("package", "suffix"), [("onnx", ".onnx"), ("onnxruntime", ".onnx"), ("openvino", ".xml")]
)
def test_a_missing_runtime_names_the_extra(net, tmp_path, monkeypatch, package, suffix):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf'{package}.*pip install "\.\[export\]"'):
        kinema.export(net, tmp_path / f"net{suffix}", size=SIZE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("tsm_test_resnet", ".onnx"),
        pytest.param("tsm_test_resnet", ".xml", marks=pytest.mark.slow),
        pytest.param("tei_test_resnet", ".onnx", marks=pytest.mark.slow),
        pytest.param("tei_test_resnet", ".xml", marks=pytest.mark.slow),
        pytest.param("tanet_test_resnet", ".onnx", marks=pytest.mark.slow),
        pytest.param("tsm_mobilenetv2_100", ".xml", marks=pytest.mark.slow),
        pytest.param("tim_test_resnet", ".pt2", marks=pytest.mark.slow),
    ],
)
def test_a_step_of_a_stream_is_that_of_the_network_over_64_frames(name, suffix, tmp_path):
    net = trained_like(name, causal=True)
    path = tmp_path / f"step{suffix}"
    report = export_stream(net, path, size=SIZE, streams=2)
    assert report.verification.clips == 64
    assert report.verification.max_rel_diff < 1e-5
    names = list(report.inputs)
    assert report.inputs["frames"] == (2, 3, SIZE, SIZE)
    assert names[1:] == [f"state_{number}" for number in range(len(names) - 1)]
    if suffix == ".onnx":
        graph = onnx.load(path).graph
        assert [value.name for value in graph.output][:2] == ["scores", "next_state_0"]


def test_a_stream_must_be_causal_and_its_video_fit(net, tmp_path):
    with pytest.raises(OptionError, match="causal"):
        export_stream(net, tmp_path / "net.onnx", size=SIZE)
    video = torch.zeros(1, 5, 3, SIZE, SIZE)
    with pytest.raises(InputShapeError, match=r"\(2, n, 3, 32, 32\), got \(1, 5, 3, 32, 32\)"):
        export_stream(net, tmp_path / "net.onnx", size=SIZE, streams=2, video=video)


SIGNALS = """
import ctypes, gc, signal, subprocess, sys, torch
import kinema
from kinema.exporters.openvino_file import load_openvino
from kinema.inference.openvino_model import _SignalStack

signal.signal(signal.SIGCHLD, lambda *_: None)
net = kinema.create_model("tsn_test_resnet", classes=5, frames=2).eval()
kinema.export(net, sys.argv[1], size=32)
first, second = (load_openvino(sys.argv[1]) for _ in range(2))
first(torch.zeros(1, 2, 3, 32, 32)), second(torch.zeros(1, 2, 3, 32, 32))
del first
gc.collect()
del second
gc.collect()
stack = _SignalStack()
ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
assert stack.address is None, stack.address
subprocess.run(["true"])
"""


@pytest.mark.slow
def test_signals_find_a_stack_after_openvino_models_are_gone(tmp_path):
    words = [sys.executable, "-c", SIGNALS, str(tmp_path / "net.xml")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_formats_are_pinned():
    assert list(FORMATS) == ["onnx", "openvino", "exported", "aoti"]
