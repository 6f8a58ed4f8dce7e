"""The comparison itself, for a moment: real servers, real clients, and nothing left of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from loadtests.peers.clients import Refused
from loadtests.peers.figures import Comparison
from loadtests.peers.pair import NotExclusive, prove
from loadtests.peers.parts import Mode, Part
from loadtests.peers.peer import Kind
from loadtests.peers.redis_alone import RedisInMemory
from tests.router.admission.redis_server import needs_redis

COMPARE = [sys.executable, "-m", "loadtests.compare"]
CHECKOUT = Path(__file__).parents[2]
OPTIONS = "--peers holdfast floor redis --concurrency 4 --processes 1 --seconds 0.5 --warm-up 0.1 --cold"
OPTIONS += " --repetitions 1 --hold-ms 5 --kills 0 --stops 0"
LIMIT_S = 100.0


@needs_redis
@pytest.mark.skipif(sys.platform != "linux", reason="processes are measured by what Linux tells of them")
@pytest.mark.timeout(120)
def test_holdfast_the_floor_and_redis_are_compared_and_nothing_is_left(tmp_path: Path) -> None:
    temporary, kept, chart = tmp_path / "tmp", tmp_path / "kept.json", tmp_path / "chart.svg"
    temporary.mkdir()
    done = subprocess.run(
        [*COMPARE, *OPTIONS.split(), "--json", str(kept), "--chart", str(chart)],
        cwd=CHECKOUT,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = msgspec.json.decode(kept.read_bytes(), type=Comparison)
    assert found.left_out == []
    assert found.servers.keys() == {"holdfast", "floor", "redis"}
    assert found.libraries == {"redis": version("redis")}
    kinds = {("holdfast", "SDK"), ("floor", "pipeline"), ("redis", "lean C"), ("redis", "redis-py Lock")}
    assert {(cycles.peer, cycles.kind) for cycles in found.cycles} == kinds
    samples = [cycles.samples[0] for cycles in found.cycles]
    assert all(sample is not None and sample.cycles_per_s > 0 and sample.errors == {} for sample in samples)
    assert {each.peer for each in found.hand_offs if each.times_s[0]} == {"holdfast", "redis"}
    assert "Redis in memory" in done.stdout
    assert chart.read_text().startswith("<svg")
    assert list(temporary.iterdir()) == []
    assert processes_that_name(str(temporary)) == []


def processes_that_name(path: str) -> list[list[str]]:
    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if any(path in word for word in line)]


def test_what_is_missing_is_said_in_a_line_that_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RedisInMemory, "needs", {"no-such-server": "some-package", "/no/such.jar": "another"})
    assert RedisInMemory.missing() == "servers missing: apt install another some-package"
    lacking = Kind("any", "any", needs=("no_such_library",))
    assert lacking.missing() == "no_such_library missing: pip install -c constraints.txt -e '.[load]'"


class Book:
    """A lock service of one process that may be wrong: ``doubles`` grants what is held, ``keeps`` never lets go."""

    ERRORS: tuple[type[Exception], ...] = ()

    def __init__(self, *, doubles: bool = False, keeps: bool = False) -> None:
        self._held: set[str] = set()
        self._doubles = doubles
        self._keeps = keeps

    async def connect(self, target: Mapping[str, Any], workers: int) -> Book:
        return self

    async def acquire(self, name: str) -> str:
        if name in self._held and not self._doubles:
            raise Refused(name)
        self._held.add(name)
        return name

    async def release(self, held: str) -> None:
        if not self._keeps:
            self._held.discard(held)


PROOF = Part(Mode.PROOF, "any", threads=False, target={}, run="r")


async def test_a_service_that_grants_once_and_lets_go_is_measured() -> None:
    assert (await prove(Book(), PROOF)).errors == {}


async def test_a_service_that_grants_twice_is_not_measured() -> None:
    with pytest.raises(NotExclusive):
        await prove(Book(doubles=True), PROOF)


async def test_a_service_that_does_not_let_go_is_not_measured() -> None:
    with pytest.raises(Refused):
        await prove(Book(keeps=True), PROOF)
