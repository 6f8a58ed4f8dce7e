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
    told: list[Refusal] = []
    requests = Requests(
        directory=cast(
            Any, SimpleNamespace(tenant=lambda number: SimpleNamespace(number=2, weight=3) if known else None)
        ),
        gate=cast(Any, SimpleNamespace(ask=lambda tenant, operations, decided, exempt: charged.append(operations))),
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
        turn_away=lambda group, kind, request, refusal: told.append(refusal),
        said=lambda group, kind: None,
    )
    requests.on_section(
        cast(Any, caller), Msg.OPS, GROUP, 7, 1.0, encode(section(9, 1, [Op(Kind.ACQUIRE, 1, "a")] * 3))
    )
    if not known:
        assert [refusal.code for refusal in told] == [Code.UNAUTHENTICATED]
    else:
        assert told == ([] if has_room else [BUSY])
    assert charged == ([3] if has_room and known else [])


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


async def test_what_a_hasty_caller_sent_at_once_is_refused_with_one_look_but_for_what_holders_need() -> None:
    groups, wire = _Busy(), _Wire()
    admitted: list[int] = []
    requests = Requests(
        directory=cast(Any, SimpleNamespace(tenant=lambda number: SimpleNamespace(number=2, weight=3))),
        gate=cast(Any, SimpleNamespace(ask=lambda tenant, operations, decided, exempt: admitted.append(operations))),
        groups=cast(Any, groups),
        control=cast(Any, None),
        watches=cast(Any, None),
        routes=cast(Any, None),
    )
    requests.follow(SlotTable(1, GROUP.to_bytes(2, "little") * SLOTS))
    caller = Downstream(cast(Any, wire))
    caller.principal = cast(Any, SimpleNamespace(tenant=2))
    asked = 0

    def ask(kind: Kind, group: int = GROUP) -> None:
        nonlocal asked
        asked += 1
        requests.on_section(caller, Msg.OPS, group, asked, 1.0, encode(section(9, 1, [Op(kind, 1, "a")] * 3)))

    for _ in range(2 + EARLY_MAX):
        ask(Kind.ACQUIRE)
    hasty = groups.looks
    assert hasty == 2 + EARLY_MAX, "each was looked at"
    for _ in range(5):
        ask(Kind.ACQUIRE)
    assert groups.looks == hasty
    assert [(kind, request, body) for kind, _, request, body in wire.sent] == [
        (Msg.REFUSED, request, encode(BUSY)) for request in range(1, asked + 1)
    ]
    assert groups.refused == {GROUP: 3 * asked}
    ask(Kind.RELEASE)
    assert admitted == [3]
    ask(Kind.ACQUIRE, GROUP + 1)
    assert groups.looks == hasty + 2, "another group may have room"
    async with asyncio.timeout(5):
        while caller.said(GROUP, Msg.OPS) is not None:
            await asyncio.sleep(0.001)
    ask(Kind.ACQUIRE)
    assert groups.looks == hasty + 3, "its rest is over"
