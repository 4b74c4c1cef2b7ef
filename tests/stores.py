"""Servers of videos on this machine: S3 (moto), HTTP, and one like Google's storage."""

import base64
import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
from s3fs import S3FileSystem

BUCKET = "videos"
S3_SERVER = """
import logging
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

logging.getLogger("werkzeug").setLevel(logging.ERROR)
application = DomainDispatcherApplication(create_backend_app)
server = make_server("127.0.0.1", 0, application, threaded=True)
print(server.port, flush=True)
server.serve_forever()
"""


@contextmanager
def s3_server(files: dict[str, bytes]) -> Iterator[dict[str, str]]:
    """S3 in a process of its own; yields the environment of its clients."""
    process = subprocess.Popen(
        [sys.executable, "-c", S3_SERVER],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{process.stdout.readline().strip()}",
            "AWS_ACCESS_KEY_ID": "the-key-id",
            "AWS_SECRET_ACCESS_KEY": "the-secret-key",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        client = boto3.client(
            "s3",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )
        client.create_bucket(Bucket=BUCKET)
        for key, content in files.items():
            client.put_object(Bucket=BUCKET, Key=key, Body=content)
        client.close()
        yield environment
    finally:
        S3FileSystem.clear_instance_cache()  # clients keep the address of their first use
        process.kill()
        process.communicate()


class WebFiles(http.server.BaseHTTPRequestHandler):
    """Files at their paths; those below /private want me:secret, /broken answers 503."""

    files: dict[str, bytes]

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        allowed = "Basic " + base64.b64encode(b"me:secret").decode()
        if path.startswith("/broken"):
            self.send_error(503)
        elif path.startswith("/private") and self.headers["Authorization"] != allowed:
            self.send_error(401)
        else:
            self.answer(self.files.get(path.removeprefix("/private").strip("/")))

    do_HEAD = do_GET

    def answer(self, content: bytes | None, kind: str = "video/mp4") -> None:
        if content is None:
            self.send_error(404)
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        size = len(content)
        if asked:
            first, last = int(asked[1]), min(int(asked[2] or size), size - 1)
            content = content[first : last + 1]
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


class GoogleFiles(WebFiles):
    """Answers of Google's storage for the facts, the content and the list of objects."""

    def do_GET(self):
        parts = urlsplit(self.path)
        query, name = parse_qs(parts.query), unquote(parts.path.partition("/o/")[2])
        if not name:
            prefix = query.get("prefix", [""])[0]
            found = [self.facts(name) for name in self.files if name.startswith(prefix)]
            self.answer(json.dumps({"items": found}).encode(), "application/json")
        elif "media" in query.get("alt", []) or name not in self.files:
            self.answer(self.files.get(name))
        else:
            self.answer(json.dumps(self.facts(name)).encode(), "application/json")

    def facts(self, name: str) -> dict[str, str]:
        return {"name": name, "bucket": BUCKET, "size": str(len(self.files[name]))}


@contextmanager
def web_server(files: dict[str, bytes], kind: type[WebFiles] = WebFiles) -> Iterator[str]:
    """Serves the files; yields host and port."""
    handler = type("Handler", (kind,), {"files": files})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
