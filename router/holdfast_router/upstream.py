"""Connections to the nodes: one each, kept up, with what they say of groups and of the cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from functools import partial
from typing import Final

import msgspec

from holdfast.wire.dialing import Dialer
from holdfast.wire.limits import PROTOCOL_VERSION
from holdfast.wire.messages import (
    Beat,
    GroupRole,
    Hello,
    MetaDelta,
    MetaRecord,
    Msg,
    Refusal,
    Role,
    Welcome,
    decode_beat,
    decode_delta,
    decode_meta,
    decode_refusal,
    decode_roles,
)
from holdfast.wire.stream import Connection
from holdfast.wire.tls import Certificates, node_name

_ANSWERS: Final = int(Msg.ANSWERS)

log = logging.getLogger("holdfast.router")


class Upstream:
    """Call :meth:`keep` with the addresses of all nodes; what nodes say comes back through the callbacks."""

    def __init__(
        self,
        cluster: str,
        secret: str,
        identity: str,
        *,
        tls: Certificates | None,
        on_up: Callable[[], None],
        on_down: Callable[[int], None],
        on_meta: Callable[[MetaRecord | MetaDelta], None],
        on_beat: Callable[[Beat], None],
        on_roles: Callable[[int, list[GroupRole]], None],
        on_answers: Callable[[int, int, bytes], None],
        on_refused: Callable[[int, int, Refusal], None],
        on_events: Callable[[int, bytes], None],
        on_watched: Callable[[int, int, bytes], None],
    ) -> None:
        self._cluster = cluster
        self._secret = secret
        self._identity = identity
        self._tls = tls
        self._on_up = on_up
        self._on_down = on_down
        self._on_meta = on_meta
        self._on_beat = on_beat
        self._on_roles = on_roles
        self._on_answers = on_answers
        self._on_refused = on_refused
        self._on_events = on_events
        self._on_watched = on_watched
        self._addresses: dict[int, str] = {}
        self._dialers: dict[int, asyncio.Task[None]] = {}
        self._live: dict[int, Connection] = {}
        self._statuses: dict[int, asyncio.Future[bytes]] = {}
        self._next_request = 0

    def keep(self, addresses: dict[int, str]) -> None:
        """Stay connected to these nodes, at these addresses."""
        for node, address in addresses.items():
            if self._addresses.get(node) != address:
                self._addresses[node] = address
                old = self._dialers.pop(node, None)
                if old is not None:
                    old.cancel()
                self._dialers[node] = asyncio.create_task(self._dialer(node).run(), name=f"dial node {node}")

    def send(self, node: int, kind: int, group: int, request: int, body: bytes) -> bool:
        connection = self._live.get(node)
        if connection is None:
            return False
        connection.send(kind, group, request, body)
        return True

    @property
    def alone(self) -> bool:
        """No node can be reached."""
        return not self._live

    @property
    def connections(self) -> Collection[Connection]:
        return self._live.values()

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

    def _dialer(self, node: int) -> Dialer:
        def on_welcome(connection: Connection, welcome: Welcome) -> None:
            self._live[node] = connection
            self._on_up()

        def on_closed(connection: Connection) -> None:
            if self._live.get(node) is connection:
                del self._live[node]
                self._on_down(node)

        tls, name = self._tls, node_name(node, self._cluster)
        return Dialer(
            lambda: self._addresses[node],
            Hello(PROTOCOL_VERSION, Role.ROUTER, self._secret, self._cluster, identity=self._identity),
            tls=lambda: tls.toward(name) if tls is not None else None,
            on_welcome=on_welcome,
            on_message=partial(self._received, node),
            on_closed=on_closed,
            on_trouble=lambda why: log.warning("no link to a node", extra={"node": node, "why": why}),
        )

    def _received(self, node: int, connection: Connection, kind: int, group: int, request: int, body: bytes) -> None:
        if kind == _ANSWERS:
            self._on_answers(group, request, body)
        elif kind == Msg.EVENTS:
            self._on_events(group, body)
        elif kind == Msg.WATCHED:
            self._on_watched(node, request, body)
        elif kind == Msg.ROLES:
            self._on_roles(node, decode_roles(body))
        elif kind == Msg.META:
            self._on_meta(decode_meta(body))
        elif kind == Msg.TENANTS:
            self._on_meta(decode_delta(body))
        elif kind == Msg.BEAT:
            self._on_beat(decode_beat(body))
        elif kind == Msg.REFUSED:
            refusal = decode_refusal(body)
            if request == 0:
                connection.abort(refusal.error())
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
