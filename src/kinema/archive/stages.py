"""What the decoders do: paths to views, Arrow tables in and out.

There are many of them, so this loads neither PyTorch nor a network. Letters: V views, T frames.
"""

import math
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kinema.archive.arrow import pa
from kinema.archive.listing import as_text, file_of
from kinema.archive.output import row_schema
from kinema.archive.settings import LabelSettings
from kinema.data.transforms import normalize
from kinema.decoders.isolated import DecodeOrder, IsolatedDecoder
from kinema.errors import UnreadableVideoError
from kinema.inference.optimize import optimize
from kinema.inference.predict import ClipRecognizer
from kinema.inference.runtime import Form, build_run
from kinema.models.network import Run, VideoNetwork
from kinema.system.closing import Closing
from kinema.system.process import keep_freed_memory
from kinema.temporal.plugin import load_plugin
from kinema.values import Preprocessing

# Videos on their way to a decoder: their place in the job, which never reaches the output.
PENDING_SCHEMA = pa.schema([("number", pa.int64()), ("path", pa.string())])
_VIEWS_SCHEMA = pa.schema(
    [*PENDING_SCHEMA, ("views", pa.large_binary()), ("error", pa.string())],
)


class DecodeStage(Closing):
    """Paths to views, one video after another.

    Args:
        root: Folder that relative paths start from.
        order: What is wanted of every video.
    """

    def __init__(self, root: str, order: DecodeOrder) -> None:
        self._root = Path(root)
        self._decoder = IsolatedDecoder(order)

    def __call__(self, todo: Any) -> Any:
        """Adds the columns views (V*T*3*H*W bytes, or null) and error."""
        read = [self._views(path) for path in todo["path"].to_pylist()]
        columns = {
            "number": todo["number"],
            "path": todo["path"],
            "views": pa.array([views for views, _ in read], pa.large_binary()),
            "error": pa.array([error for _, error in read], pa.string()),
        }
        return pa.table(columns, schema=_VIEWS_SCHEMA)

    def close(self) -> None:
        """Ends the decoder."""
        self._decoder.close()

    def _views(self, path: str) -> tuple[bytes | None, str | None]:
        try:
            return self._decoder.read(file_of(self._root, path)).tobytes(), None
        except UnreadableVideoError as error:
            return None, as_text(str(error))


# What travels beside the columns of the output: the video's place in the job, and when its batch
# came to the network (seconds of the epoch).
BESIDE = (pa.field("number", pa.int64()), pa.field("began", pa.float64()))
# Views of one forward pass on a GPU. On the CPU it is one clip, or one video with the fastest form,
# which knows itself how to divide it.
_GPU_VIEWS = 32
# Videos that are tried for an example when the fastest form is looked for.
_EXAMPLES = 32


@dataclass(frozen=True)
class Work:
    """All that a worker has to know.

    Attributes:
        checkpoint: Folder of the network.
        root: Folder that relative paths start from.
        preprocessing: That of the network.
        settings: What becomes of every video.
        device: "cpu" or "cuda".
        threads: CPU threads of the network.
        plugins: Files with temporal modules.
        form: How the network runs; None for the plain network.
    """

    checkpoint: str
    root: str
    preprocessing: Preprocessing
    settings: LabelSettings
    device: str
    threads: int
    plugins: tuple[str, ...]
    form: Form | None = None

    @property
    def views_at_once(self) -> int:
        """Views of one forward pass, also of several videos."""
        if self.device == "cuda":
            return _GPU_VIEWS
        return self.settings.views.count if self.settings.fast else self.settings.crops

    @property
    def video_bytes(self) -> int:
        """Size of a video's views."""
        return math.prod(self.order.shape)

    @property
    def order(self) -> DecodeOrder:
        """What is wanted of the decoders."""
        wanted = self.settings
        return DecodeOrder(
            self.preprocessing, wanted.clips, wanted.crops, wanted.decode_s, wanted.decode_mb
        )


class LabelStage:
    """Views to rows of the output, with the number of each.

    Args:
        work: The job.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._recognizer = _recognizer(work)
        self._classes = self._recognizer.net.classes
        net = self._recognizer.net
        if work.settings.features:
            net = with_features(net)
        device = self._recognizer.device
        self._run: Run = net
        if work.form is not None:
            example = torch.zeros(work.views_at_once, *work.order.shape[1:], device=device)
            self._run = build_run(net, work.form, example)
        self._schema = pa.schema([*BESIDE, *row_schema(features=work.settings.features)])

    def __call__(self, batch: Any) -> Any:
        """A row for each video; that of a failed one has an error and nothing else."""
        began = time.time()
        rows: dict[int, dict[str, Any]] = {}
        good = np.flatnonzero(batch["views"].is_valid().to_numpy())
        if len(good):
            outputs = self._outputs([batch["views"][int(place)].as_buffer() for place in good])
            rows = {int(place): self._row(out) for place, out in zip(good, outputs, strict=True)}
        facts = zip(*(batch[name].to_pylist() for name in ("number", "path", "error")), strict=True)
        full = [
            {"number": number, "began": began, "path": path, "error": error, **rows.get(place, {})}
            for place, (number, path, error) in enumerate(facts)
        ]
        return pa.Table.from_pylist(full, schema=self._schema)

    def _outputs(self, videos: list[Any]) -> NDArray[np.float32]:
        """Mean over the views of every video: (B, K), or (B, K + D) with features."""
        shape, how = self._work.order.shape, self._work.preprocessing
        views = np.concatenate([np.frombuffer(video, np.uint8).reshape(shape) for video in videos])
        parts = []
        for clips_VTCHW in torch.split(torch.from_numpy(views), self._work.views_at_once):
            on_device = clips_VTCHW.to(self._recognizer.device)
            with torch.inference_mode():
                parts.append(self._run(normalize(on_device, how.mean, how.std)).double().cpu())
        mean_BO: NDArray[np.float32] = (
            torch.unflatten(torch.cat(parts), 0, (-1, shape[0])).mean(1).float().numpy()
        )
        return mean_BO

    def _row(self, output: NDArray[np.float32]) -> dict[str, Any]:
        named = self._recognizer.prediction_of(
            output[: self._classes], path="", top=self._work.settings.top
        )
        row: dict[str, Any] = {"top": [c.to_dict() for c in named.top]}
        if self._work.settings.features:
            row["features"] = output[self._classes :]
        return row


def fastest_form(work: Work, paths: list[str]) -> Form:
    """How the network runs fastest here, measured on the first of these videos that is readable.

    Every worker of a job runs this one form, so that a video's row does not depend on which
    worker it met.
    """
    recognizer = _recognizer(work)
    net = with_features(recognizer.net) if work.settings.features else recognizer.net
    clips_VTCHW = torch.randint(256, work.order.shape, dtype=torch.uint8)  # where none is readable
    with IsolatedDecoder(work.order) as decoder:
        for path in paths[:_EXAMPLES]:
            try:
                clips_VTCHW = torch.from_numpy(decoder.read(file_of(Path(work.root), path)).copy())
                break
            except UnreadableVideoError:
                continue
    how = work.preprocessing
    again = -(-work.views_at_once // len(clips_VTCHW))
    clips_VTCHW = clips_VTCHW.repeat(again, 1, 1, 1, 1)[: work.views_at_once]
    example = normalize(clips_VTCHW.to(recognizer.device), how.mean, how.std)
    return optimize(net, example=example).choice.form


def with_features(net: VideoNetwork) -> VideoNetwork:
    """A copy whose outputs (B, K + D) are the scores and the mean features before the classifier.

    The classifier gets an identity below its own rows, so every runtime gives the features with
    the scores.
    """
    copy = deepcopy(net)
    old = copy.head.classifier
    joined = nn.Linear(old.in_features, old.out_features + old.in_features)
    eye = torch.eye(old.in_features, device=old.weight.device)
    with torch.no_grad():
        joined.weight.data = torch.cat([old.weight, eye])
        joined.bias.data = torch.cat([old.bias, eye.new_zeros(old.in_features)])
    copy.head.classifier = joined
    return copy.eval()


def _recognizer(work: Work) -> ClipRecognizer:
    for plugin in work.plugins:
        load_plugin(plugin)
    torch.set_num_threads(work.threads)
    if work.device == "cpu":
        keep_freed_memory()
    return ClipRecognizer.load(work.checkpoint, device=work.device)
