"""The comparison with the reference finds seeded bugs, within the traces that every run of the tests makes up."""

from __future__ import annotations

from random import Random

import pytest

from holdfast.wire import limits
from tests.machine.lockstep import World
from tests.machine.mutants import MUTANTS
from tests.machine.test_model import TRACES, agree, drawn


def traces_until_found(name: str, traces: int) -> int | None:
    with pytest.MonkeyPatch.context() as patch:
        MUTANTS[name](patch)
        for number in range(traces):
            try:
                agree(*drawn(Random(number)), short=False)
            except AssertionError:
                return number + 1
    return None


@pytest.mark.parametrize("name", list(MUTANTS))
def test_every_mutant_is_found_within_the_traces_of_one_run(name: str) -> None:
    assert traces_until_found(name, TRACES) is not None


@pytest.mark.parametrize(
    "name",
    [
        "steal_does_not_wait_for_the_victim",
        "steal_leaves_the_change_number",
        "base_counted_twice",
        "ended_session_frees_at_once",
    ],
)
def test_what_takes_from_a_client_what_it_counts_on_is_found_by_its_beliefs_alone(name: str) -> None:
    """Machine and reference might be wrong in the same way; what clients were told is no opinion of either."""
    with pytest.MonkeyPatch.context() as patch:
        MUTANTS[name](patch)
        assert any(contradicts_a_belief(seed) for seed in range(TRACES))


def contradicts_a_belief(seed: int) -> bool:
    steps, freed_max = drawn(Random(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "FREED_PER_ENTRY_MAX", freed_max)
        try:
            World(freed_max, compared=False).run(steps)
        except AssertionError as error:
            return "still counts on" in str(error)
    return False


def test_what_is_found_is_shown_by_a_short_trace() -> None:
    with pytest.MonkeyPatch.context() as patch:
        MUTANTS["lost_steal_event"](patch)
        found = next(error for error in map(disagreement, range(TRACES)) if error is not None)
    steps = str(found).splitlines()[1:]
    assert "steal=True" in str(found)
    assert len(steps) <= 3


def disagreement(seed: int) -> AssertionError | None:
    try:
        agree(*drawn(Random(seed)))
    except AssertionError as error:
        return error
    return None
