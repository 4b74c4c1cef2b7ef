"""Second stage of the job: views to labels, Arrow tables in and out.

Letters: V views of a video, B videos, T frames, H, W, K classes, D features, O = K or K + D.
"""

import time
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kinema.archive.arrow import pa
from kinema.archive.decode_stage import DecodeStage
from kinema.archive.output import row_schema
from kinema.archive.settings import Work
from kinema.data.transforms import normalize
from kinema.errors import OptionError, UnreadableVideoError
from kinema.inference.optimize import optimize
from kinema.inference.predict import ClipRecognizer
from kinema.inference.runtime import Form, build_run
from kinema.inference.view_mean import mean_scores, summands
from kinema.models.network import Run, VideoNetwork
from kinema.plugin import load_plugin
from kinema.system.process import keep_freed_memory
from kinema.system.text import visible

# Columns beside those of the output: the video's place in the job, and the time at which its batch
# reached the network (seconds of the epoch).
BESIDE = (pa.field("number", pa.int64()), pa.field("began", pa.float64()))
# Videos that are tried as an example for measuring the fastest form.
_EXAMPLES = 32


class LabelStage:
    """Runs the network on views; makes the rows of the output, with the number of each video."""

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
            example = torch.zeros(work.views_at_once, *work.shape[1:], device=device)
            self._run = build_run(net, work.form, example)
        self._schema = pa.schema([*BESIDE, *row_schema(features=work.settings.features)])

    def __call__(self, batch: Any) -> Any:
        """Makes a row for each video; a video that failed has an error and nothing else."""
        began = time.time()
        rows: dict[int, dict[str, Any]] = {}
        good = np.flatnonzero(batch["views"].is_valid().to_numpy())
        if len(good):
            # Buffers, because Python's bytes would be a copy of the views.
            outputs = self._outputs([batch["views"][int(place)].as_buffer() for place in good])
            rows = {int(place): self._row(out) for place, out in zip(good, outputs, strict=True)}
        facts = zip(*(batch[name].to_pylist() for name in ("number", "path", "error")), strict=True)
        full = [
            {"number": number, "began": began, "path": path, "error": error, **rows.get(place, {})}
            for place, (number, path, error) in enumerate(facts)
        ]
        return pa.Table.from_pylist(full, schema=self._schema)

    def _outputs(self, videos: list[Any]) -> NDArray[np.float32]:
        """Returns the mean over the views of every video: (B, K), or (B, K + D) with features."""
        shape, how = self._work.shape, self._work.preprocessing
        views = np.concatenate([np.frombuffer(video, np.uint8).reshape(shape) for video in videos])
        # Views of several videos share a forward pass; the last one may be smaller.
        parts = []
        for clips_VTCHW in torch.split(torch.from_numpy(views), self._work.views_at_once):
            on_device = clips_VTCHW.to(self._recognizer.device)
            with torch.inference_mode():
                parts.append(self._run(normalize(on_device, how.mean, how.std)).double().cpu())
        outputs_BVO = torch.unflatten(torch.cat(parts), 0, (-1, shape[0])).numpy()
        classes, average = self._classes, how.average
        means_BK = summands(outputs_BVO[..., :classes], average).mean(1)
        features_BD = outputs_BVO[..., classes:].mean(1).astype(np.float32)
        return np.concatenate([mean_scores(means_BK, average), features_BD], 1)

    def _row(self, output: NDArray[np.float32]) -> dict[str, Any]:
        named = self._recognizer.prediction_of(
            output[: self._classes], path="", top=self._work.settings.top
        )
        row: dict[str, Any] = {"top": [{**c.to_dict(), "name": visible(c.name)} for c in named.top]}
        if self._work.settings.features:
            row["features"] = output[self._classes :]
        return row


def fastest_form(work: Work, paths: list[str]) -> Form:
    """Measures the fastest form of the network on the first of these videos that is readable.

    Every worker of a job runs this one form, so that a video's row does not depend on the worker.
    """
    recognizer = _recognizer(work)
    net = with_features(recognizer.net) if work.settings.features else recognizer.net
    clips_VTCHW = torch.randint(256, work.shape, dtype=torch.uint8)  # if no video is readable
    with DecodeStage(work) as decoder:
        for path in paths[:_EXAMPLES]:
            try:
                clips_VTCHW = torch.from_numpy(
                    np.concatenate(decoder.read(path)).reshape(work.shape)
                )
                break
            except UnreadableVideoError:
                continue
    how = work.preprocessing
    again = -(-work.views_at_once // len(clips_VTCHW))
    clips_VTCHW = clips_VTCHW.repeat(again, 1, 1, 1, 1)[: work.views_at_once]
    example = normalize(clips_VTCHW.to(recognizer.device), how.mean, how.std)
    return optimize(net, example=example).choice.form


def with_features(net: VideoNetwork) -> VideoNetwork:
    """Copies a network so that it outputs the scores and the mean features: (B, K + D).

    The copy's classifier has an identity below its own rows. The features before the classifier
    thus leave the network with the scores, in every runtime.

    Raises:
        OptionError: the scores are no linear function of the mean features.
    """
    if net.head.relations is not None:
        raise OptionError(
            f"The scores of {net.name} are no mean over the frames, so its features cannot be "
            "written beside them. Leave out --features."
        )
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
