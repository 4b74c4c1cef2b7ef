"""`kinema import`: a published checkpoint, or an older one of ours, as a kinema checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinema.cli.console import JsonOption, notes, print_json, results
from kinema.errors import CheckpointError, TensorMismatchError

if TYPE_CHECKING:
    from kinema.models.network import VideoNetwork
    from kinema.values import Preprocessing


ModelOption = Annotated[
    str | None, typer.Option(help="The network the file was trained as, such as tsm_resnet50.")
]
LabelsOption = Annotated[
    str | None,
    typer.Option(help="Class names: a file, or a list such as kinetics400 or jester:sorted."),
]
FramesOption = Annotated[
    int | None,
    typer.Option(
        help="Frames of a clip; weights that depend on their number are interpolated.", min=1
    ),
]
DenseOption = Annotated[
    bool,
    typer.Option("--dense", help="It was trained on clips of 64 consecutive frames (Kinetics)."),
]
CausalOption = Annotated[
    bool, typer.Option("--causal", help="It is a causal network, such as the online TSM.")
]
ClassesOption = Annotated[
    int | None,
    typer.Option(help="Classes of a new classifier, for weights of an image network."),
]


def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="Published weight file, or a kinema checkpoint.")],
    out: Annotated[Path, typer.Option(help="New folder for the kinema checkpoint.")],
    model: ModelOption = None,
    labels: LabelsOption = None,
    frames: FramesOption = None,
    dense: DenseOption = False,
    causal: CausalOption = False,
    classes: ClassesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Convert a published checkpoint: every tensor finds its place, or it is an error.

    Known are the files of TSM, TEA, TAM, GST and mmaction2, and ImageNet weights (--classes).

    Example: kinema import TSM_kinetics_RGB_resnet50.pth --model tsm_resnet50
    --labels kinetics400 --dense --out tsm-k400
    """
    from kinema.data.classes import read_class_names
    from kinema.models.saved import CONFIG_FILE, save
    from kinema.values import Preprocessing

    names = read_class_names(labels) if labels is not None else None
    if (file / CONFIG_FILE).is_file():
        words = {"--model": model, "--dense": dense, "--causal": causal, "--classes": classes}
        if given := [name for name, value in words.items() if value]:
            fix = " It is not made causal afterwards: train it with model.causal=true."
            raise typer.BadParameter(
                f"{file} is a network of kinema, which says all but --frames and --labels itself: "
                f"leave out {' and '.join(given)}.{fix if causal else ''}"
            )
        net, preprocessing, own_names, document = _ours(file, frames)
        names = names or own_names
    else:
        if model is None:
            raise typer.BadParameter(
                "name the network that the file was trained as", param_hint="--model"
            )
        try:
            net, document = _converted(file, model, frames=frames, causal=causal, classes=classes)
        except TensorMismatchError as error:
            if as_json:
                print_json({"matched": 0, "unused": error.unused, "missing": error.missing})
            raise
        if names is not None and classes is None and len(names) != net.classes:
            raise CheckpointError(
                f"{file} has {net.classes} classes, but {len(names)} class names were given. "
                f"For a new, untrained classifier give --classes {len(names)}."
            )
        preprocessing = Preprocessing(
            frames=net.frames,
            sampling="dense" if dense else "segments",
            mean=net.input_mean,
            std=net.input_std,
        )
    if names is None:
        names = tuple(str(label) for label in range(net.classes))
        notes().print("The classes are named by their numbers; --labels gives them names.")
    card = {"Imported from": file.name}
    if document["missing"]:
        card["Not trained"] = "its answers mean nothing before it is trained on videos"
    save(net, out, labels=names, preprocessing=preprocessing, card=card)
    document = {"model": net.name, "out": str(out), "frames": net.frames, **document}
    if as_json:
        print_json(document)
    else:
        _print(document, net, preprocessing)


def _ours(
    file: Path, frames: int | None
) -> tuple["VideoNetwork", "Preprocessing", tuple[str, ...], dict[str, object]]:
    """A kinema checkpoint of this or an older release, for so many frames."""
    from dataclasses import replace

    from kinema.models.saved import load_saved

    saved = load_saved(file)
    net = saved.net.interpolate_frames(frames or saved.net.frames)
    preprocessing = replace(saved.preprocessing, frames=net.frames)
    document: dict[str, object] = {"matched": len(net.state_dict()), "unused": [], "missing": []}
    return net, preprocessing, saved.labels, document


def _converted(
    file: Path, model: str, *, frames: int | None, causal: bool, classes: int | None
) -> tuple["VideoNetwork", dict[str, object]]:
    from kinema.models.convert import import_checkpoint
    from kinema.models.zoo import create_model

    if classes is None:
        imported = import_checkpoint(file, model=model, frames=frames, causal=causal)
        return imported.net, {"matched": len(imported.matched), "unused": [], "missing": []}
    net = create_model(model, classes=classes, frames=frames or 8, weights=file, causal=causal)
    report = net.weights_report
    assert report is not None
    return net, {
        "matched": len(report.copied),
        "derived": list(report.derived),
        "unused": list(report.unused),
        "missing": list(report.new),
    }


def _print(document: dict[str, object], net: "VideoNetwork", how: "Preprocessing") -> None:
    out = results()
    out.print(f"{document['out']}: {net.name}, {net.classes} classes, {how.frames} frames")
    out.print(f"{document['matched']} tensors matched")
    for key, meaning in (
        ("derived", "start from slices of the file's tensors"),
        ("missing", "keep their own initialization"),
        ("unused", "of the file have no place"),
    ):
        found = document.get(key)
        if isinstance(found, list) and found:
            shown = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
            out.print(f"{len(found)} tensors {meaning}: {shown}")
    if document["missing"]:
        notes().print(
            "Its answers mean nothing until it is trained: "
            f"kinema train RECIPE model.weights={document['out']}"
        )
