"""Connections between nodes: the higher number dials the lower; a newer connection replaces the older."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from holdfast.wire.dialing import Dialer
from holdfast.wire.errors import WrongCluster
from holdfast.wire.limits import PROTOCOL_VERSION
from holdfast.wire.messages import Hello, Msg, Role, Welcome, decode_refusal
from holdfast.wire.stream import Connection
from holdfast.wire.tls import Certificates, node_name

from ..formation import Formation

log = logging.getLogger("holdfast.node")


class Peers:
    def __init__(
        self,
        formation: Formation,
        node: int,
        *,
        tls: Certificates | None,
        address_of: Callable[[int], str],
        on_connected: Callable[[int], None],
        on_disconnected: Callable[[int], None],
        on_message: Callable[[int, bytes], None],
    ) -> None:
        self._formation = formation
        self._node = node
        self._tls = tls
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
                self._dialing.append(asyncio.create_task(self._dialer(peer).run(), name=f"dial node {peer}"))

    def send(self, messages: dict[int, list[bytes]]) -> None:
        for peer, bundles in messages.items():
            connection = self._live.get(peer)
            if connection is not None:
                for bundle in bundles:
                    connection.send(Msg.PEER, 0, 0, bundle)
                # Not at the end of the turn: our own sync comes first there, and followers should write meanwhile.
                connection.flush()

    @property
    def connections(self) -> set[Connection]:
        return set(self._live.values())

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

    def _dialer(self, peer: int) -> Dialer:
        formation = self._formation

        def on_welcome(connection: Connection, welcome: Welcome) -> None:
            if welcome.cluster != formation.cluster or welcome.identity != formation.node(peer).identity:
                raise WrongCluster("the node at this address is another one")
            self.accepted(peer, connection)

        def on_message(connection: Connection, kind: int, group: int, request: int, body: bytes) -> None:
            if kind == Msg.PEER:
                self.received(peer, connection, body)
            elif kind == Msg.REFUSED:
                connection.abort(decode_refusal(body).error())

        me, tls, name = formation.node(self._node), self._tls, node_name(peer, formation.cluster)
        return Dialer(
            lambda: self._address_of(peer),
            Hello(PROTOCOL_VERSION, Role.NODE, formation.secret, formation.cluster, self._node, me.identity),
            tls=lambda: tls.toward(name) if tls is not None else None,
            on_welcome=on_welcome,
            on_message=on_message,
            on_closed=lambda connection: self.closed(peer, connection),
            on_trouble=lambda why: log.warning("no link to a peer", extra={"peer": peer, "why": why}),
        )

    async def close(self) -> None:
        for task in self._dialing:
            task.cancel()
        await _settled(self._dialing)
        for connection in list(self._live.values()):
            connection.close()


async def _settled(tasks: Iterable[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
