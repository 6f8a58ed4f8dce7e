"""Connections between nodes: the higher number dials the lower; a newer connection replaces the older."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable

import msgspec

from holdfast.wire.frames import encode
from holdfast.wire.limits import PROTOCOL_VERSION
from holdfast.wire.messages import Hello, Msg, Role, decode_refusal, decode_welcome
from holdfast.wire.stream import Connection

from ..formation import Formation

RETRY_MIN_S = 0.05
RETRY_MAX_S = 1.0
CONNECT_TIMEOUT_S = 2.0

log = logging.getLogger("holdfast.node")


class Peers:
    def __init__(
        self,
        formation: Formation,
        node: int,
        *,
        address_of: Callable[[int], str],
        on_connected: Callable[[int], None],
        on_disconnected: Callable[[int], None],
        on_message: Callable[[int, bytes], None],
    ) -> None:
        self._formation = formation
        self._node = node
        self._address_of = address_of
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._on_message = on_message
        self._live: dict[int, Connection] = {}
        self._dialing: list[asyncio.Task[None]] = []
        self._numbers = sorted(
            {peer for members in formation.members_of(node).values() for peer in members if peer != node}
        )

    def start(self) -> None:
        for peer in self._numbers:
            if peer < self._node:
                self._dialing.append(asyncio.create_task(self._keep_dialing(peer), name=f"dial node {peer}"))

    def send(self, messages: dict[int, list[bytes]]) -> None:
        for peer, bundles in messages.items():
            connection = self._live.get(peer)
            if connection is not None:
                for bundle in bundles:
                    connection.send(Msg.PEER, 0, 0, bundle)
                # Not at the end of the turn: our own sync comes first there, and followers should write meanwhile.
                connection.flush()

    def accepted(self, peer: int, connection: Connection) -> None:
        """A peer's connection said HELLO and was welcomed."""
        if peer not in self._numbers:
            return
        old = self._live.get(peer)
        self._live[peer] = connection
        self._on_connected(peer)
        if old is not None and old is not connection:
            old.abort()

    def received(self, peer: int, connection: Connection, body: bytes) -> None:
        if self._live.get(peer) is connection:
            self._on_message(peer, body)

    def closed(self, peer: int, connection: Connection) -> None:
        if self._live.get(peer) is connection:
            del self._live[peer]
            self._on_disconnected(peer)

    async def _keep_dialing(self, peer: int) -> None:
        pause = RETRY_MIN_S
        while True:
            try:
                await self._dial(peer)
                pause = RETRY_MIN_S
            except (OSError, TimeoutError):
                pass
            # Jitter, so that nodes that lost each other together do not come back in step.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - nothing secret
            pause = min(2 * pause, RETRY_MAX_S)

    async def _dial(self, peer: int) -> None:
        """Connect, say HELLO, and stay until the connection ends."""
        host, _, port = self._address_of(peer).rpartition(":")
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def on_message(connection: Connection, kind: int, group: int, request: int, body: bytes | None) -> None:
            if kind == Msg.PEER and body is not None:
                self.received(peer, connection, body)
            elif kind == Msg.WELCOME and body is not None:
                self._welcomed(peer, connection, body)
            elif kind == Msg.REFUSED and body is not None:
                log.error("a peer refuses this node", extra={"peer": peer, "why": _message_of(body)})
                connection.abort()

        def on_closed(connection: Connection, error: Exception | None) -> None:
            self.closed(peer, connection)
            if not ended.done():
                ended.set_result(None)

        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, connection = await loop.create_connection(lambda: Connection(on_message, on_closed), host, int(port))
        me = self._formation.node(self._node)
        hello = Hello(
            PROTOCOL_VERSION, Role.NODE, self._formation.secret, self._formation.cluster, self._node, me.identity
        )
        connection.send(Msg.HELLO, 0, 0, encode(hello))
        try:
            await ended
        finally:
            connection.abort()

    def _welcomed(self, peer: int, connection: Connection, body: bytes) -> None:
        try:
            welcome = decode_welcome(body)
        except msgspec.DecodeError:
            connection.abort()
            return
        if welcome.cluster != self._formation.cluster or welcome.identity != self._formation.node(peer).identity:
            log.error("the node at a peer's address is another one", extra={"peer": peer})
            connection.abort()
            return
        self.accepted(peer, connection)

    async def close(self) -> None:
        for task in self._dialing:
            task.cancel()
        await _settled(self._dialing)
        for connection in list(self._live.values()):
            connection.close()


async def _settled(tasks: Iterable[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


def _message_of(body: bytes) -> str:
    try:
        return decode_refusal(body).message
    except msgspec.DecodeError:
        return "no reason given"
