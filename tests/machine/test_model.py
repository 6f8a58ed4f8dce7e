"""The machine against the naive reference, in lock step over traces that Hypothesis makes up."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from holdfast.wire import limits
from holdfast_shard import compiled
from tests.machine.lockstep import failure, shortened
from tests.machine.steps import Step
from tests.machine.traces import trace

TRACES = 500
STEPS = 60


def drawn(rng: Random) -> tuple[list[Step], int]:
    """A trace, and how much an entry may free of what is over: at times little, for then every order of freeing is
    met; but the limit is compiled in."""
    little = [] if compiled.in_use() else [1, 2]
    return trace(rng, STEPS), rng.choice([limits.FREED_PER_ENTRY_MAX] * 3 + little)


def agree(steps: list[Step], freed_max: int, *, short: bool = True) -> None:
    """Raises ``AssertionError`` when machine and reference come apart; with a ``short`` trace that shows it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "FREED_PER_ENTRY_MAX", freed_max)
        error = failure(steps, freed_max)
        if error is None:
            return
        if short:
            steps, error = shortened(steps, freed_max)
        lines = "\n".join(f"    {step!r}," for step in steps)
        raise AssertionError(f"{error!r} with freed_max={freed_max}, after\n{lines}") from error


# Hypothesis would shrink a seed; leaving out steps is what makes a trace short.
run = settings(max_examples=TRACES, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])


@run
@given(st.randoms(use_true_random=True))
def test_the_machine_and_the_reference_agree_on_everything(rng: Random) -> None:
    agree(*drawn(rng))


@pytest.mark.long
@pytest.mark.timeout(3600)
@settings(run, max_examples=20_000)
@given(st.randoms(use_true_random=True))
def test_the_machine_and_the_reference_agree_for_long(rng: Random) -> None:
    agree(*drawn(rng))
