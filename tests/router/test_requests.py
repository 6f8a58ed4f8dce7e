"""What becomes of a section before it reaches its group's queue."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest

from holdfast.wire.errors import Code
from holdfast.wire.frames import Kind, encode
from holdfast.wire.limits import SLOTS
from holdfast.wire.messages import Msg, Refusal, SlotTable
from holdfast_router.admission.verdict import LATER
from holdfast_router.downstream import Downstream
from holdfast_router.haste import EARLY_MAX
from holdfast_router.item import Item
from holdfast_router.requests import Requests
from tests.machine.driver import Op, section

BUSY = Refusal(Code.OVERLOADED, "too busy", 100)
GROUP = 1


@pytest.mark.parametrize(("has_room", "known"), [(True, True), (False, True), (True, False)])
async def test_who_finds_no_room_is_not_charged(*, has_room: bool, known: bool) -> None:
    charged: list[int] = []
    overloaded: list[tuple[int, int]] = []
    told: list[Refusal] = []
    requests = Requests(
        directory=cast(
            Any, SimpleNamespace(tenant=lambda number: SimpleNamespace(number=2, weight=3) if known else None)
        ),
        gate=cast(
            Any,
            SimpleNamespace(
                ask=lambda tenant, operations, exempt: LATER,
                wait=lambda tenant, operations, decided: charged.append(operations),
                overloaded=lambda tenant, operations: overloaded.append((tenant, operations)),
            ),
        ),
        groups=cast(
            Any,
            SimpleNamespace(
                serves=lambda group: True,
                refusal=lambda group, item: None if has_room else BUSY,
                count_refused=lambda group, refusal, operations: None,
            ),
        ),
        control=cast(Any, None),
        watches=cast(Any, None),
        routes=cast(Any, None),
    )
    requests.follow(SlotTable(1, GROUP.to_bytes(2, "little") * SLOTS))
    caller = SimpleNamespace(
        principal=SimpleNamespace(tenant=2),
        is_router=False,
        answered=lambda: None,
        refuse=lambda group, request, refusal: told.append(refusal),
        refuse_for_load=lambda group, request, refusal, *of: told.append(refusal),
        haste=SimpleNamespace(alike=lambda *of: None),
    )
    requests.on_section(
        cast(Any, caller), Msg.OPS, GROUP, 7, 1.0, encode(section(9, 1, [Op(Kind.ACQUIRE, 1, "a")] * 3))
    )
    if not known:
        assert [refusal.code for refusal in told] == [Code.UNAUTHENTICATED]
    else:
        assert told == ([] if has_room else [BUSY])
    assert charged == ([3] if has_room and known else [])
    assert overloaded == ([(2, 3)] if known and not has_room else [])


class _Busy:
    """Groups with no room for anything but what is exempt."""

    def __init__(self) -> None:
        self.looks = 0
        self.refused: Counter[int] = Counter()

    def serves(self, group: int) -> bool:
        return True

    def refusal(self, group: int, item: Item) -> Refusal | None:
        self.looks += 1
        return None if item.exempt else BUSY

    def count_refused(self, group: int, refusal: Refusal, operations: int) -> None:
        self.refused[group] += operations


class _Wire:
    """A connection that keeps what it is to send."""

    transport = None
    closed = paused = False

    def __init__(self) -> None:
        self.sent: list[tuple[int, int, int, bytes]] = []

    def send(self, kind: int, group: int, request: int, body: bytes) -> None:
        self.sent.append((kind, group, request, body))


class _Caller:
    """Asks, as its connection does, before groups that have no room."""

    def __init__(self, *, is_router: bool = False) -> None:
        self.groups, self.wire = _Busy(), _Wire()
        self.admitted: list[int] = []
        self.overloaded: Counter[int] = Counter()
        self.requests = Requests(
            directory=cast(Any, SimpleNamespace(tenant=lambda number: SimpleNamespace(number=2, weight=3))),
            gate=cast(
                Any,
                SimpleNamespace(
                    ask=lambda tenant, count, exempt: LATER,
                    wait=lambda tenant, count, decided: self.admitted.append(count),
                    overloaded=lambda tenant, count: self.overloaded.update({tenant: count}),
                ),
            ),
            groups=cast(Any, self.groups),
            control=cast(Any, None),
            watches=cast(Any, None),
            routes=cast(Any, None),
        )
        self.requests.follow(SlotTable(1, GROUP.to_bytes(2, "little") * SLOTS))
        self.caller = Downstream(cast(Any, self.wire))
        self.caller.principal = cast(Any, SimpleNamespace(tenant=2))
        self.caller.is_router = is_router
        self.asked = 0

    def ask(
        self, kind: Kind, *, group: int = GROUP, message: Msg = Msg.OPS, patience_s: float = 1.0, count: int = 3
    ) -> int:
        """Returns how often the groups were looked at for it."""
        before = self.groups.looks
        self.asked += 1
        self.caller.asked()
        body = encode(section(9, 1, [Op(kind, 1, "a")] * count))
        self.requests.on_section(self.caller, message, group, self.asked, patience_s, body)
        return self.groups.looks - before


async def test_what_a_hasty_caller_sent_at_once_is_refused_with_one_look() -> None:
    caller = _Caller()
    looks = [caller.ask(Kind.ACQUIRE) for _ in range(2 + EARLY_MAX + 5)]
    assert looks == [1] * (2 + EARLY_MAX) + [0] * 5
    assert [(kind, request, body) for kind, _, request, body in caller.wire.sent] == [
        (Msg.REFUSED, request, encode(BUSY)) for request in range(1, caller.asked + 1)
    ]
    assert caller.groups.refused == {GROUP: 3 * caller.asked}
    assert caller.overloaded == {2: 3 * caller.asked}
    assert caller.caller.outstanding == 0, "each was answered"
    async with asyncio.timeout(5):
        while caller.ask(Kind.ACQUIRE) == 0:  # until its rest is over
            await asyncio.sleep(0.001)


async def test_haste_costs_nothing_that_could_have_had_room() -> None:
    caller = _Caller()
    for _ in range(2 + EARLY_MAX):
        caller.ask(Kind.ACQUIRE)
    assert caller.ask(Kind.ACQUIRE) == 0
    assert caller.ask(Kind.ACQUIRE, group=GROUP + 1) == 1, "another group"
    assert caller.ask(Kind.HOLDS, message=Msg.READ) == 1, "what holders need"
    assert caller.ask(Kind.RELEASE) == 1
    assert caller.admitted == [3, 3]
    assert caller.ask(Kind.GET, message=Msg.READ) == 1, "another lane"
    assert caller.ask(Kind.ACQUIRE, count=1) == 1, "less of it may fit"
    assert caller.ask(Kind.ACQUIRE, patience_s=2.0) == 1, "who would wait longer"


async def test_what_comes_by_other_fronts_is_never_in_haste() -> None:
    caller = _Caller(is_router=True)
    assert [caller.ask(Kind.ACQUIRE) for _ in range(3 * EARLY_MAX)] == [1] * 3 * EARLY_MAX
