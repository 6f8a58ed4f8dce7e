"""The hot modules as extensions: what the sources do, they do, and a node runs either."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from holdfast.wire.compiling import EXIT_FAILED
from holdfast.wire.extensions import PURE_VARIABLE
from holdfast_shard import compiling

from .processes import NodeProcess, free_addresses, run

CHECKOUT = Path(__file__).parents[2]
ALIKE = (
    *(f"machine/test_{name}.py" for name in ("model", "exactly_once", "by_token_and_session", "restore")),
    *(f"consensus/test_{name}.py" for name in ("host", "replication", "random_schedules")),
)
"""The model in lock step, random schedules of replicas, and of the other tests what changes neither a limit nor a
method, for those are compiled in."""
UNDER = """
import sys
from holdfast_shard import compiled
assert compiled.prefer()
import pytest
code = pytest.main(sys.argv[1:])
assert compiled.in_use() and sys.modules["holdfast_shard.machine.ledger"].__file__.endswith(".so")
sys.exit(code)
"""


@pytest.fixture(scope="session")
def made() -> Path:
    """``make test`` has made them before."""
    return compiling.make()


@pytest.mark.timeout(180)
def test_the_extensions_pass_the_tests_of_the_sources(made: Path) -> None:
    tests = [str(CHECKOUT / "tests" / name) for name in ALIKE]
    command = [
        sys.executable,
        "-c",
        UNDER,
        "-q",
        "-m",
        "not long",
        "-k",
        "not mutant",
        "-p",
        "no:cacheprovider",
        *tests,
    ]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_a_node_runs_the_extensions_and_the_sources_on_the_same_disk(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (address,) = free_addresses(1)
    assert run("form", "--nodes", address, "--groups", "1", "--replicas", "1", "--out", str(tmp_path)).returncode == 0

    def started(*, pure: bool) -> Any:
        monkeypatch.setenv(PURE_VARIABLE, "1") if pure else monkeypatch.delenv(PURE_VARIABLE, False)
        node = NodeProcess(tmp_path / "node-1")
        try:
            return node.line["compiled"]
        finally:
            assert node.stop() == 0

    assert [started(pure=pure) for pure in (False, True, False)] == [True, False, True]


def test_extensions_of_other_sources_are_never_used(made: Path, tmp_path: Path) -> None:
    """A source that is changed by one byte has another directory, where nothing is."""
    script = (
        "from pathlib import Path; from shutil import copytree; from holdfast_shard import compiled;"
        "here = compiled.directory(); copy = Path(__import__('sys').argv[1]); copytree(compiled._HERE, copy);"
        "compiled._HERE = copy; assert compiled.directory() == here;"
        "ledger = copy / 'machine' / 'ledger.py'; ledger.write_bytes(ledger.read_bytes() + b'#');"
        "assert compiled.directory() != here; assert not compiled.prefer() and not compiled.in_use()"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "shard")]
    environment = {name: value for name, value in os.environ.items() if name != PURE_VARIABLE}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_who_cannot_compile_is_told_and_loses_nothing(tmp_path: Path) -> None:
    """No compiler: what is there stays, and nothing half made is left."""
    home = tmp_path / "made"
    script = (
        "import sys; from pathlib import Path; from holdfast.wire import compiling as making, extensions;"
        "extensions.home = lambda: Path(sys.argv[1]);"
        "from holdfast_shard import compiling; sys.exit(making.report(compiling.make, 'nodes'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(home)],
        env={**os.environ, "CC": "/nonexistent/cc"}, capture_output=True, text=True, timeout=55, check=False,
    )  # fmt: skip
    assert done.returncode == EXIT_FAILED
    assert "nodes run the sources" in done.stderr
    assert list(home.iterdir()) == []
