"""The machine against the naive reference, in lock step over traces that Hypothesis makes up."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from holdfast.wire import limits
from tests.machine.lockstep import Step, failure, shortened
from tests.machine.traces import trace

FREED = st.sampled_from([limits.FREED_PER_ENTRY_MAX] * 3 + [1, 2])
"""How much an entry may free of what is over: rarely little, for then every order of freeing is met."""


STEPS = 60


def agree(steps: list[Step], freed_max: int) -> None:
    """Raises ``AssertionError`` with a short trace when machine and reference come apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "FREED_PER_ENTRY_MAX", freed_max)
        if failure(steps, freed_max) is not None:
            short, error = shortened(steps, freed_max)
            lines = "\n".join(f"    {step!r}," for step in short)
            raise AssertionError(f"{error!r} with freed_max={freed_max}, after\n{lines}") from error


# Hypothesis shrinks every number of every step; leaving steps out is a hundred times faster and reads as well.
@settings(
    max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)
@given(st.randoms(use_true_random=True), FREED)
def test_the_machine_and_the_reference_agree_on_everything(rng: Random, freed_max: int) -> None:
    agree(trace(rng, STEPS), freed_max)
