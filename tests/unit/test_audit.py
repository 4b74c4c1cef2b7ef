"""`make audit` fails on versions that are known to be bad, and where it can look nothing up."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "scripts" / "audit.py"
# Published advisories of the versions in scripts/known_bad.txt: identifier, alias, fixed version.
ADVISORIES = {
    ("jinja2", "2.11.2"): ("PYSEC-2021-66", "CVE-2020-28493", "2.11.3"),
    ("pyyaml", "5.3"): ("PYSEC-2020-96", "CVE-2020-1747", "5.3.1"),
    ("requests", "2.19.1"): ("PYSEC-2018-28", "CVE-2018-18074", "2.20.0"),
    ("urllib3", "1.24.1"): ("PYSEC-2019-133", "CVE-2019-11324", "1.24.2"),
}


class Service(BaseHTTPRequestHandler):
    """Answers queries for one version like OSV."""

    def do_POST(self):
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = json.dumps(self.answer(query["package"]["name"], query["version"])).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def answer(self, name, version):
        if (name, version) not in ADVISORIES:
            return {}
        own, alias, fixed = ADVISORIES[name, version]
        ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}]
        package = {"name": name, "ecosystem": "PyPI"}
        return {
            "vulns": [
                {
                    "id": own,
                    "aliases": [alias],
                    "affected": [{"package": package, "ranges": ranges}],
                }
            ]
        }

    def log_message(self, *_):
        pass


class Empty(Service):
    """Knows no advisory."""

    def answer(self, name, version):
        return {}


class OutOfOrder(Service):
    """Answers 503."""

    def do_POST(self):
        self.send_error(503)


@pytest.fixture
def audit(request):
    handler = getattr(request, "param", Service)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()

        def run(*words: object, url: str = f"http://127.0.0.1:{server.server_port}"):
            environment = {**os.environ, "OSV_URL": url}
            command = [sys.executable, str(SCRIPT), *map(str, words)]
            return subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment
            )

        yield run
        server.shutdown()


def locked(folder: Path, *lines: str) -> Path:
    file = folder / "locked.txt"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.slow
def test_versions_that_are_known_to_be_bad_fail(audit, tmp_path):
    done = audit(
        locked(tmp_path, "numpy==2.0.0", "Jinja2==2.11.2", "PyYAML==5.3", "requests==2.34.2")
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "jinja2 2.11.2: PYSEC-2021-66 = CVE-2020-28493, fixed in 2.11.3",
        "pyyaml 5.3: PYSEC-2020-96 = CVE-2020-1747, fixed in 5.3.1",
        "2 packages of locked.txt are vulnerable.",
    ]


@pytest.mark.slow
def test_the_own_list_is_looked_up_in_full(audit):
    done = audit()
    assert (done.returncode, done.stdout) == (0, "constraints.txt: no known vulnerability.\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("audit", "message"),
    [
        (Empty, "the service has no advisory for jinja2 2.11.2, pyyaml 5.3, requests 2.19.1"),
        (OutOfOrder, "pip-audit failed ("),
    ],
    indirect=["audit"],
)
def test_a_service_that_answers_nothing_is_no_success(audit, tmp_path, message):
    done = audit(locked(tmp_path, "numpy==2.0.0"))
    assert done.returncode == 2
    assert f"Nothing was audited: {message}" in done.stderr
    assert "Run `make audit` where the service of advisories can be reached" in done.stderr


@pytest.mark.slow
def test_a_service_out_of_reach_is_no_success(audit, tmp_path):
    done = audit(locked(tmp_path, "numpy==2.0.0"), url="http://127.0.0.1:1")
    assert done.returncode == 2
    assert "Nothing was audited: pip-audit failed (" in done.stderr
    assert "127.0.0.1" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "message"), [("numpy>=2", "numpy"), ("# nothing", "locked.txt: not looked up: any")]
)
def test_a_list_that_locks_nothing_is_no_success(audit, tmp_path, line, message):
    done = audit(locked(tmp_path, line))
    assert done.returncode == 2
    assert message in done.stderr


def test_the_list_of_bad_versions_is_that_of_the_test():
    lines = (SCRIPT.parent / "known_bad.txt").read_text().splitlines()
    assert {tuple(line.split("==")) for line in lines if line[0] != "#"} == set(ADVISORIES)


def test_make_audits_the_locked_versions():
    answer = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "audit"],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    assert answer.stdout.splitlines()[-1] == ".venv/bin/python scripts/audit.py"
