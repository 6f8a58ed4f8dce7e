"""The judge and histories that a model of a lock has made: all are accepted, and none in which one thing is broken.

The model knows at which moment each grant began and ended and what each read saw; callers see only bounds around these
moments, which overlap at random, and some of them never hear the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from .events import Mode, Op, Outcome, Shown
from .history import Call, History
from .judge import EXCUSED_S, violations

NAME = "name"
CAPACITY = 3
MOMENT = st.integers(0, 5).map(float)


@dataclass(slots=True)
class Held:
    """What the model knows of a grant: it was there from ``began`` until just before ``ended``."""

    call: Call
    token: int
    began: float
    ended: float

    @property
    def shown(self) -> Shown:
        return Shown(self.token, self.call.id, self.call.mode, self.call.permits)


@dataclass(slots=True)
class Made:
    held: list[Held] = field(default_factory=list)
    others: list[Call] = field(default_factory=list)

    def judged(self, *more: Call) -> list[str]:
        calls = [*(held.call for held in self.held), *self.others, *more]
        return violations(History({call.id: call for call in calls}))

    def at(self, moment: float) -> tuple[Shown, ...]:
        return tuple(held.shown for held in self.held if held.began <= moment < held.ended)

    @property
    def over(self) -> float:
        return max((held.ended for held in self.held), default=0.0)


@st.composite
def made(draw: st.DrawFn) -> Made:
    history = Made()
    for _ in range(draw(st.integers(1, 8))):
        _some_hold(draw, history)
    for number in range(draw(st.integers(0, 12))):
        _read(draw, history, number)
    for number in range(draw(st.integers(0, 3))):
        _refusal(draw, history, number)
    return history


def _some_hold(draw: st.DrawFn, history: Made) -> None:
    """One exclusive holder, or several that fit beside each other, when all before them have gone."""
    mode = draw(st.sampled_from(Mode))
    free = history.over
    used = 0
    for _ in range(1 if mode == Mode.EXCLUSIVE else draw(st.integers(1, 3))):
        permits = draw(st.integers(1, CAPACITY)) if mode == Mode.PERMITS else 1
        used += permits
        if mode == Mode.PERMITS and used > CAPACITY:
            break
        # Tokens rise with the moments at which grants begin.
        since = max(free, history.held[-1].began if history.held else 0.0)
        history.held.append(_hold(draw, history, mode, permits, since + draw(MOMENT) / 10))


def _hold(draw: st.DrawFn, history: Made, mode: Mode, permits: int, began: float) -> Held:
    token = len(history.held) + 1
    had = began + draw(MOMENT)
    ended = had + 1.0 + draw(MOMENT)
    call = Call(
        f"acquire {token}", Op.ACQUIRE, NAME, began - draw(MOMENT), had, Outcome.OK, mode=mode, permits=permits,
        capacity=CAPACITY, token=token,
    )  # fmt: skip
    held = Held(call, token, began, ended)
    fate = draw(st.sampled_from([_released, _released, _unanswered_release, _expired, _unheard]))
    fate(draw, history, held)
    return held


def _released(draw: st.DrawFn, history: Made, held: Held) -> None:
    _release(draw, history, held, held.ended + draw(MOMENT), Outcome.OK)


def _unanswered_release(draw: st.DrawFn, history: Made, held: Held) -> None:
    _release(draw, history, held, draw(st.sampled_from([held.ended - 0.25, inf])), Outcome.UNKNOWN)


def _release(draw: st.DrawFn, history: Made, held: Held, answered: float, outcome: Outcome) -> None:
    asked = draw(st.floats(held.call.ended, held.ended - 0.5))
    held.call.looks.append((asked, held.ended))
    history.others.append(
        Call(
            f"release {held.token}", Op.RELEASE, NAME, asked, answered, outcome, capacity=CAPACITY, hold=held.call.id,
            token=held.token,
        )
    )  # fmt: skip


def _expired(draw: st.DrawFn, history: Made, held: Held) -> None:
    seen = draw(st.floats(held.call.ended, held.ended - 0.5))
    held.call.looks.append((seen, draw(st.floats(seen + 0.1, held.ended))))


def _unheard(draw: st.DrawFn, history: Made, held: Held) -> None:
    """Its caller was killed before the answer came."""
    held.call.outcome, held.call.ended, held.call.token = Outcome.UNKNOWN, inf, 0


def _read(draw: st.DrawFn, history: Made, number: int) -> None:
    # Between the moments at which something changes.
    moment = draw(st.floats(0.0, history.over + 3.0)) + 1e-9
    began, ended = moment - draw(MOMENT), moment + draw(MOMENT)
    shown = history.at(moment)
    answered = [held for held in history.held if held.call.granted and held.call.ended < began]
    checks = draw(st.booleans())
    if answered and checks:
        held = draw(st.sampled_from(answered))
        call = Call(f"check {number}", Op.CHECK, NAME, began, ended, Outcome.OK, token=held.token)
        call.holds = held.shown in shown
    else:
        call = Call(f"get {number}", Op.GET, NAME, began, ended, Outcome.OK, shown=shown)
    history.others.append(call)


def _refusal(draw: st.DrawFn, history: Made, number: int) -> None:
    held = draw(st.sampled_from(history.held))
    moment = draw(st.floats(held.began, held.ended, exclude_max=True))
    refused = Call(
        f"try {number}", Op.ACQUIRE, NAME, moment - draw(MOMENT), moment + draw(MOMENT), Outcome.FAILED, "LockTimeout"
    )
    refused.tries = True
    history.others.append(refused)


@settings(max_examples=300, deadline=None)
@given(made())
def test_what_a_lock_has_made_is_accepted(history: Made) -> None:
    assert history.judged() == []


def _get(began: float, *shown: Shown) -> Call:
    return Call("broken get", Op.GET, NAME, began, began + 0.01, Outcome.OK, shown=shown)


def stale_read(history: Made, held: Held) -> list[str]:
    release = next((call for call in history.others if call.hold == held.call.id), None)
    assume(release is not None and release.outcome == Outcome.OK)
    assert release is not None
    return history.judged(_get(release.ended + 0.01, held.shown))


def lost_grant(history: Made, held: Held) -> list[str]:
    assume(_believed_s(held) > 0.05)
    return history.judged(_get(held.call.ended + 0.01))


def second_holder(history: Made, held: Held) -> list[str]:
    assume(_believed_s(held) > 0.05)
    token, since = len(history.held) + 1, held.call.ended
    return history.judged(
        Call(
            "broken", Op.ACQUIRE, NAME, since, since + 0.01, Outcome.OK, token=token,
            looks=[(since + 0.03, since + 0.04)],
        )
    )  # fmt: skip


def falling_token(history: Made, held: Held) -> list[str]:
    asked = max(held.call.ended, history.over) + 1.0
    return history.judged(Call("broken", Op.ACQUIRE, NAME, asked, asked + 1.0, Outcome.OK, token=held.token - 1))


def token_twice(history: Made, held: Held) -> list[str]:
    asked = history.over + 1.0
    return history.judged(Call("broken", Op.ACQUIRE, NAME, asked, asked + 1.0, Outcome.OK, token=held.token))


def failure_with_effect(history: Made, held: Held) -> list[str]:
    began = history.over + 10.0
    failed = Call("broken", Op.ACQUIRE, NAME, began, began + 1.0, Outcome.FAILED, "LockTimeout")
    return history.judged(failed, _get(began + 2.0, Shown(len(history.held) + 1, "broken", Mode.EXCLUSIVE)))


def refused_when_free(history: Made, held: Held) -> list[str]:
    began = history.over + 3 * EXCUSED_S
    refused = Call("broken", Op.ACQUIRE, NAME, began, began + 1.0, Outcome.FAILED, "LockTimeout", tries=True)
    return history.judged(refused)


def _believed_s(held: Held) -> float:
    return max((at for at, _ in held.call.looks), default=held.call.ended) - held.call.ended


BREAKS: list[Callable[[Made, Held], list[str]]] = [
    stale_read,
    lost_grant,
    second_holder,
    falling_token,
    token_twice,
    failure_with_effect,
    refused_when_free,
]


@pytest.mark.parametrize("broken", BREAKS)
@settings(max_examples=60, deadline=None)
@given(history=made(), data=st.data())
def test_one_broken_thing_is_refused(
    history: Made, data: st.DataObject, broken: Callable[[Made, Held], list[str]]
) -> None:
    answered = [held for held in history.held if held.call.granted]
    assume(answered)
    assert broken(history, data.draw(st.sampled_from(answered)))
