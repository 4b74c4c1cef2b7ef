"""Health, models, numbers and the description of the API; headers of the page."""

import json

import pytest

from kinema.errors import KinemaError
from kinema.serve.limits import Access, key_of


def test_health_and_models(server):
    with server.http as http:
        assert http.get("/healthz").json() == {"status": "alive"}
        assert http.get("/readyz").json() == {"status": "ready"}
        models = http.get("/v1/models").json()["models"]
    assert [(m["name"], m["live"], m["frames"]) for m in models] == [
        ("causal", True, 4),
        ("ahead", False, 4),
    ]
    assert models[0]["classes"] == ["red", "green", "blue"]


def test_numbers(server):
    with server.http as http:
        http.get("/healthz")
        answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'kinema_requests_total{route="/healthz",status="200"}' in answer.text
    for name in ("batch_clips", "decode_seconds", "decoding", "streams", "compute_seconds"):
        assert f"kinema_{name}" in answer.text


def test_the_description_has_examples_and_errors(server):
    with server.http as http:
        document = http.get("/openapi.json").json()
    assert set(document["paths"]) == {
        *("/healthz", "/readyz", "/metrics", "/v1/models", "/v1/predict", "/v1/predict/frames"),
        *("/v1/timeline", "/v1/timeline/{job}", "/v1/timeline/{job}/events"),
        "/v1/models/{name}/reload",
    }
    predict = document["paths"]["/v1/predict"]["post"]
    assert set(predict["responses"]) >= {"200", "401", "413", "422", "503"}
    assert "multipart/form-data" in predict["requestBody"]["content"]
    schemas = document["components"]["schemas"]
    for name in ("PredictAnswer", "ErrorAnswer", "JobAnswer", "ModelAnswer"):
        assert schemas[name]["examples"]
    assert "HTTPValidationError" not in json.dumps(document)


def test_the_page_may_load_nothing_foreign(server):
    with server.http as http:
        answer = http.get("/")
        assert answer.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "http://" not in answer.text
        assert "https://" not in answer.text
        assert http.get("/page/../app.py").status_code == 404
        assert http.get("/page/%2e%2e/app.py").status_code == 404
        assert http.get("/docs").status_code == 404


def test_keys():
    access = Access(api_key="secret")
    for path in ("/healthz", "/readyz", "/", "/page/main.js", "/openapi.json"):
        access.check_headers(path, {})
    for path in ("/v1/predict", "/v1/models", "/metrics"):
        access.check_headers(path, {"x-api-key": "secret"})
        access.check_headers(path, {"authorization": "Bearer secret"})
        with pytest.raises(KinemaError, match="none came"):
            access.check_headers(path, {})
        with pytest.raises(KinemaError, match="another one came"):
            access.check_headers(path, {"x-api-key": "Secret"})
    assert key_of({"authorization": "Basic eDp5"}) is None
    assert "secret" not in repr(access)
    Access().check_headers("/v1/predict", {})
