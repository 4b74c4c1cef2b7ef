"""Client generated from /openapi.json by a program that knows nothing of kinema."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

GENERATOR = shutil.which("openapi-python-client")

# Runs in the environment of the generator, which has what generated clients import.
SCRIPT = """
import io, sys, time
from kinema_client import AuthenticatedClient, Client
from kinema_client.api.default import (
    cancel_timeline, follow_timeline, get_timeline, make_timeline, metrics, models, predict,
    predict_frames, readyz, reload_model,
)
from kinema_client.models import PredictForm, PredictFormCrops, TimelineForm
from kinema_client.types import File

url, path = sys.argv[1:]
client = Client(url, raise_on_unexpected_status=True)
key = AuthenticatedClient(url, token="a key of nobody", raise_on_unexpected_status=True)


def video():
    return File(open(path, "rb"), "red.mp4", "video/mp4")


assert readyz.sync(client=client).status == "ready"
assert [m.name for m in models.sync(client=client).models] == ["causal", "ahead"]
form = PredictForm(file=video(), model="ahead", crops=PredictFormCrops.VALUE_3, frames=True, top=2)
answer = predict.sync(client=key, body=form)
assert (answer.model, answer.file, answer.video.frames) == ("ahead", "red.mp4", 12), answer
assert len(answer.top) == 2 and len(answer.seen) == 4
refused = predict.sync_detailed(client=client, body=PredictForm(file=video(), model="other"))
assert (refused.status_code, refused.parsed.error) == (404, "no_such_model")
nameless = PredictForm(file=File(io.BytesIO(bytes(150_000))))
assert "with a file name" in predict.sync(client=client, body=nameless).message
raw = File(io.BytesIO(bytes(8 * 64 * 48 * 3)))
assert predict_frames.sync(client=client, body=raw, width=64, height=48).video.frames == 8
job = make_timeline.sync(client=client, body=TimelineForm(file=video(), background=["red", "blue"]))
events = follow_timeline.sync(job.job, client=client)
assert events.startswith("event: ") and "event: end" in events, events
assert get_timeline.sync(job.job, client=client).result.path == "red.mp4"
assert cancel_timeline.sync(job.job, client=client).state == "done"
assert "kinema_requests_total" in metrics.sync(client=client)
assert reload_model.sync("causal", client=key).error == "needs_api_key"
"""


@pytest.mark.slow
@pytest.mark.skipif(GENERATOR is None, reason="needs: pipx install openapi-python-client")
def test_a_generated_client(server, color_set, tmp_path):
    with server.http as http:
        (tmp_path / "openapi.json").write_text(http.get("/openapi.json").text, encoding="utf-8")
    command = [GENERATOR, "generate", "--meta", "none", "--output-path", "kinema_client"]
    said = subprocess.run(
        [*command, "--path", "openapi.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "parsing" not in said.stdout.lower(), said.stdout  # nothing was left out
    python = Path(GENERATOR).resolve().with_name("python")
    video = color_set / "red" / "0.mp4"
    subprocess.run([python, "-c", SCRIPT, server.url, video], cwd=tmp_path, check=True)


def test_the_description_is_what_a_form_can_send(server):
    """A form has no null, and the names of operations and forms become those of a client."""
    with server.http as http:
        document = http.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for path, form in (("/v1/predict", "PredictForm"), ("/v1/timeline", "TimelineForm")):
        body = document["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]
        assert body["schema"] == {"$ref": f"#/components/schemas/{form}"}
        assert "null" not in json.dumps(schemas[form])
        assert schemas[form]["properties"]["path"]["type"] == "string"
    names = [o["operationId"] for path in document["paths"].values() for o in path.values()]
    assert sorted(names) == [
        *("cancel_timeline", "follow_timeline", "get_timeline", "healthz", "make_timeline"),
        *("metrics", "models", "predict", "predict_frames", "readyz", "reload_model"),
    ]
    for path, kind in (
        ("/metrics", "text/plain"),
        ("/v1/timeline/{job}/events", "text/event-stream"),
    ):
        content = document["paths"][path]["get"]["responses"]["200"]["content"]
        assert content == {kind: {"schema": {"type": "string"}}}
    answer = document["paths"]["/v1/timeline"]["post"]["responses"]["202"]
    assert answer["headers"]["Location"]["schema"] == {"type": "string"}
