"""The API of the Hugging Face Hub on loopback, as far as checkpoints are fetched and uploaded."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


@dataclass
class HubServer:
    """Repositories of models with branches; a commit is the number of its branch's contents.

    `token`: uploads without it are refused, as are fetches from a `private` repository.
    """

    token: str = "hf_secret"
    branches: dict[str, dict[str, str]] = field(default_factory=dict)  # repository: branch: commit
    commits: dict[str, Files] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                served._answer(self, self.rfile.read(length))

            do_GET = do_HEAD = do_POST = _answer

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def files(self, repository: str, revision: str = "main") -> Files:
        """Contents of a branch or commit."""
        return self.commits[self.branches[repository].get(revision, revision)]

    def commit(self, repository: str, files: Files, branch: str = "main") -> str:
        """Puts a commit on a branch."""
        number = f"{len(self.commits)} {repository}".encode()
        commit = hashlib.sha1(number).hexdigest()
        self.commits[commit] = files
        self.branches.setdefault(repository, {"main": commit})[branch] = commit
        return commit

    def _answer(self, to: BaseHTTPRequestHandler, body: bytes) -> None:
        path = unquote(urlsplit(to.path).path)
        self.requests.append(f"{to.command} {path}")
        knows = to.headers.get("Authorization") == f"Bearer {self.token}"
        routes: tuple[tuple[str, Callable[..., None]], ...] = (
            (r"/api/repos/create", self._create),
            (
                r"/api/validate-yaml",
                lambda to, body: self._json(to, {"errors": [], "warnings": []}),
            ),
            (r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self._info),
            (r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", self._tree),
            (r"/api/models/([^/]+/[^/]+)/branch/(.+)", self._branch),
            (r"/api/models/([^/]+/[^/]+)/preupload/.+", self._preupload),
            (r"/api/models/([^/]+/[^/]+)/commit/(.+)", self._commit),
            (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._resolve),
        )
        for pattern, answer in routes:
            if found := re.fullmatch(pattern, path):
                repository = found[1] if found.groups() else ""
                if not knows and (to.command == "POST" or repository in self.private):
                    return self._error(to, 401, "RepoNotFound", "Invalid username or password.")
                if repository and repository not in self.branches:
                    return self._error(to, 404, "RepoNotFound", "Repository not found")
                return answer(to, body, *found.groups())
        return self._error(to, 404, "EntryNotFound", f"no {path}")

    def _create(self, to: BaseHTTPRequestHandler, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if name in self.branches:
            return self._json(to, {"error": "exists", "url": f"{self.url}/{name}"}, status=409)
        self.commit(name, {})
        if asked.get("private") or asked.get("visibility") == "private":
            self.private.add(name)
        return self._json(to, {"url": f"{self.url}/{name}", "name": name, "id": name})

    def _info(
        self, to: BaseHTTPRequestHandler, _: bytes, repository: str, revision: str | None
    ) -> None:
        commit = self._commit_of(repository, revision or "main")
        if commit is None:
            return self._error(to, 404, "RevisionNotFound", "Invalid rev id")
        facts = {"id": repository, "sha": commit, "private": repository in self.private}
        siblings = [{"rfilename": name} for name in self.commits[commit]]
        return self._json(to, {**facts, "siblings": siblings, "tags": []})

    def _tree(self, to: BaseHTTPRequestHandler, _: bytes, repository: str, revision: str) -> None:
        files = self.commits[self._commit_of(repository, revision) or ""]
        self._json(
            to,
            [
                {"type": "file", "path": name, "size": len(data), "oid": _oid(data)}
                for name, data in files.items()
            ],
        )

    def _branch(self, to: BaseHTTPRequestHandler, _: bytes, repository: str, name: str) -> None:
        taken = name in self.branches[repository]
        self.branches[repository].setdefault(name, self.branches[repository]["main"])
        self._json(to, {}, status=409 if taken else 200)

    def _preupload(self, to: BaseHTTPRequestHandler, body: bytes, _: str) -> None:
        files = [
            {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
            for file in json.loads(body)["files"]
        ]
        self._json(to, {"files": files})

    def _commit(self, to: BaseHTTPRequestHandler, body: bytes, repository: str, to_: str) -> None:
        files = dict(self.files(repository, to_))
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        commit = self.commit(repository, files, to_)
        url = f"{self.url}/{repository}/commit/{commit}"
        self._json(to, {"success": True, "commitOid": commit, "commitUrl": url})

    def _resolve(
        self, to: BaseHTTPRequestHandler, _: bytes, repository: str, revision: str, name: str
    ) -> None:
        commit = self._commit_of(repository, revision) or ""
        data = self.commits[commit].get(name)
        if data is None:
            return self._error(to, 404, "EntryNotFound", f"no {name}")
        self._send(to, 200, data, {"ETag": f'"{_oid(data)}"', "X-Repo-Commit": commit})

    def _commit_of(self, repository: str, revision: str) -> str | None:
        found = self.branches[repository].get(revision, revision)
        return found if found in self.commits else None

    def _json(self, to: BaseHTTPRequestHandler, content: object, *, status: int = 200) -> None:
        headers = {"Content-Type": "application/json"}
        self._send(to, status, json.dumps(content).encode(), headers)

    def _error(self, to: BaseHTTPRequestHandler, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        self._send(to, status, json.dumps({"error": message}).encode(), headers)

    def _send(
        self, to: BaseHTTPRequestHandler, status: int, data: bytes, headers: dict[str, str]
    ) -> None:
        to.send_response(status)
        for header in {"Content-Length": str(len(data)), **headers}.items():
            to.send_header(*header)
        to.end_headers()
        if to.command != "HEAD":
            to.wfile.write(data)


def _oid(data: bytes) -> str:
    """Number of a file in git."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
