"""Puts mutants before their catchers, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from .mutant import Catcher, Mutant, Selection

ROOT = Path(__file__).parents[2]
TEST_S_MAX = 30
"""A test that a mutant keeps from ending has failed."""
RUN_S_MAX = 600
"""For one catcher; one that is not done by then has caught nothing."""


class Verdict(msgspec.Struct):
    """What one run of a catcher says; ``ran`` counts tests or seeds, ``failed`` names the first that failed."""

    ran: int
    failed: str
    why: str
    mistakes: list[str]


@dataclass(frozen=True, slots=True)
class Catch:
    by: str
    """The test or the seed."""
    after: str
    """How many tests or seeds were run until then."""
    why: str


@dataclass(frozen=True, slots=True)
class Result:
    mutant: Mutant
    catches: tuple[Catch, ...]
    """None when it survived."""
    survived: tuple[str, ...]
    """What was run in vain."""
    seconds: float


def catch(mutant: Mutant, *, every: bool = False) -> Result:
    """Ask the mutant's catchers in order, until one has caught it; or ``every`` one of them."""
    began = time.monotonic()
    catches: list[Catch] = []
    survived: list[str] = []
    for catcher in mutant.caught_by:
        verdict = _run(catcher, mutant.name)
        after = f"{verdict.ran} {'tests' if isinstance(catcher, Selection) else 'seeds'}"
        if verdict.failed:
            catches.append(Catch(verdict.failed, after, verdict.why))
            if not every:
                break
        else:
            survived += filter(None, [f"{after} passed", verdict.why, *verdict.mistakes])
    return Result(mutant, tuple(catches), tuple(survived), time.monotonic() - began)


def trouble_without_mutant(file: str) -> str:
    """Why nothing can be caught with these tests: they fail, or there are none. Empty when all is well."""
    verdict = _run(Selection((file,)), "")
    if verdict.failed or verdict.mistakes or verdict.why:
        return f"{file} fails without any mutant: {verdict.failed or verdict.why or verdict.mistakes[0]}"
    return "" if verdict.ran else f"{file} has no tests"


def _run(catcher: Catcher, name: str) -> Verdict:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "verdict"
        command, environment = _command(catcher, name, file)
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=RUN_S_MAX, check=False
            )
        except subprocess.TimeoutExpired:
            return Verdict(0, "", f"not done within {RUN_S_MAX} s", [])
        if not file.exists():
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
            return Verdict(0, "", f"it did not run: {last[0]}", [])
        return msgspec.json.decode(file.read_bytes(), type=Verdict)


def _command(catcher: Catcher, name: str, verdict: Path) -> tuple[list[str], dict[str, str]]:
    # What an outer pytest has set would be taken for settings of the inner one.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    if not isinstance(catcher, Selection):
        command = [sys.executable, "-m", "tests.mutants.searching", name, str(catcher.seeds_max), str(verdict)]
        return command, environment
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "tests.mutants.plugin", "-p", "no:cacheprovider",
        f"--timeout={TEST_S_MAX}", "-m", "not long", f"--mutant={name}", f"--verdict={verdict}",
        *(["--mutant-children"] if catcher.children else []), *catcher.tests,
    ]  # fmt: skip
    return command, environment
