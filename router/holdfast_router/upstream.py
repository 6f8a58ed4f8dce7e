"""Connections to the nodes: one each, kept up, with what they say of groups and of the cluster."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

import msgspec

from holdfast.wire.frames import encode
from holdfast.wire.limits import PROTOCOL_VERSION
from holdfast.wire.messages import (
    GroupRole,
    Hello,
    MetaRecord,
    Msg,
    Refusal,
    Role,
    decode_meta,
    decode_refusal,
    decode_roles,
)
from holdfast.wire.stream import Connection

RETRY_MIN_S = 0.05
RETRY_MAX_S = 1.0
CONNECT_TIMEOUT_S = 2.0

log = logging.getLogger("holdfast.router")


class Upstream:
    """Call :meth:`keep` with the addresses of all nodes; what nodes say comes back through the callbacks."""

    def __init__(
        self,
        cluster: str,
        secret: str,
        *,
        on_up: Callable[[int], None],
        on_down: Callable[[int], None],
        on_meta: Callable[[MetaRecord], None],
        on_roles: Callable[[int, list[GroupRole]], None],
        on_answers: Callable[[int, int, bytes], None],
        on_refused: Callable[[int, int, Refusal], None],
        on_events: Callable[[int, bytes], None],
    ) -> None:
        self._cluster = cluster
        self._secret = secret
        self._on_up = on_up
        self._on_down = on_down
        self._on_meta = on_meta
        self._on_roles = on_roles
        self._on_answers = on_answers
        self._on_refused = on_refused
        self._on_events = on_events
        self._addresses: dict[int, str] = {}
        self._dialers: dict[int, asyncio.Task[None]] = {}
        self._live: dict[int, Connection] = {}
        self._statuses: dict[int, asyncio.Future[bytes]] = {}
        self._next_request = 0
        self._requests: dict[int, int] = {}

    def keep(self, addresses: dict[int, str]) -> None:
        """Stay connected to these nodes, at these addresses."""
        for node, address in addresses.items():
            if self._addresses.get(node) != address:
                self._addresses[node] = address
                old = self._dialers.pop(node, None)
                if old is not None:
                    old.cancel()
                self._dialers[node] = asyncio.create_task(self._keep_dialing(node), name=f"dial node {node}")

    def send(self, node: int, kind: int, group: int, request: int, body: bytes) -> bool:
        connection = self._live.get(node)
        if connection is None:
            return False
        connection.send(kind, group, request, body)
        return True

    @property
    def addresses(self) -> dict[int, str]:
        return dict(self._addresses)

    async def status(self, node: int, timeout_s: float) -> object | None:
        """A node's own account of itself; None when it does not answer."""
        connection = self._live.get(node)
        if connection is None:
            return None
        self._next_request += 1
        request = self._next_request
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._statuses[request] = answer
        connection.send(Msg.STATUS, 0, request, b"")
        try:
            async with asyncio.timeout(timeout_s):
                decoded: object = msgspec.msgpack.decode(await answer)
                return decoded
        except (TimeoutError, msgspec.DecodeError):
            return None
        finally:
            del self._statuses[request]

    async def _keep_dialing(self, node: int) -> None:
        pause = RETRY_MIN_S
        while True:
            try:
                await self._dial(node)
                pause = RETRY_MIN_S
            except (OSError, TimeoutError):
                pass
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - nothing secret
            pause = min(2 * pause, RETRY_MAX_S)

    async def _dial(self, node: int) -> None:
        host, _, port = self._addresses[node].rpartition(":")
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def on_message(connection: Connection, kind: int, group: int, request: int, body: bytes | None) -> None:
            if body is None:
                return
            try:
                self._received(node, connection, kind, group, request, body)
            except msgspec.DecodeError as error:
                log.error("a node sent what is no message", extra={"node": node, "why": str(error)})
                connection.abort()

        def on_closed(connection: Connection, error: Exception | None) -> None:
            if self._live.get(node) is connection:
                del self._live[node]
                self._on_down(node)
            if not ended.done():
                ended.set_result(None)

        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, connection = await loop.create_connection(lambda: Connection(on_message, on_closed), host, int(port))
        try:
            hello = Hello(PROTOCOL_VERSION, Role.ROUTER, self._secret, self._cluster)
            connection.send(Msg.HELLO, 0, 0, encode(hello))
            await ended
        finally:
            connection.abort()

    def _received(self, node: int, connection: Connection, kind: int, group: int, request: int, body: bytes) -> None:
        if kind == Msg.ANSWERS:
            self._on_answers(group, request, body)
        elif kind == Msg.EVENTS:
            self._on_events(group, body)
        elif kind == Msg.ROLES:
            self._on_roles(node, decode_roles(body))
        elif kind == Msg.META:
            self._on_meta(decode_meta(body))
        elif kind == Msg.WELCOME:
            self._live[node] = connection
            self._on_up(node)
        elif kind == Msg.REFUSED:
            refusal = decode_refusal(body)
            if request == 0:
                log.error("a node refuses this router", extra={"node": node, "why": refusal.message})
                connection.abort()
            else:
                self._on_refused(group, request, refusal)
        elif kind == Msg.STATUS:
            waiting = self._statuses.get(request)
            if waiting is not None and not waiting.done():
                waiting.set_result(body)

    async def close(self) -> None:
        for task in self._dialers.values():
            task.cancel()
        await asyncio.gather(*self._dialers.values(), return_exceptions=True)
