"""What becomes of a section before it reaches its group's queue."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from holdfast.wire.errors import Code
from holdfast.wire.frames import Kind, encode
from holdfast.wire.limits import SLOTS
from holdfast.wire.messages import Msg, Refusal, SlotTable
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
            Any, SimpleNamespace(serves=lambda group: True, refusal=lambda group, item: None if has_room else BUSY)
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
    )
    requests.on_section(
        cast(Any, caller), Msg.OPS, GROUP, 7, 1.0, encode(section(9, 1, [Op(Kind.ACQUIRE, 1, "a")] * 3))
    )
    if not known:
        assert [refusal.code for refusal in told] == [Code.UNAUTHENTICATED]
    else:
        assert told == ([] if has_room else [BUSY])
    assert charged == ([3] if has_room and known else [])
