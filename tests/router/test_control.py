"""How many sections wait at one router for their note in the audit log."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.wire.errors import Code
from holdfast.wire.frames import Kind
from holdfast.wire.messages import Beat, Msg
from holdfast.wire.stream import Connection
from holdfast.wire.tenants import KeyRole, Principal
from holdfast_router import control
from holdfast_router.control import Control
from holdfast_router.directory import Directory
from holdfast_router.downstream import Downstream
from holdfast_router.item import Item, Outcome
from tests.machine.driver import Op, section
from tests.tenants import meta_of


class Router:
    """Its groups answer nothing."""

    def __init__(self) -> None:
        directory = Directory(lambda: 0.0)
        directory.adopt(meta_of())
        directory.beat(Beat(1, 1))
        self.submitted: list[int] = []
        self.told: asyncio.Queue[Outcome] = asyncio.Queue()
        self.control = Control(
            directory,
            submit=lambda group, item: self.submitted.append(group),
            deliver=lambda group, outcome: self.told.put_nowait(outcome),
            draw=bytes,
        )
        self._caller = Downstream(Connection(lambda c, k, g, r, body: None, lambda c, e: None))
        self._caller.principal = Principal(1, "key", KeyRole.ADMIN)

    def breaks(self, wait_s: float) -> Item:
        """An admin takes a lock from its holder."""
        item = Item(self._caller, 1, Msg.OPS, b"", 0.0, tenant=1)
        self.control.carry_noted(0, item, section(1, 1, [Op(Kind.FORCE, name="a")]), wait_s)
        return item

    async def next_told(self) -> tuple[Item, int]:
        async with asyncio.timeout(10):
            outcome = await self.told.get()
        assert outcome.refusal is not None
        return outcome.item, outcome.refusal.code


async def test_so_many_sections_wait_for_their_note_and_room_again_when_one_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(control, "TASKS_MAX", 2)
    router = Router()
    _, short = router.breaks(60.0), router.breaks(0.05)
    beyond = router.breaks(60.0)
    assert await router.next_told() == (beyond, Code.OVERLOADED)
    assert await router.next_told() == (short, Code.UNAVAILABLE)
    await asyncio.sleep(0)
    before = len(router.submitted)
    router.breaks(60.0)
    async with asyncio.timeout(10):
        while len(router.submitted) == before:
            await asyncio.sleep(0)
    assert router.told.empty()
    await router.control.close()
