"""Watching by server-sent events, beside the gRPC stream that shows the same."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import httpx
import msgspec
import pytest

import holdfast
from holdfast.cluster import LocalCluster
from holdfast.core.watch import Watch
from holdfast.wire.frames import LockView
from holdfast_router.http import event_stream
from holdfast_router.operations.requests import LockState
from holdfast_router.operations.watching import Shown

FREE = LockState(name="a", held=False, holder_count=0, waiters=0, capacity=0, closed_ms=0, holders=[])


@asynccontextmanager
async def watching(service: LocalCluster, key: str = "", **query: str) -> AsyncIterator[httpx.Response]:
    headers = {"authorization": f"Bearer {key or service.api_key}"}
    async with (
        httpx.AsyncClient(base_url=service.http_url, headers=headers, timeout=10) as client,
        client.stream("GET", "/v1/watch", params=query) as response,
    ):
        yield response


async def states(response: httpx.Response) -> AsyncIterator[LockState]:
    kind = ""
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data" and kind == "lock":
            yield msgspec.json.decode(value, type=LockState)


async def test_a_lock_is_shown_now_and_after_every_change(service: LocalCluster, sdk: holdfast.Client) -> None:
    name = f"sse/{secrets.token_hex(4)}/ü?&"
    async with watching(service, name=name) as response:
        assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        shown = states(response)
        assert not (await anext(shown)).held
        async with sdk.lock(name) as lock:
            assert (await anext(shown)).holders[0].token == lock.token
        assert not (await anext(shown)).held


async def test_a_prefix_is_watched_and_what_cannot_be_is_a_problem(service: LocalCluster, sdk: holdfast.Client) -> None:
    stem = f"sse/{secrets.token_hex(4)}/"
    async with sdk.lock(f"{stem}1"), watching(service, prefix=stem) as response:
        assert (await anext(states(response))).name == f"{stem}1"
    for query, status in (({}, 400), ({"name": "a", "prefix": "b"}, 400), ({"name": ""}, 400), ({"other": "a"}, 400)):
        async with watching(service, **query) as response:
            assert response.status_code == status
            assert response.headers["content-type"] == "application/problem+json"
    async with watching(service, key="hf_nobody", name="a") as response:
        assert response.status_code == 401


async def test_who_goes_away_is_watched_for_no_longer(service: LocalCluster, sdk: holdfast.Client) -> None:
    """Whatever ended it, the router lets go of the watch: ten thousand in a row would not fit otherwise."""
    for _ in range(20):
        async with watching(service, name="sse/gone") as response:
            await anext(states(response))


async def test_silence_is_broken_by_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "PULSE_S", 0.01)

    async def silent() -> AsyncIterator[LockState]:
        while await asyncio.Event().wait():
            yield FREE

    pieces = event_stream.events(silent())
    assert [await anext(pieces) for _ in range(3)] == [b"retry: 1000\n\n", b":\n\n", b":\n\n"]


async def test_the_last_event_of_a_watch_that_cannot_go_on_says_why() -> None:
    async def broken(why: str = "no more") -> AsyncIterator[LockState]:
        if why:
            raise holdfast.Unavailable(why)
        yield FREE

    said = b"".join([piece async for piece in event_stream.events(broken())])
    assert said.startswith(b"retry: 1000\n\nevent: problem\ndata: {")
    assert b"no more" in said


class Silent:
    """A watch that has nothing to show."""

    def __init__(self) -> None:
        self.changed: dict[str, LockView] = {}
        self._waiter: asyncio.Future[None] | None = None
        self._lives = True

    def wait(self, waiter: asyncio.Future[None]) -> None:
        self._waiter = waiter
        if not self._lives:
            waiter.set_result(None)

    def end(self) -> None:
        self._lives = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def test_a_watch_that_is_closed_ends_whoever_waits_for_its_next_state() -> None:
    """He waited for it without end, and without letting anybody else have a turn."""
    shown = Shown(cast(Watch, Silent()), lambda: None)
    waiting = asyncio.ensure_future(anext(shown))
    await asyncio.sleep(0)
    await shown.aclose()
    with pytest.raises(StopAsyncIteration):
        await waiting


async def test_a_stream_that_is_closed_in_the_middle_of_a_pulse_waits_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when its reader has stopped reading, and goes away."""
    monkeypatch.setattr(event_stream, "PULSE_S", 0.0)
    shown = Shown(cast(Watch, Silent()), lambda: None)
    pieces = event_stream.events(shown)
    assert [await anext(pieces) for _ in range(2)] == [b"retry: 1000\n\n", b":\n\n"]
    before = asyncio.all_tasks()
    await pieces.aclose()
    await shown.aclose()
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == len(before) - 1
