"""Attach, with operations that answer as they are told to: from when its expiry counts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

from holdfast.clock import boottime_ms
from holdfast.v1 import sessions_pb2 as spb
from holdfast.wire.tenants import KeyRole, Principal
from holdfast_router.grpc.sessions import SessionService
from holdfast_router.operations import Caller, Operations
from holdfast_router.operations.requests import CreateSession, SessionGrant

TTL_MS = 5000


class Sessions:
    """Stands in for the operations of a router: a session lives for its TTL from when it is asked for."""

    async def create_session(self, caller: Caller, asked: CreateSession) -> SessionGrant:
        expires_in_ms = caller.expires_in_ms(boottime_ms() + TTL_MS)
        return SessionGrant(session="s", id="00", ttl_ms=TTL_MS, expires_in_ms=expires_in_ms)


async def test_expiry_counts_from_the_first_message_however_long_before_it_the_stream_was_opened() -> None:
    async def messages() -> AsyncIterator[spb.AttachRequest]:
        yield spb.AttachRequest(number=1)

    opened_ms = boottime_ms() - 3_600_000
    caller = Caller(Principal(1, "key", KeyRole.LOCKS), opened_ms)
    service = SessionService(cast(Operations, Sessions()))
    responses = [response async for response in service.attach(caller, messages())]
    assert [response.number for response in responses] == [1]
    assert responses[0].expires_in.ToMilliseconds() <= TTL_MS
