"""One operation on a lease, and until when what it was answered may be believed."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec import Struct

from holdfast.core.belief import believed_until
from holdfast.core.call import Call
from holdfast.core.client import ClientCore
from holdfast.core.group import GroupClient
from holdfast.wire.frames import Kind, Options


class Answer(Struct, frozen=True):
    status: int
    token: int
    until_ms: float
    """On the router's clock; 0 when the answer tells of no deadline."""
    detail: Any


class _LeaseCall(Call):
    __slots__ = ()

    def result(self, status: int, token: int, deadline_ms: int, detail: Any, sent_ms: float) -> Answer:
        until_ms = believed_until(sent_ms, deadline_ms) if deadline_ms else 0.0
        return Answer(status, token, until_ms, detail)


async def ask(
    core: ClientCore,
    kind: Kind,
    name: str = "",
    token: int = 0,
    options: Options | None = None,
    *,
    group: GroupClient | None = None,
    ttl_ms: int = 0,
) -> Answer:
    """Raises what ended the operation without an answer."""
    core.check_open()
    waiter: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    _LeaseCall(core, waiter, int(kind), name, token, options, group, ttl_ms)
    return await waiter
