"""Many runs: the first that breaks a promise, or what all of them reached."""

from __future__ import annotations

import gc
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.simulation.plan import FAULT_KINDS, OPERATIONS_MIN, make_plan
from tests.simulation.run import Verdict, run

FAULTS_MIN = 5
"""A run with less proves too little to count."""
SHARE_MIN = 0.01
"""Each state is reached in at least this share of the runs."""
COLLECT_EVERY = 10

STATES = (
    "acquire cancelled",
    "body cancelled by a loss",
    "disk replaced",
    "ended, expired",
    "ended, timed_out",
    "expired under a partition",
    "held twice by its session",
    "journal rotted",
    "known absent",
    "leader elected",
    "leader transfer",
    "log truncated",
    "lost before its release",
    "lost, expired",
    "lost, forced",
    "lost, session_ended",
    "lost, stolen",
    "node stopped by JournalDamaged",
    "node stopped by JournalFailed",
    "node stopped by JournalFull",
    "operation repeated",
    "power lost in the midst of a write",
    "refused by a node that does not lead",
    "release without an answer",
    "section of unknown outcome",
    "section rejected",
    "session ended by another",
    "session ended by its owner",
    "share moved",
    "share used up",
    "snapshot installed",
    "snapshot written",
    "stolen",
    "stolen now",
    "torn tail cut",
    "waiter granted",
)
"""What a set of runs has to reach, besides every kind of fault."""


@dataclass(frozen=True, slots=True)
class Found:
    seed: int
    violation: str
    seeds_run: int


def first_failure(seeds: Iterable[int], apply: Callable[[pytest.MonkeyPatch], None] | None = None) -> Found | None:
    """The first seed that breaks a promise, with ``apply``'s patch in force."""
    with pytest.MonkeyPatch.context() as patch:
        if apply is not None:
            apply(patch)
        for count, seed in enumerate(seeds, start=1):
            verdict = _run(seed)
            if verdict.violation:
                return Found(seed, verdict.violation, count)
    return None


@dataclass(slots=True)
class Tally:
    seeds: int = 0
    seconds: float = 0.0
    """Simulated."""
    counts: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    """In how many runs."""
    failed: list[Verdict] = field(default_factory=list)

    def add(self, verdict: Verdict) -> None:
        self.seeds += 1
        self.seconds += verdict.seconds
        self.counts += verdict.counts
        self.reached.update(verdict.counts.keys())
        if verdict.violation:
            self.failed.append(verdict)

    def missed(self) -> list[str]:
        """States that too few runs reached; none while there are too few runs to tell."""
        if self.seeds < 5 / SHARE_MIN:
            return []
        wanted = [f"state: {state}" for state in STATES] + [f"fault: {kind}" for kind in (*FAULT_KINDS, "flaky")]
        return [what for what in wanted if self.reached[what] < self.seeds * SHARE_MIN]


def search(seeds: range, jobs: int) -> Iterator[Verdict]:
    """Verdicts as they come, in any order."""
    if jobs == 1:
        yield from map(_run, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(_run, seeds, chunksize=4)


def _run(seed: int) -> Verdict:
    verdict = run(make_plan(seed))
    if seed % COLLECT_EVERY == 0:
        gc.collect()
    if not verdict.violation and (
        verdict.counts["operations"] < OPERATIONS_MIN or verdict.counts["faults"] < FAULTS_MIN
    ):
        text = f"only {verdict.counts['operations']} operations and {verdict.counts['faults']} faults"
        return Verdict(seed, f"a run proves something: {text}", "a run proves something", 0.0, verdict.counts, [])
    return verdict
