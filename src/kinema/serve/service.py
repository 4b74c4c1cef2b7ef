"""The service behind the routes: models, decoders, batching and live streams.

Letters: V views, X crops, T frames, H, W, K classes.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kinema.data.sampling import sampling_of
from kinema.data.transforms import ViewTransform
from kinema.decoders.jobs import ClipsJob, Job, PictureJob
from kinema.decoders.parent import DecoderParent
from kinema.decoders.pool import DecoderPool, DecoderSettings, DecodingError
from kinema.decoders.wire import Message
from kinema.errors import KinemaError, OptionError, did_you_mean
from kinema.inference.runtime import Step
from kinema.inference.view_mean import mean_scores, summands
from kinema.live.stream import online_step
from kinema.recognizer import Recognizer
from kinema.serve.batcher import Batcher
from kinema.serve.limits import Access, BatchSettings, Limits, RefusedError, Slots
from kinema.serve.metrics import Metrics
from kinema.serve.rates import Rates
from kinema.serve.schema import Options, VideoAnswer
from kinema.serve.uploads import UploadFolder, Video
from kinema.values import Prediction, Views

_log = logging.getLogger(__name__)

Clips = list[tuple[torch.Tensor, NDArray[np.int64], NDArray[np.float64]]]

# HTTP status of failures; all others are faults of the file: 422.
_TOO_MUCH = ("too_long", "too_many_frames", "too_many_pixels", "too_many_windows")
_STATUS = {"decoder_lost": 503, **dict.fromkeys(_TOO_MUCH, 413)}

# Placeholder path: pictures of a stream are in no file.
_NOWHERE = Path("/nowhere")


@dataclass(frozen=True)
class NetworkFolders:
    """Folders of the networks, from which they are loaded at the start and again on request.

    Attributes:
        folders: Checkpoint folders by the name that requests use.
        device: See `Recognizer.load`.
        fast: True to run the networks in their fastest form, for clips and live streams.
    """

    folders: Mapping[str, Path]
    device: str | None = None
    fast: bool = False

    def load(self, name: str) -> Recognizer:
        """Loads a network from its folder.

        Raises:
            KinemaError: it cannot be loaded.
        """
        return Recognizer.load(self.folders[name], device=self.device, fast=self.fast)


@dataclass(frozen=True)
class ServedModel:
    """A model of the service; `step` is for live streams, None if the network looks ahead."""

    name: str
    recognizer: Recognizer
    batcher: Batcher
    step: Step | None


@dataclass(frozen=True)
class Decoded:
    """For each clip its crops (X, T, 3, h, w) uint8, frame indices (T,) and times (T,)."""

    info: VideoAnswer
    clips: Clips


class Service:
    """Models and resources that the routes share.

    Args:
        models: Networks by the name that requests use; the first is the default.
        limits: Upper bounds for requests.
        access: API key and origins.
        batching: Settings of the batchers.
        decoding: Settings of the decoder processes.
        decoder_parent: Forks the decoders, if it was started before; the service closes it.
        source: Where the models came from; without it they cannot be replaced.
    """

    def __init__(
        self,
        models: Mapping[str, Recognizer],
        *,
        limits: Limits | None = None,
        access: Access | None = None,
        batching: BatchSettings | None = None,
        decoding: DecoderSettings | None = None,
        decoder_parent: DecoderParent | None = None,
        source: NetworkFolders | None = None,
    ) -> None:
        if not models:
            raise OptionError("A service needs at least one model.")
        self.limits = limits or Limits()
        self.access = access or Access()
        self.batching = batching or BatchSettings()
        self.metrics = Metrics()
        self.decoder_parent = decoder_parent or DecoderParent()
        self.decoders = DecoderPool(
            decoding or DecoderSettings(), self.decoder_parent, on_end=self.count_decoder_end
        )
        self.uploads = UploadFolder()
        self.rates = Rates(self.limits.client_per_minute)
        self.is_ready = False
        self.stopping = asyncio.Event()
        most = self.limits
        text = f"The server works on {most.requests} requests already, its limit. Try again."
        self.requests = Slots(most.requests, "too_many_requests", text)
        text = f"The server follows {most.streams} live streams already, its limit. Try again."
        self.streams = Slots(most.streams, "too_many_streams", text)
        self.stepping = ThreadPoolExecutor(1, thread_name_prefix="stream")
        # One thread, so that forward passes do not compete for cores.
        self._computing = ThreadPoolExecutor(1, thread_name_prefix="network")
        workers = self.decoders.settings.workers
        self._decoding = ThreadPoolExecutor(workers, thread_name_prefix="decoder")
        text = f"{most.waiting} requests wait for a decoder already, the limit. Try again."
        self._waiting = Slots(workers + most.waiting, "queue_full", text)
        self._source = source or NetworkFolders({})
        self._reloading: set[str] = set()
        self.models = {name: self._served(name, network) for name, network in models.items()}

    async def start(self) -> None:
        """Starts decoders and batchers, and warms up every network."""
        loop = asyncio.get_running_loop()
        decoders = loop.run_in_executor(self._decoding, self.decoders.start)
        for model in self.models.values():
            await self._warm_up(model)
        await decoders
        self.is_ready = True

    async def close(self) -> None:
        """Stops processes and threads, and deletes uploads."""
        self.is_ready = False
        for model in self.models.values():
            await model.batcher.stop()
        self.decoders.close()
        await asyncio.to_thread(self.decoder_parent.close)
        for threads in (self._decoding, self._computing, self.stepping):
            threads.shutdown(cancel_futures=True)
        self.uploads.close()

    def model(self, name: str | None) -> ServedModel:
        """Finds a model by its name; the first one by default.

        Raises:
            RefusedError: no model has this name.
        """
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            hint = did_you_mean(name, self.models)
            raise RefusedError(404, "no_such_model", f"Unknown model {name!r}. {hint}")
        return self.models[name]

    async def reload(self, name: str) -> ServedModel:
        """Loads a model anew from its folder, and replaces it when the new one is ready.

        Requests, streams and timelines that have begun end on the old one.

        Raises:
            RefusedError: no model has this name, it is being loaded already, or it cannot be.
        """
        self.model(name)
        if name not in self._source.folders:
            raise RefusedError(409, "no_folder", f"The model {name!r} came from no folder.")
        if name in self._reloading:
            raise RefusedError(409, "reloading", f"The model {name!r} is being loaded already.")
        self._reloading.add(name)
        try:
            new = await asyncio.to_thread(lambda: self._served(name, self._source.load(name)))
            await self._warm_up(new)
        except KinemaError as error:
            _log.warning("%s keeps its network: %s", name, error)
            reason = str(error).replace(str(self._source.folders[name]), name)
            text = f"The model {name!r} keeps its network, the new one cannot be loaded: {reason}"
            raise RefusedError(422, "not_loaded", text) from error
        finally:
            self._reloading.remove(name)
        self.models[name] = new
        _log.info("%s: replaced by the network now in its folder.", name)
        return new

    async def decoded(self, model: ServedModel, video: Video, options: Options) -> Decoded:
        """Decodes the views of a video, in a process of its own.

        Raises:
            RefusedError: it cannot be read, or exceeds a limit.
        """
        views, how = self._views(options), model.recognizer.preprocessing
        job = ClipsJob(str(video.path), how, views.clips, views.crops, self.limits.video)
        first, *rest = await self._answers(job, video)
        clips = [(torch.from_numpy(m.arrays[0]), m.arrays[1], m.arrays[2]) for m in rest]
        return Decoded(VideoAnswer(**first.facts["info"]), clips)

    async def picture(self, data: bytes, name: str) -> NDArray[np.uint8]:
        """Decodes a JPEG or PNG image to (H, W, 3) RGB, in a process of its own.

        Raises:
            RefusedError: it cannot be read, or exceeds a limit.
        """
        (answer,) = await self._answers(PictureJob(self.limits.pixels), Video(_NOWHERE, name), data)
        picture: NDArray[np.uint8] = answer.arrays[0]
        return picture

    def sampled(self, model: ServedModel, frames: NDArray[np.uint8], options: Options) -> Decoded:
        """Samples the views of raw frames (n, H, W, 3)."""
        how, views = model.recognizer.preprocessing, self._views(options)
        transform = ViewTransform(how, views)
        count, height, width, _ = frames.shape
        clips: Clips = []
        for numbers_T in sampling_of(how, views).test(count, views.clips):
            chosen_THWC = torch.from_numpy(np.ascontiguousarray(frames[numbers_T]))
            crops_XTCHW = transform(chosen_THWC.permute(0, 3, 1, 2))
            clips.append((crops_XTCHW, numbers_T, np.zeros(len(numbers_T))))
        facts = {"frames": count, "width": width, "height": height, "codec": "rawvideo"}
        return Decoded(VideoAnswer(**facts, duration_s=0.0, rate_hz=0.0), clips)

    async def prediction(
        self, model: ServedModel, clips: Clips, *, name: str, top: int
    ) -> Prediction:
        """Predicts from views, with the same result as `Recognizer.predict`."""
        views_VTCHW = torch.cat([crops for crops, _, _ in clips])
        scores_VK = await model.batcher.score(views_VTCHW)
        average = model.recognizer.preprocessing.average
        means_K = summands(scores_VK.double().numpy(), average).mean(0)
        scores_K = mean_scores(means_K, average)
        return model.recognizer.prediction_of(scores_K, path=name, top=top)

    def count_decoder_end(self, reason: str) -> None:
        """Counts a decoder process that ended, by reason."""
        self.metrics.decoder_ends.labels(reason).inc()

    async def _answers(self, job: Job, video: Video, data: bytes | None = None) -> list[Message]:
        # One message for each clip, one before and one after them.
        most = 2 + (job.clips if isinstance(job, ClipsJob) else 1)

        def collect() -> list[Message]:
            most_s = self.limits.request_s + 1  # the timeout of the request comes first
            answers = self.decoders.answers(job, data, most_s=most_s)
            with self.metrics.decode_seconds.time(), closing(answers):
                return list(islice(answers, most))

        with self._waiting, self.metrics.decoding.track_inprogress():
            try:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._decoding, collect)
            except DecodingError as error:
                raise refusal_of(error, video) from error

    def _views(self, options: Options) -> Views:
        views = Views(clips=options.clips, crops=options.crops)
        if views.count > self.limits.views:
            raise RefusedError(
                413,
                "too_many_views",
                f"clips times crops are {views.count} views, more than the limit of "
                f"{self.limits.views}.",
            )
        return views

    def _served(self, name: str, recognizer: Recognizer) -> ServedModel:
        batcher = Batcher(name, recognizer, self.batching, self._computing, self.metrics)
        return ServedModel(name, recognizer, batcher, _step(recognizer, fast=self._source.fast))

    async def _warm_up(self, model: ServedModel) -> None:
        """Runs a first batch, so that no request waits for lazy buffers or the choice of --fast."""
        how = model.recognizer.preprocessing
        shape = (self.batching.clips, how.clip_frames, 3, how.crop_px, how.crop_px)
        noise = torch.randint(0, 256, shape, dtype=torch.uint8)
        _log.info("%s: first pass with %d clips ...", model.name, len(noise))
        began = time.perf_counter()
        await model.batcher.score(noise)
        _log.info("%s: ready after %.1f s.", model.name, time.perf_counter() - began)


def refusal_of(error: DecodingError, video: Video) -> RefusedError:
    """Converts a decoding error to an answer that shows the client's file name, not our path."""
    status = _STATUS.get(error.reason, 422)
    message = video.with_name(str(error))
    if video.name not in message:
        message = f"{video.name} cannot be read: {message}"
    return RefusedError(status, error.reason, message, file=video.name)


def _step(recognizer: Recognizer, *, fast: bool) -> Step | None:
    try:
        return online_step(recognizer, fast=fast)
    except OptionError:
        return None
