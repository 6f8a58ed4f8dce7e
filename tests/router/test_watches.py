"""Watches at a router: shared, of bounded number, asked of every new leader, and nobody misses anything unawares."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from holdfast.wire.errors import Code, Overloaded
from holdfast.wire.frames import LockView, encode
from holdfast.wire.messages import Refusal, Watched, WatchRequest, decode_watch, decode_watched
from holdfast_router import watches as module
from holdfast_router.watches import Watches


class Sdk:
    def __init__(self) -> None:
        self.reads = True
        self.told: list[tuple[int, Watched]] = []
        self.refused: list[tuple[int, int]] = []

    def watched(self, group: int, request: int, body: bytes) -> bool:
        if self.reads:
            self.told.append((request, decode_watched(body)))
        return self.reads

    def unwatched(self, group: int, request: int, refusal: Refusal) -> None:
        self.refused.append((request, refusal.code))

    def take(self) -> list[tuple[int, bool, list[str]]]:
        told, self.told = self.told, []
        return [(request, said.fresh, [view.name for view in said.views]) for request, said in told]


class Router:
    def __init__(self) -> None:
        self.sent: list[tuple[int, int, WatchRequest]] = []
        self.down: set[int] = set()
        self.timers: list[Callable[[], None]] = []
        self.told: list[tuple[int, int]] = []
        self.watches = Watches(self._send, lambda *told: self.told.append(told), self._later)

    def _send(self, node: int, group: int, request: int, body: bytes) -> bool:
        if node in self.down:
            return False
        self.sent.append((node, request, decode_watch(body)))
        return True

    def _later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        self.timers.append(callback)
        return cast(asyncio.TimerHandle, callback)

    def tick(self) -> None:
        timers, self.timers = self.timers, []
        for callback in timers:
            callback()

    def take(self) -> list[tuple[int, bool]]:
        sent, self.sent = self.sent, []
        return [(node, asked.on) for node, _, asked in sent]

    def say(self, node: int, request: int, *names: str, fresh: bool = False, refusal: Refusal | None = None) -> None:
        views = [LockView(name, 0, 0, []) for name in names]
        self.watches.heard(node, request, encode(Watched(fresh, views, refusal)))


@pytest.fixture
def router() -> Router:
    router = Router()
    router.watches.led(1, 7)
    return router


NAME = WatchRequest("a")


def test_those_who_watch_the_same_share_one_watch_at_the_leader(router: Router) -> None:
    one, two, late = Sdk(), Sdk(), Sdk()
    router.watches.begin(one, 1, 10, 1, NAME)
    router.watches.begin(two, 1, 20, 1, NAME)
    ((node, request, asked),) = router.sent
    assert (node, asked.name, asked.tenant, asked.on) == (7, "a", 1, True)
    assert (one.take(), two.take()) == ([], [])
    router.say(7, request, fresh=True)
    router.say(7, request, "a")
    assert one.take() == [(10, True, []), (10, False, ["a"])]
    assert two.take() == [(20, True, []), (20, False, ["a"])]
    assert router.told == [(1, 2)], "a new leader is nobody's change"
    router.watches.begin(late, 1, 30, 1, NAME)
    assert late.take() == [(30, True, [])]
    router.take()
    router.watches.end(one, 10)
    router.watches.gone(two)
    assert router.take() == []
    router.watches.end(late, 30)
    assert router.take() == [(7, False)]
    router.say(7, request, "a")
    assert (one.take(), two.take(), late.take()) == ([], [], [])


def test_tenants_share_nothing(router: Router) -> None:
    one, two = Sdk(), Sdk()
    router.watches.begin(one, 1, 10, 1, NAME)
    router.watches.begin(two, 1, 10, 2, NAME)
    assert [asked.tenant for _, _, asked in router.sent] == [1, 2]
    router.say(7, router.sent[1][1], "a", fresh=True)
    assert (one.take(), two.take()) == ([], [(10, True, ["a"])])


def test_a_new_leader_is_asked_and_the_old_one_heard_no_more(router: Router) -> None:
    sdk = Sdk()
    router.watches.begin(sdk, 1, 10, 1, NAME)
    request = router.sent[0][1]
    router.say(7, request, fresh=True)
    router.take()
    sdk.take()
    router.watches.disconnected(7)
    router.watches.led(1, 8)
    assert (8, True) in router.take()
    router.say(7, request, "a", fresh=True)
    router.say(8, request, "a")
    assert sdk.take() == []  # it does not stand yet
    router.say(8, request, fresh=True)
    assert sdk.take() == [(10, True, [])]


def test_without_a_leader_a_watch_waits_for_one(router: Router) -> None:
    sdk = Sdk()
    router.watches.led(1, 0)
    router.watches.begin(sdk, 1, 10, 1, NAME)
    assert router.take() == []
    router.down = {7}
    router.watches.led(1, 7)
    assert router.take() == []
    router.down = set()
    router.watches.led(1, 7)
    assert router.take() == [(7, True)]
    request = router.watches._next_request
    router.say(7, request, refusal=Refusal(Code.NOT_LEADER, "no more"))
    assert sdk.refused == []
    router.watches.led(1, 8)
    assert router.take() == [(8, True)]


def test_what_a_leader_refuses_for_good_is_told_and_over(router: Router) -> None:
    sdk = Sdk()
    router.watches.begin(sdk, 1, 10, 1, NAME)
    router.say(7, router.sent[0][1], refusal=Refusal(Code.OVERLOADED, "full"))
    assert sdk.refused == [(10, Code.OVERLOADED)]
    router.take()
    router.watches.led(1, 8)
    assert router.take() == []


def test_one_that_did_not_read_is_told_to_read_again_and_holds_nobody_up(router: Router) -> None:
    slow, quick = Sdk(), Sdk()
    for sdk in (slow, quick):
        router.watches.begin(sdk, 1, 10, 1, NAME)
    request = router.sent[0][1]
    router.say(7, request, fresh=True)
    slow.take()
    slow.reads = False
    router.say(7, request, "a")
    router.tick()
    assert quick.take() == [(10, True, []), (10, False, ["a"])]
    slow.reads = True
    router.tick()
    assert slow.take() == [(10, True, [])]
    assert router.timers == []


def test_a_tenant_has_a_bounded_number_of_watches(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WATCHES_PER_TENANT_MAX", 2)
    one, two = Sdk(), Sdk()
    router.watches.begin(one, 1, 10, 1, NAME)
    router.watches.begin(two, 1, 10, 1, NAME)
    with pytest.raises(Overloaded):
        router.watches.begin(two, 1, 11, 1, WatchRequest("b"))
    router.watches.begin(two, 1, 11, 2, WatchRequest("b"))
    router.watches.begin(two, 1, 10, 1, WatchRequest("b"))  # in the place of the one before
    router.watches.end(one, 10)
    router.watches.begin(two, 1, 12, 1, WatchRequest("c"))
