"""FastAPI application: routes and middleware."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response, WebSocket
from fastapi.responses import StreamingResponse
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection

from kinema.serve.access_log import AccessLog
from kinema.serve.admission import Admission, FirstChecks
from kinema.serve.error_answers import add_error_answers
from kinema.serve.forms import read_form
from kinema.serve.frame_thumbnails import seen_frames
from kinema.serve.jobs import Job, JobBook
from kinema.serve.limits import RefusedError
from kinema.serve.live import live
from kinema.serve.metrics import CONTENT_TYPE
from kinema.serve.schema import (
    ClassAnswer,
    ErrorAnswer,
    FramesQuery,
    HealthAnswer,
    JobAnswer,
    ModelAnswer,
    ModelsAnswer,
    Options,
    PredictAnswer,
    PredictForm,
    TimelineForm,
    VideoForm,
    completed,
    form_body,
    raw_body,
    text_of,
)
from kinema.serve.service import Decoded, ServedModel, Service
from kinema.serve.uploads import Video, allowed_video, forget
from kinema.serve.web_page import add_page
from kinema.timeline import SegmentRule, TimelineSettings

# Shortest time in seconds between two progress events of a timeline.
_EVENT_S = 0.2

DESCRIPTION = """Action recognition for video files, raw frames, long videos and live streams.

**Live streams**: open a WebSocket on `/v1/stream`. The first message is JSON text:
`{"model": null, "format": "image", "top": 5, "smooth_frames": 8, "enter": 0.6, "leave": 0.4}`,
all of it optional; add `api_key` if the server needs one and you cannot send a header. With
`"format": "rgb24"` also `width` and `height`. The server answers `{"type": "ready"}`. Then every
binary message is one frame, a JPEG or PNG image or `width * height * 3` bytes, and gets one JSON
answer: `{"type": "result", "frame": 0, "time_s": 0.0, "top": [...], "shown": {...}, "changed":
true, "latency_ms": 8.1}`, or `{"type": "error", "error": "...", "message": "...", "frame": 0}`.
"""

router = APIRouter()


def _service(connection: HTTPConnection) -> Service:
    service: Service = connection.app.state.service
    return service


def _jobs(connection: HTTPConnection) -> JobBook:
    jobs: JobBook = connection.app.state.jobs
    return jobs


TheService = Annotated[Service, Depends(_service)]
TheJobs = Annotated[JobBook, Depends(_jobs)]


def create_app(
    service: Service, jobs: JobBook, *, root_path: str = "", access_log: bool = False
) -> FastAPI:
    """Builds the application, which starts the service and closes it.

    Args:
        service: Models and resources.
        jobs: Timelines.
        root_path: Prefix of all addresses that a proxy takes away, such as "/kinema".
        access_log: True to log every request but health checks.

    Example:
        `uvicorn.run(create_app(service, JobBook(service)))`
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            await service.start()
            yield
        finally:
            service.stopping.set()
            await jobs.close()
            await service.close()

    app = FastAPI(
        title="kinema",
        version=version("kinema"),
        description=DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # these pages load scripts from other sites
        redoc_url=None,
        servers=[{"url": root_path or "/"}],
        root_path_in_servers=False,
        # The names of the functions of generated clients.
        generate_unique_id_function=lambda route: route.name,
    )
    describe = app.openapi
    app.openapi = lambda: completed(describe())  # type: ignore[method-assign]  # as FastAPI advises
    app.state.service, app.state.jobs = service, jobs
    app.include_router(router)
    add_page(app)
    add_error_answers(app)
    app.add_middleware(Admission, service=service)
    if service.access.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=service.access.origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "X-API-Key"],
        )
    app.add_middleware(FirstChecks, service=service)
    # The last one is the first to see a request.
    app.add_middleware(AccessLog, metrics=service.metrics, is_on=access_log)
    return app


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": ErrorAnswer} for status in (401, *statuses)}


_POST_ERRORS = _errors(400, 403, 404, 408, 413, 422, 429, 500, 503, 504, 507)


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def healthz() -> HealthAnswer:
    """Liveness: the process answers."""
    return HealthAnswer(status="alive")


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses={503: {"model": HealthAnswer}})
async def readyz(service: TheService, response: Response) -> HealthAnswer:
    """Readiness: 200 if the server accepts work, else 503."""
    if service.is_ready and not service.stopping.is_set():
        return HealthAnswer(status="ready")
    response.status_code = 503
    return HealthAnswer(status="stopping" if service.stopping.is_set() else "starting")


@router.get(
    "/metrics", response_class=Response, responses={200: text_of("text/plain"), **_errors()}
)
async def metrics(service: TheService) -> Response:
    """Metrics in Prometheus' text format."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)


@router.get("/v1/models", responses=_errors())
async def models(service: TheService) -> ModelsAnswer:
    """Lists the models of this server."""
    return ModelsAnswer(models=[_described(model) for model in service.models.values()])


@router.post("/v1/models/{name}/reload", responses={**_POST_ERRORS, **_errors(409)})
async def reload_model(name: str, service: TheService) -> ModelAnswer:
    """Loads a model anew from its folder; requests that have begun end on the old one."""
    if service.access.api_key is None:
        text = "Only the holder of an API key may replace networks; start the server with a key."
        raise RefusedError(403, "needs_api_key", text)
    return _described(await service.reload(name))


def _described(model: ServedModel) -> ModelAnswer:
    return ModelAnswer(
        name=model.name,
        network=model.recognizer.net.name,
        classes=list(model.recognizer.labels),
        frames=model.recognizer.net.clip_frames,
        live=model.step is not None,
    )


@router.post("/v1/predict", responses=_POST_ERRORS, openapi_extra=form_body(PredictForm))
async def predict(request: Request, service: TheService) -> PredictAnswer:
    """Recognizes the action in a video."""
    form = await read_form(request, PredictForm, service.uploads)
    began = time.perf_counter()
    try:
        async with _in_time(service):
            model, video = service.model(form.model), _video(form, service)
            views = await service.decoded(model, video, form)
            return await _answer(service, model, views, options=form, name=video.name, began=began)
    finally:
        await asyncio.to_thread(forget, form.file)


@router.post(
    "/v1/predict/frames",
    responses=_POST_ERRORS,
    openapi_extra=raw_body(),
)
async def predict_frames(
    request: Request, query: Annotated[FramesQuery, Query()], service: TheService
) -> PredictAnswer:
    """Recognizes the action in raw frames: the body is (n, height, width, 3) bytes, RGB."""
    model = service.model(query.model)
    video = await service.uploads.keep_stream(request.stream(), "frames")
    began = time.perf_counter()
    try:
        async with _in_time(service):
            views = await asyncio.to_thread(_raw_views, service, model, video, query)
            return await _answer(service, model, views, options=query, name=video.name, began=began)
    finally:
        forget(video)


_ACCEPTED: dict[str, Any] = {
    "model": JobAnswer,
    "headers": {"Location": {"description": "Its address.", "schema": {"type": "string"}}},
}


@router.post(
    "/v1/timeline",
    status_code=202,
    responses={202: _ACCEPTED, **_POST_ERRORS},
    openapi_extra=form_body(TimelineForm),
)
async def make_timeline(request: Request, service: TheService, jobs: TheJobs) -> Response:
    """Starts a timeline job: a long video to segments with classes."""
    jobs.check_room()
    form = await read_form(request, TimelineForm, service.uploads)
    try:
        job = _timeline_job(form, service)
        jobs.add(job)
    except BaseException:  # also when cancelled: no upload may stay on the disk
        forget(form.file)
        raise
    prefix = request.scope.get("root_path", "")
    return _json(job, status=202, headers={"Location": f"{prefix}/v1/timeline/{job.id}"})


def _timeline_job(form: TimelineForm, service: Service) -> Job:
    model = service.model(form.model)
    settings = TimelineSettings(form.window, form.stride, batch=service.batching.clips)
    rule = SegmentRule(form.smooth, form.enter, form.leave, tuple(form.background), form.min_length)
    rule.hysteresis(model.recognizer.labels)  # refuses unknown class names before the job starts
    return Job(model, _video(form, service), settings, rule, form.top)


_ONE_JOB: dict[int | str, dict[str, Any]] = {200: {"model": JobAnswer}, **_errors(404, 422)}


@router.get("/v1/timeline/{job}", responses=_ONE_JOB)
async def get_timeline(job: str, jobs: TheJobs) -> Response:
    """Returns the progress of a timeline, and its result at the end."""
    found = jobs.get(job)
    found.was_fetched = found.has_ended
    return _json(found)


@router.get(
    "/v1/timeline/{job}/events",
    response_class=StreamingResponse,
    responses={200: text_of("text/event-stream"), **_errors(404, 422)},
)
async def follow_timeline(job: str, jobs: TheJobs) -> StreamingResponse:
    """Streams the progress of a timeline as server-sent events, the last one named `end`."""
    found = jobs.get(job)

    async def events() -> AsyncIterator[str]:
        async for answer in jobs.follow(found):
            name = "end" if found.has_ended else "progress"
            yield f"event: {name}\ndata: {answer}\n\n"
            await asyncio.sleep(0 if found.has_ended else _EVENT_S)
        found.was_fetched = True

    return StreamingResponse(events(), media_type="text/event-stream")


@router.delete("/v1/timeline/{job}", responses={**_ONE_JOB, **_errors(403)})
async def cancel_timeline(job: str, jobs: TheJobs) -> Response:
    """Cancels a timeline, or deletes one that has ended."""
    found = jobs.get(job)
    jobs.cancel(found)
    return _json(found)


@router.websocket("/v1/stream")
async def stream(socket: WebSocket, service: TheService) -> None:
    """Live stream; see the description of this API."""
    await live(socket, service)


def _json(job: Job, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(job.answer(), status, headers, media_type="application/json")


@asynccontextmanager
async def _in_time(service: Service) -> AsyncIterator[None]:
    most_s = service.limits.request_s
    try:
        async with asyncio.timeout(most_s):
            yield
    except TimeoutError:
        raise RefusedError(
            504,
            "timeout",
            f"There was no result within {most_s:g} s, the limit. Send a shorter or smaller video, "
            "or ask for fewer clips.",
        ) from None


def _video(form: VideoForm, service: Service) -> Video:
    """Returns the video of a form."""
    if (form.file is None) == (form.path is None):
        raise RefusedError(
            422, "source", "Send the video as `file`, or name it as `path`: one of both."
        )
    return form.file or allowed_video(service.access.folder, form.path or "")


def _raw_views(service: Service, model: ServedModel, video: Video, query: FramesQuery) -> Decoded:
    """Samples the views of a file of raw frames; other frames are not read."""
    pixels, limits = query.width * query.height, service.limits
    how = model.recognizer.preprocessing
    limits.check_frame(query.width, query.height, how.short_side_px)
    size = video.path.stat().st_size
    count, rest = divmod(size, 3 * pixels)
    if rest or not count:
        raise RefusedError(
            422,
            "frame_size",
            f"Frames of {query.width} x {query.height} pixels have {3 * pixels} bytes each, RGB; "
            f"the body has {size}, which is no multiple of it.",
        )
    if count > limits.frames:
        raise RefusedError(
            413, "too_many_frames", f"{count} frames are more than the limit of {limits.frames}."
        )
    frames = np.memmap(video.path, np.uint8, "r", shape=(count, query.height, query.width, 3))
    return service.sampled(model, frames, query)


async def _answer(
    service: Service,
    model: ServedModel,
    decoded: Decoded,
    *,
    options: Options,
    name: str,
    began: float,
) -> PredictAnswer:
    prediction = await service.prediction(model, decoded.clips, name=name, top=options.top)
    seen = await asyncio.to_thread(seen_frames, decoded.clips) if options.frames else []
    return PredictAnswer(
        model=model.name,
        file=name,
        top=[ClassAnswer(**c.to_dict()) for c in prediction.top],
        video=decoded.info,
        seen=seen,
        took_ms=round(1000 * (time.perf_counter() - began), 3),
    )
