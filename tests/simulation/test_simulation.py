"""A seeded slice of the simulation, and what makes it worth believing: it repeats itself, and it catches bugs."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import msgspec
import pytest

from holdfast.core import lease, session
from tests.simulation.plan import OPERATIONS_MIN, Plan, make_plan
from tests.simulation.run import run
from tests.simulation.search import FAULTS_MIN, first_failure
from tests.simulation.shrink import shrink

SLICES = 8
SEEDS_PER_SLICE = 5


@pytest.mark.parametrize("number", range(SLICES))
def test_every_promise_is_kept(number: int) -> None:
    """More of it: ``make sim``."""
    seeds = range(number * SEEDS_PER_SLICE, (number + 1) * SEEDS_PER_SLICE)
    assert first_failure(seeds) is None


def test_one_seed_gives_one_trace_byte_for_byte_whatever_the_hash_seed() -> None:
    traces = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "replay", "46"], env=environment, capture_output=True, check=True
        )
        traces.add(done.stdout)
    assert len(traces) == 1
    assert traces.pop().count(b"\n") > 200


def test_the_command_runs_seeds_and_says_what_they_reached() -> None:
    command = [sys.executable, "-m", "tests.simulation", "many", "--seeds", "2", "--jobs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "2 seeds" in done.stdout
    assert "0 failed" in done.stdout
    assert "leader elected" in done.stdout


def test_a_run_is_500_operations_and_5_faults() -> None:
    verdict = run(make_plan(3))
    assert verdict.counts["operations"] >= OPERATIONS_MIN
    assert verdict.counts["faults"] >= FAULTS_MIN


def test_a_run_whose_calls_were_too_few_makes_up_for_it() -> None:
    plan = replace(make_plan(3), operations_min=0)
    made = run(plan).counts["operations"]
    verdict = run(replace(plan, operations_min=made + 50))
    assert verdict.counts["operations"] >= made + 50
    assert not verdict.violation


def _believe_too_long(patch: pytest.MonkeyPatch) -> None:
    for module in (lease, session):
        patch.setattr(module, "believed_until", lambda sent_ms, deadline_ms: sent_ms + 2 * deadline_ms)


def test_a_broken_promise_is_found_made_small_and_found_again_from_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many more seeded bugs: ``make mutants``."""
    found = first_failure(range(3), _believe_too_long)
    assert found is not None
    plan = make_plan(found.seed)
    _believe_too_long(monkeypatch)
    verdict = run(plan)
    assert verdict.violation == found.violation
    smaller = shrink(plan, verdict.rule, trials_max=25)
    assert _size(smaller) < _size(plan) / 2
    again = run(msgspec.json.decode(msgspec.json.encode(smaller), type=Plan), trace=True)
    assert again.rule == verdict.rule
    assert again.trace


def _size(plan: Plan) -> int:
    return len(plan.faults) + sum(len(steps) for workers in plan.clients for steps in workers)
