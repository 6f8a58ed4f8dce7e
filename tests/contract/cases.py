"""What every front promises alike: a table of cases, each a few steps and what each of them comes to.

A case is played through HTTP (names in the path, names in the body), gRPC, the frame stream and the SDK, each on names
of its own. ``of`` names the earlier step whose grant
or session a step is about. Errors are told by their stable codes (``holdfast_router.operations.problems``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Step:
    do: str
    """acquire, release, renew, check, get, list, break, session, keep, listed (among the sessions), end; batch: acquire
    ``name`` and release ``of`` side by side."""
    name: str = ""
    of: int | None = None
    """Of which step's grant or session it is."""
    under: int | None = None
    """Through which step's session it acquires."""
    code: str = ""
    """The error it comes to; empty when it succeeds."""
    told: dict[str, Any] = field(default_factory=dict)
    """Of what is told."""
    given: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    id: str
    steps: tuple[Step, ...]


CASES = (
    Case(
        "a lock is held by one and free again after its release",
        (
            Step("acquire", "a"),
            Step("acquire", "a", code="lock-timeout"),
            Step("get", "a", told={"held": True, "waiters": 0}),
            Step("check", of=0, told={"held": True}),
            Step("release", of=0),
            Step("check", of=0, told={"held": False}),
            Step("get", "a", told={"held": False}),
            Step("acquire", "a"),
        ),
    ),
    Case(
        "what was released is not released twice",
        (Step("acquire", "a"), Step("release", of=0), Step("release", of=0, code="not-held")),
    ),
    Case(
        "a wait that is over leaves nothing behind",
        (
            Step("acquire", "a"),
            Step("acquire", "a", given={"wait_ms": 150}, code="lock-timeout"),
            Step("get", "a", told={"waiters": 0}),
        ),
    ),
    Case(
        "readers share, a writer does not",
        (
            Step("acquire", "a", given={"shared": True}),
            Step("acquire", "a", given={"shared": True}),
            Step("acquire", "a", code="lock-timeout"),
            Step("get", "a", told={"holders": 2}),
        ),
    ),
    Case(
        "a semaphore gives its permits and no more, and has one capacity",
        (
            Step("acquire", "a", given={"permits": 2, "capacity": 3}),
            Step("acquire", "a", given={"permits": 2, "capacity": 3}, code="lock-timeout"),
            Step("acquire", "a", given={"permits": 1, "capacity": 3}),
            Step("acquire", "a", given={"permits": 1, "capacity": 4}, code="capacity-mismatch"),
        ),
    ),
    Case("a name without a letter is none", (Step("acquire", "", code="invalid-argument"),)),
    Case("a name with a control character is none", (Step("acquire", "a\x07", code="invalid-argument"),)),
    Case("a long name is none", (Step("acquire", "é" * 300, code="invalid-argument"),)),
    Case("a name may be of any other characters", (Step("acquire", "a/b %2F?#é☃ {x}"), Step("release", of=0))),
    Case("a short ttl is none", (Step("acquire", "a", given={"ttl_ms": 99}, code="invalid-argument"),)),
    Case("a long ttl is none", (Step("acquire", "a", given={"ttl_ms": 86_400_001}, code="invalid-argument"),)),
    Case(
        "more permits than capacity are none",
        (Step("acquire", "a", given={"permits": 2, "capacity": 1}, code="invalid-argument"),),
    ),
    Case(
        "a lease is renewed while it is held",
        (
            Step("acquire", "a", given={"ttl_ms": 400, "renew": False}),
            Step("renew", of=0, told={"expires_in_ms": (250, 2000)}),
            Step("release", of=0),
        ),
    ),
    Case(
        "what is forced away is renewed no more, and passes on",
        (
            Step("acquire", "a", given={"ttl_ms": 300, "renew": False}),
            Step("break", "a"),
            Step("renew", of=0, code="lock-lost"),
            Step("acquire", "a", given={"wait_ms": 5000}),
        ),
    ),
    Case("what nobody holds cannot be broken", (Step("break", "a", code="not-held"),)),
    Case(
        "a session holds many, and lets go of all at its end",
        (
            Step("session"),
            Step("acquire", "a", under=0),
            Step("acquire", "b", under=0),
            Step("keep", of=0),
            Step("acquire", "a", under=0, code="already-held"),
            Step("end", of=0),
            Step("get", "a", told={"held": False}),
            Step("acquire", "b"),
        ),
    ),
    Case(
        "a list shows what is held under its prefix",
        (Step("acquire", "x/1"), Step("acquire", "x/2"), Step("acquire", "y/1"), Step("list", "x/", told={"names": 2})),
    ),
    Case(
        "a session is listed with what it holds",
        (
            Step("session"),
            Step("acquire", "a", under=0),
            Step("acquire", "b", under=0),
            Step("listed", of=0, told={"held": 2}),
            Step("release", of=1),
            Step("listed", of=0, told={"held": 1}),
            Step("end", of=0),
            Step("listed", of=0, told={"held": 0}),
        ),
    ),
    Case(
        "what is asked together is done each for itself",
        (
            Step("acquire", "{x}a"),
            Step("batch", "{x}b", of=0, told={"codes": ["", ""]}),
            Step("batch", "{x}b", of=0, told={"codes": ["lock-timeout", "not-held"]}),
            Step("get", "{x}b", told={"held": True}),
            Step("get", "{x}a", told={"held": False}),
        ),
    ),
    Case(
        "a stolen lock is the thief's when its holder has lost it",
        (
            Step("acquire", "a", given={"ttl_ms": 300, "renew": False}),
            Step("acquire", "a", given={"steal": True, "wait_ms": 5000}),
            Step("check", of=0, told={"held": False}),
            Step("check", of=1, told={"held": True}),
        ),
    ),
)
