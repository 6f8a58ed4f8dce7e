"""Admission of the other fronts: what counts as under way, and for how long."""

from __future__ import annotations

import asyncio

import pytest

from holdfast_router.admission.verdict import Denied, Standing
from holdfast_router.operations import turnstile
from holdfast_router.operations.requests import Acquire, AcquireOne, Batch, Release, ReleaseOne
from holdfast_router.operations.turnstile import Turnstile, charge_of


class Gate:
    """Admits everything."""

    def __init__(self) -> None:
        self.under_way = 0
        self.took_s: list[float] = []

    async def admit(self, tenant: int, operations: int, *, exempt: bool = False) -> Denied | None:
        self.under_way += operations
        return None

    def ended(self, tenant: int, operations: int, took_s: float) -> None:
        self.under_way -= operations
        self.took_s.append(took_s)

    def told(self, tenant: int, watchers: int) -> None: ...

    def standing(self, tenant: int) -> Standing:
        return Standing(1, 1, 1, 0)


async def test_what_is_carried_out_is_under_way_until_it_ends_however_that_is() -> None:
    gate = Gate()
    gates = Turnstile(gate)

    async def fails() -> None:
        assert gate.under_way == 1
        raise ValueError("as it happens")

    with pytest.raises(ValueError, match="as it happens"):
        await gates.admitted(1, Acquire(name="a"), fails)
    assert gate.under_way == 0
    gates.close()


async def test_who_waits_counts_for_a_while_and_is_ended_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turnstile, "UNDER_WAY_S", 0.05)
    gate = Gate()
    gates = Turnstile(gate)
    over = asyncio.Event()

    async def waits() -> bool:
        return await over.wait()

    first = asyncio.create_task(gates.admitted(1, Acquire(name="a"), waits))
    await asyncio.sleep(0.03)
    later = asyncio.create_task(gates.admitted(1, Acquire(name="b"), waits))
    async with asyncio.timeout(10):
        while gate.under_way:
            await asyncio.sleep(0.001)
    assert min(gate.took_s) >= 0.05, "neither before its time, the later one included"
    over.set()
    assert await first
    assert await later
    assert (gate.under_way, len(gate.took_s)) == (0, 2)
    gates.close()


def test_a_batch_is_charged_as_what_it_has() -> None:
    acquire, release = AcquireOne(name="a"), ReleaseOne(name="a", token=1)
    assert charge_of(Acquire(name="a")) == (1, False)
    assert charge_of(Release(name="a", token=1)) == (1, True)
    assert charge_of(Batch(operations=[acquire, release, acquire])) == (3, False)
    assert charge_of(Batch(operations=[release, release])) == (2, True)
