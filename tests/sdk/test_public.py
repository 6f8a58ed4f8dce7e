"""What ``holdfast`` and ``holdfast.sync`` offer, as names and as types (mypy reads this file too)."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import assert_type

import pytest

import holdfast
import holdfast.sync
from holdfast.signals import Signal

ERRORS = {
    "AlreadyHeld", "CapacityMismatch", "ClientClosed", "HoldfastError", "InvalidArgument", "InvalidLockID",
    "InvalidName", "LockLost", "LockTimeout", "NotHeld", "OutcomeUnknown", "Overloaded", "QuotaExceeded", "Rejected",
    "SessionLost", "Unauthenticated", "Unavailable",
}  # fmt: skip
REST = {
    "Client", "HolderInfo", "Lock", "LockInfo", "Reason", "Semaphore", "Session", "SessionInfo", "SessionLoss",
    "Signal", "connect",
}  # fmt: skip


def test_the_names_are_these() -> None:
    assert set(holdfast.__all__) == ERRORS | REST
    assert set(holdfast.sync.__all__) == {"Client", "Lock", "Session", "connect"}
    for name in ERRORS:
        assert issubclass(getattr(holdfast, name), holdfast.HoldfastError)


def public(kind: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("kind", "threads", "missing"),
    [
        (holdfast.Client, holdfast.sync.Client, {"closed"}),
        (holdfast.Session, holdfast.sync.Session, {"core", "session_lost", "lost"}),
        (holdfast.Lock, holdfast.sync.Lock, {"hold_lost", "leave", "let_go", "lost", "notice"}),
    ],
)
def test_threads_have_what_coroutines_have(kind: type, threads: type, missing: set[str]) -> None:
    """What an object has from its making (``lost``) is not seen on the class."""
    assert public(kind) - public(threads) <= missing


async def types(client: holdfast.Client) -> None:
    """Never called: mypy checks it."""
    lock = client.lock("a", ttl=1.5, wait=0, shared=True, metadata="x")
    assert_type(lock, holdfast.Lock)
    async with lock as entered:
        assert_type(entered, holdfast.Lock)
        assert_type(entered.token, int)
        assert_type(entered.remaining(), float)
        assert_type(entered.lost, Signal[holdfast.Reason])
    assert_type(await client.try_lock("a"), holdfast.Lock | None)
    assert_type(await client.semaphore("a", 3).acquire(), holdfast.Semaphore)
    assert_type(await client.get("a"), holdfast.LockInfo)
    assert_type(await client.check("a", 1), bool)
    assert_type(client.list("a"), AsyncIterator[holdfast.LockInfo])
    async for info in client.watch("a"):
        assert_type(info, holdfast.LockInfo)
    client.lock("a", tll=3)  # type: ignore[call-arg]


def types_of_threads(client: holdfast.sync.Client) -> None:
    """Never called: mypy checks it."""
    with client.lock("a", ttl=1.5, wait=0, shared=True, session=client.session(ttl=5)) as lock:
        assert_type(lock, holdfast.sync.Lock)
        assert_type(lock.token, int)
    assert_type(client.try_lock("a"), holdfast.sync.Lock | None)
    assert_type(client.list("a"), Iterator[holdfast.LockInfo])
    assert_type(client.watch("a"), Iterator[holdfast.LockInfo])
    client.lock("a", tll=3)  # type: ignore[call-arg]
    client.lock("a", ttl="3")  # type: ignore[arg-type]
