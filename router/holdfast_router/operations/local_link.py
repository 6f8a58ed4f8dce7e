"""The router as a client of its own service: an SDK core whose messages never leave the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from random import SystemRandom
from typing import Final, Protocol

from holdfast.clock import boottime_ms
from holdfast.core.client import ClientCore
from holdfast.errors import Unavailable
from holdfast.wire.frames import encode
from holdfast.wire.messages import GroupRole, Msg, SlotTable
from holdfast.wire.stream import Connection
from holdfast.wire.tenants import KeyRole, Principal

TIMEOUT_MS: Final = 5_000.0
"""How long an operation may take; waiting for a lock that others hold is not its time."""
FAREWELL_S: Final = 0.5
"""How long closing waits for the service to take back what is awaited."""


class Exchange(Protocol):
    """What a link needs of the router."""

    def receive(self, connection: Connection, kind: int, group: int, request: int, body: bytes) -> None:
        """A message of a caller that was let in by ``admit``."""

    def admit(self, connection: Connection, principal: Principal) -> None:
        """Take this caller on, as if it had said HELLO with a key of that principal."""

    def dismiss(self, connection: Connection) -> None:
        """The caller has gone."""


class LocalConnection(Connection):
    """What the router sends to it arrives in a later turn of the loop, as over a socket: a core that is being told
    something is never in the middle of something else."""

    def __init__(self, core: ClientCore) -> None:
        super().__init__(lambda *_: None, lambda *_: None)
        self._core = core
        self._inbox: list[tuple[int, int, int, bytes]] = []
        self.peer = "local:0"

    def send(self, kind: int, group: int, request: int, body: bytes) -> None:
        if self.closed:
            return
        if not self._inbox:
            self._loop.call_soon(self._deliver)
        self._inbox.append((kind, group, request, body))

    def _deliver(self) -> None:
        inbox, self._inbox = self._inbox, []
        for kind, group, request, body in inbox:
            if not self._core.closed:
                self._core.message(kind, group, request, body)

    def flush(self) -> None:
        """Nothing is kept back."""

    def close(self, error: Exception | None = None) -> None:
        """The router goes away, or nothing can be reached: whoever waits hears of it in time."""

    def keep_alive(self) -> None:
        """There is no peer that could vanish."""


class LocalLink:
    """Drives a :class:`ClientCore` of one tenant. Its callers' rights are looked at before anything reaches it."""

    def __init__(self, tenant: int, exchange: Exchange, table: SlotTable, roles: list[GroupRole]) -> None:
        self._exchange = exchange
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.core = ClientCore(self, boottime_ms, TIMEOUT_MS, SystemRandom())
        self.core.vouched = True  # sessions are their callers' own: what stands for one is sealed
        self._connection = LocalConnection(self.core)
        exchange.admit(self._connection, Principal(tenant, "", KeyRole.ADMIN))
        self.core.start(tenant)
        self.core.message(Msg.TABLE, 0, 0, encode(table))
        self.core.message(Msg.ROLES, 0, 0, encode(roles))

    async def close(self) -> None:
        """Take back what is awaited. What was granted and told is its callers'."""
        self.core.let_go()
        self.core.flush()
        try:
            async with asyncio.timeout(FAREWELL_S):
                while self.core.busy:  # noqa: ASYNC110 - once, at the end of the router's life
                    await asyncio.sleep(0.001)
        except TimeoutError:
            pass  # what waits runs out by itself
        self.core.close()
        self._connection.closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._exchange.dismiss(self._connection)

    # Driver of the core.

    def send(self, kind: int, group: int, request: int, body: bytes) -> None:
        self._exchange.receive(self._connection, kind, group, request, body)

    def flush_soon(self) -> None:
        self._loop.call_soon(self.core.flush)

    def wake(self, due_ms: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(due_ms - boottime_ms(), 0.0) / 1000, self._advance)

    def _advance(self) -> None:
        self._timer = None
        self.core.advance()

    def drop(self, why: str) -> None:
        """The core lost patience, or was refused as a whole: it begins anew, as over a new connection."""
        self.core.stop(why)
        self._loop.call_soon(self._again)

    def _again(self) -> None:
        if not self.core.closed and not self.core.connected:
            self.core.start(self.core.tenant)


class Links:
    """A link for each tenant that has asked for something; made when it first does."""

    def __init__(
        self, exchange: Exchange, table: Callable[[], SlotTable | None], roles: Callable[[], list[GroupRole]]
    ) -> None:
        self._exchange = exchange
        self._table = table
        self._roles = roles
        self._links: dict[int, LocalLink] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._closed = False

    def core(self, tenant: int) -> ClientCore:
        if self._closed:
            raise Unavailable("this router stops: try another")
        found = self._links.get(tenant)
        if found is None:
            table = self._table()
            if table is None:
                raise Unavailable("this router has not heard from the meta group yet: try another")
            found = self._links[tenant] = LocalLink(tenant, self._exchange, table, self._roles())
        return found.core

    def forget(self, tenants: Iterable[int]) -> None:
        """They were deleted: nobody asks for anything of theirs any more."""
        for link in [self._links.pop(tenant) for tenant in tenants if tenant in self._links]:
            leaving = asyncio.ensure_future(link.close())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        self._closed = True
        await asyncio.gather(*self._leaving, *(link.close() for link in self._links.values()))
        self._links.clear()
