"""Prediction: class probabilities of videos from a saved network.

Letters: V views, T frames, H, W, K classes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from itertools import count
from pathlib import Path
from typing import Any, Self, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray

from kinema.data.sampling import sampling_of
from kinema.data.transforms import ViewTransform, normalize
from kinema.errors import CheckpointError, OptionError, check_range, check_whole
from kinema.inference.optimize import optimized_at_first
from kinema.inference.video_input import (
    Video,
    VideoFile,
    one_array,
    opened_video,
    reader_of,
    several_videos,
)
from kinema.inference.view_mean import mean_scores, summands
from kinema.models.network import Run, VideoNetwork
from kinema.models.published.folder import checkpoint_folder
from kinema.models.saved import load_saved
from kinema.system.machine import find_device
from kinema.values import AverageName, ClassProb, Prediction, Preprocessing, Views

Progress = Callable[[int, int], None]
Result = TypeVar("Result")


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

    def __call__(
        self, video: Video | Iterable[Video], *, clips: int = 1, crops: int = 1, top: int = 5
    ) -> Any:
        """Predicts the classes of a video, or of several: `predict`, with a list for several."""
        found = self.predict(video, clips=clips, crops=crops, top=top)
        return found if isinstance(found, Prediction) else list(found)

    def __repr__(self) -> str:
        names = ", ".join(self.labels[:5]) + (", ..." if len(self.labels) > 5 else "")
        how = self.preprocessing
        return (
            f"{type(self).__name__}({self.net.name}, {len(self.labels)} classes: {names}; clips of "
            f"{how.frames} x {how.crop_px} x {how.crop_px}; {self.device})"
        )

    @overload
    def predict(
        self,
        video: VideoFile,
        *,
        clips: int = 1,
        crops: int = 1,
        top: int = 5,
        decode_on: torch.device | str | None = None,
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        video: Video | Iterable[Video],
        *,
        clips: int = 1,
        crops: int = 1,
        top: int = 5,
        decode_on: torch.device | str | None = None,
        progress: Progress | None = None,
    ) -> Any: ...

    def predict(
        self,
        video: Video | Iterable[Video],
        *,
        clips: int = 1,
        crops: int = 1,
        top: int = 5,
        decode_on: torch.device | str | None = None,
        progress: Progress | None = None,
    ) -> Prediction | Iterator[Prediction]:
        """Predicts the classes of a video, or of several.

        A video is a file or a folder of frames, an address (a text that begins with s3://, gs://,
        http:// or https://, read through a temporary copy), the bytes of a file, a file object
        opened in binary mode, or all its frames: an array or tensor (n, H, W, 3) or (n, 3, H, W)
        of uint8 or of floats from 0 to 1, RGB, or a list of n arrays or Pillow images. As for a
        file, the network's sampling chooses among the frames.

        Args:
            video: One video; or several in a list, a batch (B, n, H, W, 3) or another iterable.
            clips: Number of clips over the length of the video.
            crops: Crops per clip: 1, 3 or 10.
            top: Maximum number of classes to return.
            decode_on: GPU that decodes files, such as "cuda" (extra `nvdec`); default: the CPU.
            progress: Called after each of several videos with (videos done, videos in all, or 0
                if their number is unknown).

        Returns:
            A prediction, or for several videos an iterator that predicts each when it is asked
            for it. As with `map`, the error of a video does not end the iterator: `next` goes on
            with the next one.

        Raises:
            OptionError: an option is outside its range.
            UnreadableVideoError: the video cannot be read; the message says why.
            InputShapeError: frames in memory have another shape or type.
            InputTypeError: it is no video; the message lists the forms.
            MissingExtraError: `decode_on` or the address needs packages that are not installed.

        Example:
            `recognizer.predict("video.mp4").top[0].name`
        """
        check_whole(top=top)
        check_range(at_least=1, top=top)
        mean = self._mean_of(
            self.score, clips, crops, average=self.preprocessing.average, decode_on=decode_on
        )

        def one(given: object) -> Prediction:
            name, scores_K = mean(given)
            return self.prediction_of(scores_K, path=name, top=top)

        return _each(video, one, progress)

    def predict_frames(
        self,
        frames: NDArray[Any] | torch.Tensor | Sequence[NDArray[Any]],
        *,
        clips: int = 1,
        crops: int = 1,
        top: int = 5,
    ) -> Prediction:
        """Predicts the classes of a video in memory, with the result of the same video in a file.

        Args:
            frames: All frames; see `predict`.
            clips: See `predict`.
            crops: See `predict`.
            top: See `predict`.

        Raises:
            OptionError: an option is outside its range.
            InputShapeError: the frames have another shape or type, or the list is empty.
        """
        if not isinstance(frames, np.ndarray | torch.Tensor):
            frames = one_array(frames)
        reader_of(frames)  # refuses batches, which `predict` would take
        prediction: Prediction = self.predict(frames, clips=clips, crops=crops, top=top)
        return prediction

    @overload
    def embed(
        self, video: VideoFile, *, clips: int = 1, crops: int = 1, per_frame: bool = False
    ) -> NDArray[np.float32]: ...

    @overload
    def embed(
        self,
        video: Video | Iterable[Video],
        *,
        clips: int = 1,
        crops: int = 1,
        per_frame: bool = False,
        progress: Progress | None = None,
    ) -> Any: ...

    def embed(
        self,
        video: Video | Iterable[Video],
        *,
        clips: int = 1,
        crops: int = 1,
        per_frame: bool = False,
        progress: Progress | None = None,
    ) -> NDArray[np.float32] | Iterator[NDArray[np.float32]]:
        """Features of a video, or of several, before the classifier: for search and clustering.

        Args:
            video: See `predict`.
            clips: See `predict`; the features are the mean over all views and frames.
            crops: See `predict`.
            per_frame: Returns the features of each frame of the one clip instead of their mean.
            progress: See `predict`.

        Returns:
            (D,), or (T, D) with `per_frame`; for several videos an iterator, as in `predict`.

        Raises:
            OptionError: an option is outside its range, or `per_frame` with several clips.
            UnreadableVideoError: the video cannot be read; the message says why.
            InputShapeError: frames in memory have another shape or type.
            InputTypeError: it is no video; the message lists the forms.

        Example:
            `recognizer.embed("video.mp4") @ recognizer.embed("other.mp4")`
        """
        if per_frame and clips != 1:
            raise OptionError(f"per_frame is for one clip, got clips={clips}.")
        mean = self._mean_of(self.net.features, clips, crops, average="scores")

        def one(given: object) -> NDArray[np.float32]:
            name, features_TD = mean(given)
            check_finite(features_TD, name, what="features")
            return features_TD if per_frame else features_TD.mean(0)

        return _each(video, one, progress)

    def _mean_of(
        self,
        run: Run,
        clips: int,
        crops: int,
        *,
        average: AverageName,
        decode_on: torch.device | str | None = None,
    ) -> Callable[[object], tuple[str, NDArray[np.float32]]]:
        """Function from a video to its name and its mean output over all views, as float32.

        One clip is in memory at a time.
        """
        how, views = self.preprocessing, Views(clips=clips, crops=crops)
        # The sampling rule of the training chooses the frames of each clip, of which only these
        # are decoded.
        sampling, transform = sampling_of(how, views), ViewTransform(how, views)

        def mean(given: object) -> tuple[str, NDArray[np.float32]]:
            sums: NDArray[np.float64] | float = 0.0
            with opened_video(given, decode_on=decode_on) as video:
                for clip in sampling.test(video.frames, views.clips):
                    # Crops are cut from uint8 frames, and only they go to the device and become
                    # floats.
                    crops_VTCHW = transform(video.read(clip)).to(self.device)
                    with torch.inference_mode():
                        out = run(normalize(crops_VTCHW, how.mean, how.std))
                    sums = sums + summands(out.double().cpu().numpy(), average).sum(0)
            return video.name, mean_scores(np.asarray(sums / views.count), average)

        return mean

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


def check_finite(values: NDArray[np.float32], of: str, *, what: str = "scores") -> None:
    """Raises a CheckpointError for scores or features that are infinite or NaN."""
    if not np.isfinite(values).all():
        raise CheckpointError(
            f"The network's {what} for {of} are not finite: its weights are damaged, or its "
            "training failed."
        )


def _each(
    given: object, one: Callable[[object], Result], progress: Progress | None
) -> Result | Iterator[Result]:
    """Result of one video, or an iterator over those of several."""
    videos = several_videos(given)
    if videos is None:
        return one(given)
    total = len(videos) if isinstance(videos, Sized) else 0
    done = count(1)

    def counted(video: object) -> Result:
        number = next(done)
        try:
            return one(video)
        finally:
            if progress is not None:
                progress(number, total)

    return map(counted, videos)
