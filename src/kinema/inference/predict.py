"""Prediction: class probabilities of videos from a saved network.

Letters: V views, T frames, H, W, K classes.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from kinema.data.sampling import sampling_of
from kinema.data.transforms import ViewTransform, normalize
from kinema.errors import CheckpointError, InputShapeError, check_range
from kinema.inference.optimize import optimized_at_first
from kinema.inference.view_mean import mean_scores, summands
from kinema.models.network import Run, VideoNetwork
from kinema.models.published.folder import checkpoint_folder
from kinema.models.saved import load_saved
from kinema.system.machine import find_device
from kinema.values import ClassProb, Prediction, Preprocessing, Views
from kinema.video.decode import open_source
from kinema.video.device_file import open_on_device
from kinema.video.remote import local_file, without_secrets

ReadFrames = Callable[[NDArray[np.int64]], torch.Tensor]


class ClipRecognizer:
    """Trained network with class names and preprocessing, for whole videos.

    `kinema.Recognizer` adds streams and timelines.

    Attributes:
        net: The network, in eval mode.
        labels: The K class names.
        preprocessing: Sampling and preprocessing of clips, as in training.
        device: Device of the network.
        score: The network or its fast form, from normalized clips (V, T, 3, H, W) to scores (V, K).
    """

    def __init__(
        self,
        net: VideoNetwork,
        labels: tuple[str, ...],
        preprocessing: Preprocessing,
        *,
        device: torch.device | str | None = None,
        fast: bool = False,
    ) -> None:
        self.device = find_device(device)
        self.net = net.to(self.device).lay_out_weights().eval()
        self.labels = labels
        self.preprocessing = preprocessing
        self.score: Run = optimized_at_first(self.net) if fast else self.net

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        device: torch.device | str | None = None,
        fast: bool = False,
    ) -> Self:
        """Loads a folder written by training or by `kinema.save`, or a published network.

        Args:
            folder: The checkpoint, or the name of a published network, such as
                "tsm_resnet50:kinetics400", or an address of the Hugging Face Hub, such as
                "hf://owner/repository@revision"; these are fetched the first time.
            device: Device; default: a GPU if there is one.
            fast: Uses the fastest form of the network on this machine (`kinema.optimize`),
                measured on the first clip.

        Raises:
            CheckpointError: the folder is not a checkpoint, or its parts do not match.
            OptionError: the address is incomplete.
            MissingExtraError: an hf:// address without the extra `hub`.
            UnknownNameError: there is no such published network.
            FetchError: it cannot be fetched; the message says how to get it by hand.

        Example:
            `ClipRecognizer.load("runs/first/best").predict("video.mp4").top[0].name`
        """
        saved = load_saved(checkpoint_folder(folder))
        return cls(saved.net, saved.labels, saved.preprocessing, device=device, fast=fast)

    def predict(
        self,
        path: str | Path,
        *,
        clips: int = 1,
        crops: int = 1,
        top: int = 5,
        decode_on: torch.device | str | None = None,
    ) -> Prediction:
        """Predicts the classes of a video file or folder of frames.

        Args:
            path: The video; a text that begins with s3://, gs://, http:// or https:// is read
                through a temporary copy.
            clips: Number of clips over the length of the video.
            crops: Crops per clip: 1, 3 or 10.
            top: Maximum number of classes to return.
            decode_on: GPU that decodes, such as "cuda" (extra `nvdec`); default: the CPU.

        Raises:
            OptionError: an option is outside its range.
            UnreadableVideoError: the video cannot be read; the message says why.
            MissingExtraError: `decode_on` or the address needs packages that are not installed.
        """
        check_range(at_least=1, top=top)
        views = Views(clips=clips, crops=crops)
        with local_file(path) as file:
            if decode_on is None:
                opened = open_source(file, threads=torch.get_num_threads())
            else:
                opened = open_on_device(file, decode_on)
            with opened as source:
                scores = self._mean_scores(source.read, source.info.frames, views)
        return self.prediction_of(scores, path=without_secrets(path), top=top)

    def predict_frames(
        self,
        frames: NDArray[np.uint8] | torch.Tensor | Sequence[NDArray[np.uint8]],
        *,
        clips: int = 1,
        crops: int = 1,
        top: int = 5,
    ) -> Prediction:
        """Predicts the classes of a video in memory, with the result of the same video in a file.

        Args:
            frames: All frames (n, H, W, 3) or (n, 3, H, W), uint8, RGB, or a list of n frames.
            clips: See `predict`.
            crops: See `predict`.
            top: See `predict`.

        Raises:
            OptionError: an option is outside its range.
            InputShapeError: the frames have another shape or type, or the list is empty.
        """
        check_range(at_least=1, top=top)
        views = Views(clips=clips, crops=crops)
        if not isinstance(frames, np.ndarray | torch.Tensor):
            frames = _one_array(frames)
        scores = self._mean_scores(_reader(frames), len(frames), views)
        return self.prediction_of(scores, path="frames in memory", top=top)

    def _mean_scores(self, read: ReadFrames, total: int, views: Views) -> NDArray[np.float32]:
        """Mean scores over all views, with one clip in memory at a time."""
        how = self.preprocessing
        transform = ViewTransform(how, views)
        sums = np.zeros(self.net.classes, np.float64)
        # The sampling rule of the training chooses the frames of each clip, of which only these
        # are decoded.
        for clip in sampling_of(how, views).test(total, views.clips):
            # Crops are cut from uint8 frames, and only they go to the device and become floats.
            crops_VTCHW = transform(read(clip)).to(self.device)
            with torch.inference_mode():
                scores_VK = self.score(normalize(crops_VTCHW, how.mean, how.std))
            sums += summands(scores_VK.double().cpu().numpy(), how.average).sum(0)
        return mean_scores(sums / views.count, how.average)

    def prediction_of(
        self, scores_K: NDArray[np.float32], *, path: str, top: int = 5
    ) -> Prediction:
        """Returns the `top` most probable classes for scores (K,) before softmax.

        Raises:
            CheckpointError: the scores are not finite.
        """
        check_finite(scores_K, path)
        probs_K = np.exp(scores_K - scores_K.max())  # softmax; the maximum avoids overflow
        probs_K /= probs_K.sum()
        best = np.argsort(-probs_K, kind="stable")[:top]
        named = tuple(ClassProb(int(k), self.labels[k], float(probs_K[k])) for k in best)
        return Prediction(path, named, scores_K)


def check_finite(scores: NDArray[np.float32], of: str) -> None:
    """Raises a CheckpointError for scores that are infinite or NaN."""
    if not np.isfinite(scores).all():
        raise CheckpointError(
            f"The network's scores for {of} are not finite: its weights are damaged, or its "
            "training failed."
        )


def _one_array(frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    try:
        return np.stack([np.asarray(frame) for frame in frames])
    except (TypeError, ValueError) as error:
        raise InputShapeError(
            f"predict_frames expects an array, a tensor or a list of frames of one size: {error}."
        ) from error


def _reader(frames: NDArray[np.uint8] | torch.Tensor) -> ReadFrames:
    """Returns a reader of frames in memory; copies only the requested frames."""
    shape = tuple(frames.shape)
    is_bytes = frames.dtype in (torch.uint8, np.uint8)
    if len(shape) != 4 or not is_bytes or 3 not in (shape[1], shape[3]) or 0 in shape:
        raise InputShapeError(
            "predict_frames expects uint8 RGB frames of shape (n, H, W, 3) or (n, 3, H, W), got "
            f"{shape} {frames.dtype}."
        )

    def read(chosen: NDArray[np.int64]) -> torch.Tensor:
        if isinstance(frames, torch.Tensor):
            picked = frames[torch.from_numpy(chosen)]
        else:
            picked = torch.from_numpy(frames[chosen])
        return picked.permute(0, 3, 1, 2) if shape[3] == 3 else picked

    return read
