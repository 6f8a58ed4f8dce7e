"""What every section passes, as extensions: it does what the sources do, and a router runs either."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.wire.extensions import PURE_VARIABLE
from holdfast_router import compiled, compiling
from holdfast_router.admission import verdict
from tests.node.processes import free_addresses, run

CHECKOUT = Path(__file__).parents[2]
ALIKE = (
    "admission/test_bucket.py",
    "admission/test_gate.py",
    "test_breaker.py",
    "test_dispatch.py",
    "test_fair_queue.py",
    "test_flight_limit.py",
    "test_front.py",
    "test_haste.py",
    "test_resend_budget.py",
    "test_stamping.py",
)
"""Of the router's tests: those that put nothing of another type in a module's way."""
UNDER = """
import sys
from holdfast_router import compiled
assert compiled.prefer()
import pytest
code = pytest.main(sys.argv[1:])
assert compiled.in_use() and sys.modules["holdfast_router.dispatch"].__file__.endswith(".so")
sys.exit(code)
"""


@pytest.fixture(scope="session")
def made() -> Path:
    """``make test`` has made them before."""
    return compiling.make()


@pytest.mark.timeout(180)
def test_the_extensions_pass_what_the_sources_pass(made: Path) -> None:
    tests = [str(CHECKOUT / "tests" / "router" / name) for name in ALIKE]
    command = [sys.executable, "-c", UNDER, "-q", "-m", "not long", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_a_router_runs_the_extensions_or_the_sources(made: Path, tmp_path: Path) -> None:
    (address,) = free_addresses(1)
    assert run("form", "--nodes", address, "--groups", "1", "--replicas", "1", "--out", str(tmp_path)).returncode == 0

    def started(*, pure: bool) -> bool:
        environment = {name: value for name, value in os.environ.items() if name != PURE_VARIABLE}
        process = subprocess.Popen(
            [sys.executable, "-m", "holdfast_router", "--formation", str(tmp_path / "formation.json"),
             "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**environment, PURE_VARIABLE: "1"} if pure else environment,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            said = json.loads(process.stdout.readline())
        finally:
            process.terminate()
            process.communicate(timeout=20)
        return bool(said["compiled"])

    assert [started(pure=pure) for pure in (False, True)] == [True, False]


def test_a_change_of_any_source_makes_extensions_of_another_place(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiled.directory() == made
    read = Path.read_bytes
    constants = Path(verdict.__file__)
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + (b"#" if path == constants else b""))
    assert compiled.directory() != made
