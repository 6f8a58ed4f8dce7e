"""The gate: which quota refuses, what passes whatever is used up, and that everything admitted ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from holdfast.wire.exempt import all_exempt
from holdfast.wire.frames import Kind
from holdfast.wire.tenants import Quotas
from holdfast_router.admission.gate import TELLINGS_PER_OPERATION, Gate
from holdfast_router.admission.verdict import IN_FLIGHT, LATER, RATE, Decided, Denied, Later
from tests.router.admission.clock import Clock
from tests.router.admission.test_bucket import quotas

ACQUIRE, RELEASE, GET = (bytes([kind]) for kind in (Kind.ACQUIRE, Kind.RELEASE, Kind.GET))


class Tenants:
    def __init__(self, **limits: int) -> None:
        self.clock = Clock()
        self.routers = 1
        self.given = msgspec.structs.replace(quotas(100, 200), **limits)
        self.gate = Gate(lambda tenant: self.given, lambda: self.routers, self.clock)

    def ask(self, kinds: bytes, tenant: int = 1) -> Denied | None:
        verdict = self.gate.ask(tenant, len(kinds), exempt=all_exempt(kinds, {}))
        assert verdict is not LATER, "without Redis"
        return verdict


@pytest.mark.parametrize("routers", [1, 3])
def test_a_router_admits_its_share_of_what_is_in_flight(routers: int) -> None:
    tenants = Tenants(in_flight=30)
    tenants.routers = routers
    share = 30 // routers
    for _ in range(share):
        assert tenants.ask(ACQUIRE) is None
    denied = tenants.ask(GET)
    assert denied is not None
    assert (denied.quota, denied.limit) == (IN_FLIGHT, 30)
    assert denied.retry_after_ms > 0
    assert tenants.ask(RELEASE) is None
    assert tenants.ask(ACQUIRE, tenant=2) is None
    tenants.gate.ended(1, 2, 0.01)
    assert tenants.ask(ACQUIRE) is None
    assert tenants.ask(ACQUIRE) is not None


def test_a_section_larger_than_all_that_may_be_in_flight_is_admitted_alone() -> None:
    tenants = Tenants(in_flight=10)
    assert tenants.ask(50 * ACQUIRE) is None
    assert tenants.ask(ACQUIRE) is not None
    tenants.gate.ended(1, 50, 0.01)
    assert tenants.ask(ACQUIRE) is None


def test_what_is_exempt_is_charged() -> None:
    tenants = Tenants(in_flight=100_000)
    for _ in range(5):
        assert tenants.ask(200 * RELEASE) is None
    denied = tenants.ask(ACQUIRE)
    assert denied is not None
    assert denied.quota == RATE
    assert denied.retry_after_ms == pytest.approx(2010, abs=2)
    assert tenants.gate.standing(1).remaining == 0
    assert tenants.gate.status() == {"admitted": 1000, "throttled": {RATE: 1, IN_FLIGHT: 0}, "under_way": 1000}


def test_what_is_refused_for_load_is_counted_for_its_tenant_and_not_charged() -> None:
    tenants = Tenants()
    assert tenants.ask(ACQUIRE) is None
    before = tenants.gate.standing(1)
    tenants.gate.overloaded(1, 300)
    tenants.gate.overloaded(2, 7)
    assert {tenant: counts["overloaded"] for tenant, counts in tenants.gate.counts.items()} == {1: 300, 2: 7}
    assert tenants.gate.counts[1]["admitted"] == 1
    assert tenants.gate.standing(1) == before
    tenants.gate.forget([1])
    assert tenants.gate.counts.keys() == {2}


def test_what_watchers_are_told_is_charged_and_never_refused() -> None:
    tenants = Tenants()
    for _ in range(201 * TELLINGS_PER_OPERATION // 3):
        tenants.gate.told(1, 3)
        tenants.gate.told(2, 1)
    assert tenants.ask(RELEASE) is None
    denied = tenants.ask(ACQUIRE)
    assert denied is not None
    assert denied.quota == RATE
    assert tenants.ask(ACQUIRE, tenant=2) is None, "67 operations of 200"
    tenants.clock.now += denied.retry_after_s
    assert tenants.ask(ACQUIRE) is None


def test_how_a_tenant_stands() -> None:
    tenants = Tenants(in_flight=1000)
    assert tenants.ask(150 * ACQUIRE) is None
    standing = tenants.gate.standing(1)
    assert (standing.limit, standing.burst, standing.remaining) == (100, 200, 50)
    assert standing.reset_s == pytest.approx(1.5)
    tenants.clock.now += 1
    assert tenants.gate.standing(1).remaining == 150


class Slow:
    """Rates that answer when they are told to."""

    def __init__(self) -> None:
        self.waiting: list[Decided] = []

    def ask(self, tenant: int, given: Quotas, operations: int) -> Later:
        return LATER

    def wait(self, tenant: int, operations: int, decided: Decided) -> None:
        self.waiting.append(decided)

    def status(self) -> dict[str, object]:
        return {}


@pytest.mark.parametrize("answer_first", [True, False])
async def test_who_is_cancelled_while_redis_is_asked_leaves_nothing_under_way(
    monkeypatch: pytest.MonkeyPatch, answer_first: bool
) -> None:
    tenants = Tenants(in_flight=10)
    slow = Slow()
    monkeypatch.setattr(tenants.gate, "_rates", slow)
    monkeypatch.setattr(tenants.gate, "_redis", slow)
    task = asyncio.create_task(tenants.gate.admit(1, 1))
    while not slow.waiting:
        await asyncio.sleep(0)
    steps: list[Callable[[], object]] = [lambda: slow.waiting[0](None), task.cancel]
    for step in steps if answer_first else reversed(steps):
        step()
    if not answer_first:
        await asyncio.wait([task])
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tenants.gate.status()["under_way"] == 0


async def test_a_task_is_told_what_a_caller_would_be() -> None:
    tenants = Tenants(in_flight=1)
    assert await tenants.gate.admit(1, 1) is None
    denied = await tenants.gate.admit(1, 1)
    assert denied is not None
    assert denied.error().quota == IN_FLIGHT


def test_of_a_deleted_tenant_the_totals_alone_are_kept() -> None:
    tenants = Tenants()
    assert tenants.ask(ACQUIRE) is None
    assert tenants.ask(ACQUIRE, tenant=2) is None
    before = tenants.gate.status()
    tenants.gate.forget([1, 7])
    assert set(tenants.gate.counts) == {2}
    assert tenants.gate.status() == before
