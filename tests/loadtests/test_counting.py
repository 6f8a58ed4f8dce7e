"""What is counted as a failure and what is not: users of HTTP, and a service that refuses and breaks its promises."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from loadtests.locust.figures import Figures
from loadtests.locust.run import LOCUSTFILE, ROOT
from loadtests.locust.verdict import verbs_of
from loadtests.locust.vocabulary import Outcome

TOKEN = 7


class Service(BaseHTTPRequestHandler):
    """Refuses one acquire in three, grants one with the same token as ever, and answers one with what is no grant."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    acquires = 0

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/acquire":
            self._answer(200, {"ok": True})
            return
        Service.acquires += 1
        if Service.acquires % 3 == 1:
            self._answer(429, {"code": "throttled", "detail": "slowly", "retry_after_ms": 1})
        elif Service.acquires % 3 == 2:
            self._answer(200, {})
        else:
            self._answer(200, {"name": asked["name"], "token": TOKEN, "lock_id": "x", "expires_in_ms": 30_000})

    def _answer(self, status: int, body: dict[str, object]) -> None:
        encoded = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_request(self, code: object = "", size: object = "") -> None:
        """Not written to standard error."""


@contextmanager
def serving() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.skipif(importlib.util.find_spec("locust") is None, reason="Locust is not installed")
def test_refusals_are_no_failures_but_broken_promises_and_answers_that_are_none_are(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    words = ["-f", str(LOCUSTFILE), "--headless", "-u", "1", "-t", "4s", "--rate", "100", "--figures", str(out)]
    with serving() as host:
        ran = subprocess.run(
            [sys.executable, "-m", "locust", *words, "--api-key", "hf_x", "HttpHotLocks"],
            cwd=ROOT,
            env={**os.environ, "LOCUST_HOST": host},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert ran.returncode == 1, ran.stderr
    verbs = verbs_of(msgspec.json.decode(out.read_bytes(), type=Figures).rows)
    acquires, promises = verbs["acquire"], verbs["promise"]
    assert acquires.of(Outcome.TOO_MUCH)
    assert acquires.done
    assert not acquires.of(Outcome.FAILED)
    assert promises.of(Outcome.FAILED) == promises.asked
    assert verbs["scenario"].of(Outcome.FAILED), "nobody counted a user that ended with an exception"
    assert f"the token fell: 'load/hot/0' has {TOKEN} after {TOKEN}" in ran.stdout + ran.stderr
    assert "acquire (refused 429)" in ran.stdout + ran.stderr
