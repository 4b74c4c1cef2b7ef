"""`kinema import`: converts a published or an older checkpoint into a kinema checkpoint."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinema.cli.console import (
    JsonOption,
    OptionOption,
    find_checkpoint,
    notes,
    parse_options,
    print_json,
    results,
    show_log,
)
from kinema.errors import CheckpointError, TensorMismatchError

if TYPE_CHECKING:
    from kinema.models.network import VideoNetwork
    from kinema.values import Preprocessing


ModelOption = Annotated[
    str | None, typer.Option(help="Network that the file was trained as, such as tsm_resnet50.")
]
LabelsOption = Annotated[
    str | None,
    typer.Option(help="Class names: a file, or a list such as kinetics400 or jester:sorted."),
]
FramesOption = Annotated[
    int | None,
    typer.Option(
        help="Frames per clip; weights that depend on this number are interpolated.", min=1
    ),
]
DenseOption = Annotated[
    bool,
    typer.Option("--dense", help="Trained on clips of 64 consecutive frames (Kinetics)."),
]
CausalOption = Annotated[
    bool, typer.Option("--causal", help="Trained as a causal network, such as the online TSM.")
]
TemporalPoolOption = Annotated[
    bool,
    typer.Option(
        "--temporal-pool",
        help="Trained with half of the frames from res3 on; a file of TSM's code shows it itself.",
    ),
]
ClassesOption = Annotated[
    int | None,
    typer.Option(help="Classes of a new classifier, for weights of an image network."),
]


@dataclass(frozen=True)
class _Imported:
    """A converted network and what `--json` says about its tensors."""

    net: "VideoNetwork"
    preprocessing: "Preprocessing"
    class_names: tuple[str, ...] | None
    tensors: dict[str, object]


def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="Published weight file, or a kinema checkpoint.")],
    out: Annotated[Path, typer.Option(help="New folder for the kinema checkpoint.")],
    model: ModelOption = None,
    labels: LabelsOption = None,
    frames: FramesOption = None,
    dense: DenseOption = False,
    causal: CausalOption = False,
    temporal_pool: TemporalPoolOption = False,
    classes: ClassesOption = None,
    option: OptionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Convert a published checkpoint; a tensor that does not match is an error.

    Supports the files of TSM, TEA, TAM, GST, GSF, CT-Net, SmallBigNet, TDN and mmaction2, and
    ImageNet weights (--classes).

    Example: kinema import TSM_kinetics_RGB_resnet50.pth --model tsm_resnet50
    --labels kinetics400 --out tsm-k400
    """
    from kinema.data.classes import read_class_names
    from kinema.models.saved import CONFIG_FILE, save

    show_log()  # warns of what the file does not say
    names = read_class_names(labels) if labels is not None else None
    file = find_checkpoint(file)
    if (file / CONFIG_FILE).is_file():
        _check_own_options(
            file,
            {
                "--model": model,
                "--dense": dense,
                "--causal": causal,
                "--temporal-pool": temporal_pool,
                "--classes": classes,
                "--option": option,
            },
        )
        imported = _load_own(file, frames)
    elif model is None:
        raise typer.BadParameter(
            "name the network that the file was trained as", param_hint="--model"
        )
    else:
        try:
            imported = _convert(
                file,
                model,
                frames=frames,
                dense=dense,
                classes=classes,
                causal=causal,
                temporal_pool=temporal_pool,
                **parse_options(option),
            )
        except TensorMismatchError as error:
            if as_json:
                print_json({"matched": 0, "unused": error.unused, "missing": error.missing})
            raise
        if names is not None and classes is None and len(names) != imported.net.classes:
            raise CheckpointError(
                f"{file} has {imported.net.classes} classes, but {len(names)} class names were "
                f"given. For a new, untrained classifier give --classes {len(names)}."
            )
    names = names or imported.class_names
    if names is None:
        names = tuple(str(label) for label in range(imported.net.classes))
        notes().print("Classes are named by their numbers; --labels gives them names.")
    card = {"Imported from": file.name}
    if imported.tensors["missing"]:
        card["Not trained"] = "its predictions mean nothing before it is trained on videos"
    net = imported.net
    save(net, out, labels=names, preprocessing=imported.preprocessing, card=card)
    document = {"model": net.name, "out": str(out), "frames": net.frames, **imported.tensors}
    if as_json:
        print_json(document)
    else:
        _print(document, imported)


def _check_own_options(file: Path, given: dict[str, object]) -> None:
    """Raises for options that a kinema checkpoint already defines."""
    if names := [name for name, value in given.items() if value]:
        fix = " A trained network cannot be made causal: train it with model.causal=true."
        raise typer.BadParameter(
            f"{file} is a kinema checkpoint, which defines everything but --frames and --labels: "
            f"leave out {' and '.join(names)}.{fix if given['--causal'] else ''}"
        )


def _load_own(file: Path, frames: int | None) -> _Imported:
    """Loads a kinema checkpoint of this or an older release, interpolated to `frames` frames."""
    from kinema.models.saved import load_saved

    saved = load_saved(file)
    net = saved.net.interpolate_frames(frames or saved.net.frames)
    tensors: dict[str, object] = {"matched": len(net.state_dict()), "unused": [], "missing": []}
    return _Imported(net, replace(saved.preprocessing, frames=net.frames), saved.labels, tensors)


def _convert(
    file: Path,
    model: str,
    *,
    frames: int | None,
    dense: bool,
    classes: int | None,
    **options: Any,
) -> _Imported:
    """Converts a published checkpoint, or image weights for a new classifier of `classes`."""
    from kinema.models.convert import import_checkpoint
    from kinema.models.zoo import create_model
    from kinema.values import Preprocessing, SamplingName

    tensors: dict[str, object]
    if classes is None:
        imported = import_checkpoint(file, model=model, frames=frames, **options)
        net = imported.net
        tensors = {"matched": len(imported.matched), "unused": [], "missing": []}
    else:
        net = create_model(model, classes=classes, frames=frames or 8, weights=file, **options)
        report = net.weights_report
        assert report is not None
        tensors = {
            "matched": len(report.copied),
            "derived": list(report.derived),
            "unused": list(report.unused),
            "missing": list(report.new),
        }
    sampling: SamplingName = "dense" if dense else "segments"
    preprocessing = Preprocessing(
        frames=net.frames,
        sampling=sampling,
        mean=net.input_mean,
        std=net.input_std,
        snippet=net.snippet,
    )
    return _Imported(net, preprocessing, None, tensors)


def _print(document: dict[str, object], imported: _Imported) -> None:
    out, net = results(), imported.net
    frames = imported.preprocessing.frames
    out.print(f"{document['out']}: {net.name}, {net.classes} classes, {frames} frames")
    out.print(f"{document['matched']} tensors matched")
    for key, meaning in (
        ("derived", "initialized from slices of the file's tensors"),
        ("missing", "not in the file, initialized as usual"),
        ("unused", "of the file unused"),
    ):
        found = document.get(key)
        if isinstance(found, list) and found:
            shown = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
            out.print(f"{len(found)} tensors {meaning}: {shown}")
    if document["missing"]:
        notes().print(
            "Its predictions mean nothing until it is trained: "
            f"kinema train RECIPE model.weights={document['out']}"
        )
