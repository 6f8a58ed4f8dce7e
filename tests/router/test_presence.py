"""How many calls a tenant has under way at a front, beside others."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from holdfast.wire.errors import Overloaded
from holdfast_router.operations.presence import RESERVE_PART, Presence

TOTAL = 16 * RESERVE_PART
RESERVED = 16
OPEN = TOTAL - RESERVED


def enter(presence: Presence, there: ExitStack, tenant: int, *, exempt: bool = False) -> int:
    """As many as there is room for."""
    count = 0
    while True:
        try:
            there.enter_context(presence.of(tenant, exempt=exempt))
        except Overloaded:
            return count
        count += 1


def test_one_tenant_has_half_and_each_that_comes_finds_room() -> None:
    presence = Presence(TOTAL)
    with ExitStack() as there:
        assert [enter(presence, there, tenant) for tenant in (1, 2, 3)] == [OPEN // 2, OPEN // 4, OPEN // 8]


def test_what_holders_need_finds_room_in_the_reserve_and_nothing_else_does() -> None:
    presence = Presence(TOTAL)
    with ExitStack() as there:
        for tenant in range(1, OPEN):
            enter(presence, there, tenant)
        with pytest.raises(Overloaded), presence.of(OPEN, exempt=False):
            pass
        assert enter(presence, there, 1, exempt=True) == RESERVED // 2
        assert enter(presence, there, OPEN, exempt=True) == RESERVED // 4


def test_there_is_room_again_when_calls_end() -> None:
    presence = Presence(TOTAL)
    for exempt, places in (False, OPEN // 2), (True, OPEN // 2 + RESERVED // 2), (False, OPEN // 2):
        with ExitStack() as there:
            assert enter(presence, there, 1, exempt=exempt) == places
