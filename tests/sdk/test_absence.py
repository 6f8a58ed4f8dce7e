"""Cached "not held"."""

from __future__ import annotations

import holdfast
from holdfast.wire.frames import Kind
from tests.sdk.service import Service


async def test_what_is_cached_is_not_asked_for_again(client: holdfast.Client, service: Service) -> None:
    assert (await client.get("a", cache=True)).holders == ()
    asked = len(service.operations)
    assert (await client.get("a", cache=True)).holders == ()
    assert len(service.operations) == asked


async def test_nothing_cached_contradicts_an_acquire_that_was_answered(
    client: holdfast.Client, other: holdfast.Client
) -> None:
    assert (await client.get("a", cache=True)).holders == ()
    async with other.lock("a") as lock:
        (holder,) = (await client.get("a", cache=True)).holders
        assert holder.token == lock.token
    assert (await client.get("a", cache=True)).holders == ()


async def test_what_is_held_is_not_cached(client: holdfast.Client, other: holdfast.Client, service: Service) -> None:
    async with other.lock("a"):
        for _ in range(2):
            assert len((await client.get("a", cache=True)).holders) == 1
    assert [kind for _, kind, name in service.operations if name == "a"].count(Kind.GET) == 2
