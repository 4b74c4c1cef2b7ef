"""Weight files, and ImageNet weights for backbones.

Files are opened without executing code in them: safetensors, or torch files with
`weights_only=True`.
"""

import hashlib
import logging
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from kinema.errors import CheckpointError
from kinema.models.network import VideoNetwork
from kinema.models.snippets import SnippetResNet
from kinema.system.image_libraries import timm, torchvision
from kinema.values import WeightsReport

_log = logging.getLogger(__name__)

# Batches that a norm has seen; without effect, and missing in some files.
COUNTER = "num_batches_tracked"

# Key of the checksum in the metadata of a safetensors file.
_CHECKSUM = "kinema_sha256"

TensorMap = Mapping[str, torch.Tensor]
Shapes = Mapping[str, tuple[int, ...]]
# Errors of zipfile and torch.load for files that are damaged or would execute code.
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    OSError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
)


def read_tensors(path: str | Path) -> dict[str, torch.Tensor]:
    """Reads the named tensors of a .safetensors, .pth, .pt, .tar or .bin file.

    Unwraps a `state_dict` or `model` entry and removes a `module.` prefix.

    Raises:
        CheckpointError: the file is missing or damaged, would execute code, or has no tensors.
    """
    content = _content(Path(path))
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {
        str(name).removeprefix("module."): value
        for name, value in (content.items() if isinstance(content, Mapping) else ())
        if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise CheckpointError(f"{path} holds no named tensors.")
    return tensors


def read_config_text(path: str | Path) -> str:
    """The training configuration that mmaction2 stores with the weights; "" if there is none."""
    content = _content(Path(path))
    meta = content.get("meta") if isinstance(content, Mapping) else None
    # The key is "cfg" in mmaction2 1.x, "config" in 0.x.
    config = meta.get("cfg", meta.get("config")) if isinstance(meta, Mapping) else None
    return config if isinstance(config, str) else ""


def _content(file: Path) -> Any:
    """The object in a weight file; names of tensors and tensors if all is well."""
    if not file.is_file():
        raise CheckpointError(f"Weight file {file} does not exist.")
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    try:
        with _stand_ins(file):
            return load_without_code(file)
    except CheckpointError as error:
        raise CheckpointError(
            f"{file} is not a weight file that can be opened without running code in it ({error}). "
            "If it is one of PyTorch, copy or download it again."
        ) from error


@contextmanager
def _stand_ins(file: Path) -> Iterator[None]:
    """Lets a file hold objects of any class beside its tensors, such as settings and logs.

    PyTorch's reader without code refuses classes that it does not know. For those that the file
    names it gets empty classes instead: nothing is imported, and nothing of theirs is called. Files
    in the format of PyTorch before 1.6 are read as they are.
    """
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except _UNREADABLE:  # damaged or of the old format; reading it says which
        names = []
    if names:
        _log.info("%s: objects of %s are left out", file, ", ".join(sorted(names)))
    classes: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (type(name, (_StandIn,), {}), name) for name in names
    ]
    with torch.serialization.safe_globals(classes):
        yield


class _StandIn:
    """Takes whatever a pickle gives to an object, and keeps nothing."""

    def __new__(cls, *_: Any) -> "_StandIn":
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def tensor_shapes(path: str | Path) -> Shapes:
    """Reads the shapes of a .safetensors file from its header, without its tensors.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    with _open_safetensors(Path(path)) as opened:
        return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118 - no mapping


def write_tensors(tensors: TensorMap, file: Path) -> None:
    """Writes a .safetensors file with a checksum, which `read_tensors` compares."""
    save_file(dict(tensors), file, metadata={_CHECKSUM: _checksum(tensors)})


def load_without_code(file: Path) -> Any:
    """Content of a file of `torch.save`; its own checksums are compared first.

    Raises:
        CheckpointError: the file is damaged or would execute code; the message is the reason alone.
    """
    try:
        if zipfile.is_zipfile(file):
            _check_records(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(reason) from error


def _check_records(file: Path) -> None:
    """Compares the CRC-32 that PyTorch writes for every record, and does not compare itself."""
    with zipfile.ZipFile(file) as records:
        for record in records.infolist():
            if record.CRC == 0:  # written with torch.serialization.set_crc32_options(False)
                continue
            with records.open(record) as content:
                while content.read(1 << 20):
                    pass


def _read_safetensors(file: Path) -> dict[str, torch.Tensor]:
    with _open_safetensors(file) as opened:
        wanted = (opened.metadata() or {}).get(_CHECKSUM)
    tensors = load_file(file)
    if wanted not in (None, _checksum(tensors)):
        raise CheckpointError(
            f"{file} is damaged: its tensors do not match its checksum. Copy it again from where "
            "it came, or save the network again."
        )
    return tensors


@contextmanager
def _open_safetensors(file: Path) -> Iterator[Any]:
    if not file.is_file():
        raise CheckpointError(f"Weight file {file} does not exist.")
    try:
        with safe_open(file, framework="pt") as opened:
            yield opened
    except SafetensorError as error:
        raise CheckpointError(
            f"{file} is not a readable safetensors file: {error}. Copy it again from where it came."
        ) from error


def _checksum(tensors: TensorMap) -> str:
    """SHA-256 of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_imagenet(net: VideoNetwork, weights: str | Path) -> WeightsReport:
    """Loads ImageNet weights into the backbone of a network without temporal modules.

    Args:
        net: The network; its classifier keeps its random initialization.
        weights: "imagenet" (the published weights `imagenet_file` names, which need internet access
            or a filled cache) or a file with the tensor names of timm or torchvision.

    Raises:
        CheckpointError: a tensor of the backbone is missing or has another shape, or the download
            failed.
    """
    if str(weights) == "imagenet":
        name = imagenet_file(net.facts.name)
        tensors, source = _published(name), f"ImageNet weights of {name}"
    else:
        tensors, source = read_tensors(weights), str(weights)
    tensors = _renamed(net.backbone, tensors)
    copied, unused = fill(net.backbone, tensors, source=source, classifier=net.facts.classifier)
    new = [name for name, _ in net.head.named_parameters(prefix="head")]
    return WeightsReport(
        source=source,
        copied=tuple(f"backbone.{name}" for name in copied),
        new=tuple(new),
        unused=tuple(unused),
    )


def fill(
    module: nn.Module, tensors: TensorMap, *, source: str, classifier: str = ""
) -> tuple[list[str], list[str]]:
    """Copies `tensors` into `module`; returns the copied and the unused names.

    Raises:
        CheckpointError: a tensor is missing or has another shape. Counters may be missing.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    unused = check_shapes(module, shapes, source=source, classifier=classifier)
    target = module.state_dict()
    copied = [n for n in target if n in tensors]
    module.load_state_dict({n: tensors.get(n, target[n]) for n in target})
    return copied, unused


def check_shapes(
    module: nn.Module, shapes: Shapes, *, source: str, classifier: str = ""
) -> list[str]:
    """Compares the tensors of a file with those of a module, which may be on the meta device.

    Returns:
        Names of the file that are not in the module.

    Raises:
        CheckpointError: a tensor is missing or has another shape. Counters may be missing.
    """
    target = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    missing = [n for n in target if n not in shapes and not n.endswith(COUNTER)]
    wrong = [
        f"{n} is {shapes[n]} in the file, {target[n]} in the network"
        for n in target
        if n in shapes and shapes[n] != target[n]
    ]
    unused = sorted(set(shapes) - set(target))
    if missing or wrong:
        foreign = [n for n in unused if not classifier or not n.startswith(classifier + ".")]
        raise CheckpointError(_mismatch(source, missing, wrong, foreign, len(target)))
    return unused


def new_in_modules(net: VideoNetwork) -> set[str]:
    """Names of the tensors in temporal modules, and a short-term branch, that started from nothing.

    The others came from a replaced convolution (`TemporalModule.inherited`) or from the weight
    file, which fills whole modules when a trained network is transferred to other classes.
    """
    own = {
        f"{name}.{part}"
        for name, module in net.temporal_modules()
        for part in module.state_dict()
        if not part.startswith(module.inherited) and not part.endswith(COUNTER)
    }
    if isinstance(net.backbone, SnippetResNet):
        own |= {f"backbone.{name}" for name in net.backbone.new_tensors()}
    return own - set(net.weights_report.copied if net.weights_report is not None else ())


def _mismatch(
    source: str, missing: list[str], wrong: list[str], unused: list[str], total: int
) -> str:
    lines = [f"{source} does not fit this network."]
    if missing:
        lines.append(f"Missing in the file: {some(missing)} ({len(missing)} of {total}).")
    if wrong:
        lines.append(f"Other shape: {some(wrong)}.")
    if unused:
        lines.append(f"In the file without a place in the network: {some(unused)}.")
    lines.append(
        "Choose the file of the same backbone (`kinema import` turns published checkpoints of "
        "video networks into a folder to start from), or none."
    )
    return " ".join(lines)


def some(names: Sequence[str], shown: int = 3) -> str:
    """The first names of a list."""
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")


def _renamed(backbone: nn.Module, tensors: TensorMap) -> dict[str, torch.Tensor]:
    """Renames published tensors: Res2Net's convolutions are one level deeper here."""
    ours = set(backbone.state_dict())
    renamed = {}
    for name, tensor in tensors.items():
        deeper = name.replace(".convs.", ".conv2.convs.").replace(".bns.", ".conv2.bns.")
        renamed[deeper if name not in ours and deeper in ours else name] = tensor
    return renamed


def imagenet_file(backbone: str) -> str:
    """Name of the published weights that "imagenet" means for a backbone, with their recipe.

    It is that of the backbone, if it has one, such as "resnet50.a1_in1k". Otherwise it is
    torchvision's first file, from which the code of TSM, TANet, GST and GSF starts, and the
    default of timm where there is none.

    Example:
        >>> imagenet_file("resnet50"), imagenet_file("mobilenetv2_100")
        ('resnet50.tv_in1k', 'mobilenetv2_100.ra_in1k')
    """
    if not timm.is_model(backbone):
        return f"{backbone}.{torchvision.models.get_model_weights(backbone)['DEFAULT'].name}"
    if "." in backbone:
        return backbone
    papers = f"{backbone}.tv_in1k"
    if papers in timm.list_pretrained(f"{backbone}.*"):
        return papers
    default = timm.models.get_pretrained_cfg(backbone)
    return backbone if default is None or not default.tag else f"{backbone}.{default.tag}"


def _published(name: str) -> dict[str, torch.Tensor]:
    """Fetches the ImageNet weights `imagenet_file` names, under their published tensor names.

    Raises:
        CheckpointError: they are not in the local cache and cannot be downloaded.
    """
    _log.info("Fetching the ImageNet weights of %s, unless they were fetched before", name)
    try:
        if timm.is_model(name):
            return dict(timm.create_model(name, pretrained=True).state_dict())
        url = torchvision.models.get_model_weights(name.partition(".")[0])["DEFAULT"].url
        # The file may come from a cache that others filled: it must not run code either.
        return dict(torch.hub.load_state_dict_from_url(url, progress=False, weights_only=True))
    except _UNREADABLE as error:
        raise CheckpointError(
            f"The ImageNet weights of {name} could not be fetched "
            f"({str(error).splitlines()[0][:200]}). Connect to the internet once, or give "
            "the path of a weight file instead (model.weights in a recipe)."
        ) from error
