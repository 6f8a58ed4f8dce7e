"""All groups of one client behind one connection at a time. Sans-io: the driver brings messages and time."""

from __future__ import annotations

import struct
from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from random import Random
from typing import Final, Protocol

from holdfast.errors import ClientClosed, Forbidden, Unavailable
from holdfast.wire.frames import Kind, Options, Reason, decode_events
from holdfast.wire.limits import SLOTS
from holdfast.wire.messages import Msg, decode_refusal, decode_roles, decode_table
from holdfast.wire.names import slot_of
from holdfast.wire.rights import why_not
from holdfast.wire.tenants import OPERATOR

from .batch import Waiter, fail, settle
from .group import GroupClient
from .hold import Hold
from .lease import Lease
from .post import Receiver
from .retry_pace import RetryPace
from .watch import Watch
from .wheel import Wheel

LOOK_MS: Final = 1000.0
"""Longest sleep while anything is under way or held: timers of an event loop stand still through suspend."""
SILENCE_MS: Final = 1500.0
"""A router that owes us an answer and says nothing for so long is asked whether it lives."""
DEAD_MS: Final = 3500.0
"""A router that says nothing at all for so long is given up."""

_SLOT_GROUPS: Final = struct.Struct(f"<{SLOTS}H")
_REQUEST_MAX: Final = 0xFFFFFFFF


class Driver(Protocol):
    """What the core asks of whoever does its I/O."""

    def send(self, kind: int, group: int, request: int, body: bytes) -> None:
        """Hand a message to the connection. Called only while connected."""

    def flush_soon(self) -> None:
        """Call :meth:`ClientCore.flush` once, at the end of this turn."""

    def wake(self, due_ms: float) -> None:
        """Call :meth:`ClientCore.advance` at ``due_ms`` of the clock. Only the latest call counts."""

    def drop(self, why: str) -> None:
        """The connection is of no use any more: break it, and find another."""


class ClientCore:
    """``clock`` gives milliseconds and runs through suspend; ``timeout_ms`` is how long an answer may take."""

    def __init__(self, driver: Driver, clock: Callable[[], float], timeout_ms: float, rng: Random) -> None:
        self.driver = driver
        self.clock = clock
        self.timeout_ms = timeout_ms
        self.rng = rng
        self.now_ms = clock()
        """When the message or the wake-up that is being dealt with came."""
        self.connected = False
        self.closing = False
        """Nothing new is taken on."""
        self.closed = False
        self.tenant = 0
        self.seal = b""
        """The tenant's key for LockIDs."""
        self._role = self._prefix = ""
        """As the router told; empty before that."""
        self._may_acquire = False
        """Whether no name is forbidden to the key's acquires, as long as they carry no options."""
        self.trouble = "there is no connection"
        self.retries = RetryPace(self.now_ms)
        self.vouched = False
        self.table_version = 0
        self.leases: Wheel[Lease] = Wheel(self.wake)
        self.waits: Wheel[Hold] = Wheel(self.wake)
        self.groups: dict[int, GroupClient] = {}
        self._owners: list[GroupClient] = []
        """By slot; empty until a table has come."""
        self._requests: dict[int, Receiver] = {}
        self._statuses: dict[int, Waiter] = {}
        self.watches: dict[Watch, None] = {}
        self.watched_names = 0
        """That the watches keep in mind."""
        self._watching: dict[int, Receiver] = {}
        self._request = 0
        self._heard_ms = self.now_ms
        self._wake_ms = inf
        self._flushing = False
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._tiebreak = 0

    # Where things are.

    @property
    def ready(self) -> bool:
        """Whether operations can be placed."""
        return bool(self._owners)

    def group(self, number: int) -> GroupClient:
        found = self.groups.get(number)
        if found is None:
            found = self.groups[number] = GroupClient(self, number)
        return found

    def group_of(self, name: str) -> GroupClient:
        return self._owners[slot_of(self.tenant, name)]

    def all_groups(self) -> list[GroupClient]:
        """Every group that owns a slot."""
        return sorted(set(self._owners), key=lambda group: group.number)

    # Connection.

    def start(self, tenant: int, seal: bytes = b"", role: str = "", prefix: str = "") -> None:
        """A connection is open and we are welcome on it, with a key of this role and prefix."""
        self._role, self._prefix = role, prefix
        self.connected = True
        self.tenant, self.seal = tenant, seal
        self._may_acquire = not prefix and not self._why_not(Kind.ACQUIRE, "", None)
        self._heard_ms = self.now_ms = self.clock()
        for group in self.groups.values():
            group.ask_tickets()
        for watch in self.watches:
            watch.connected()
        self.flush_soon()
        self.wake(self.now_ms + LOOK_MS)

    def stop(self, why: str) -> None:
        """The connection is gone. What was under way is sent again over the next."""
        self.connected = False
        self.trouble = why
        self._requests.clear()
        self._watching.clear()
        statuses, self._statuses = self._statuses, {}
        for waiter in statuses.values():
            fail(waiter, Unavailable(why))
        for group in self.groups.values():
            group.disconnected()

    def let_go(self) -> None:
        """Give back everything that is held, awaited or asked for; nothing can be acquired any more."""
        self.closing = True
        error = ClientClosed("the client was closed")
        for group in self.groups.values():
            for caller in group.writes.callers():
                if isinstance(caller, Hold):
                    caller.refuse(error)
            group.let_go()
        self._hurry()

    def _hurry(self) -> None:
        """Whoever pauses learns now that the client is closing."""
        later, self._later = self._later, []
        for _, _, callback in later:
            callback()

    @property
    def busy(self) -> bool:
        """Whether an answer is owed to us, or something has yet to be sent."""
        return any(group.busy or group.writes.waiting for group in self.groups.values())

    def close(self) -> None:
        """Nothing is believed and nothing is sent any more; who waits is told."""
        if self.closed:
            return
        self.closing = self.closed = True
        self._hurry()
        error = ClientClosed("the client was closed")
        for watch in list(self.watches):
            watch.end(error)
        for group in self.groups.values():
            group.writes.close(error)
            group.reads.close(error)
            for lease in list(group.leases.values()):
                lease.end(Reason.RELEASED, "the client was closed")
        self.connected = False

    def forked(self) -> None:
        """This is the child of the process that the client belongs to: it holds nothing, and touches nothing."""
        self.closing = self.closed = True
        self.connected = False

    def transmit(self, receiver: Receiver, kind: int, group: int, body: bytes) -> int:
        request = self._next_request()
        self._requests[request] = receiver
        self.driver.send(kind, group, request, body)
        return request

    def watching(self, receiver: Receiver, group: int, body: bytes) -> int:
        """Send a WATCH; the receiver gets every WATCHED until :meth:`watching_no_more`, or a refusal, which ends it."""
        request = self._next_request()
        self._watching[request] = receiver
        self.driver.send(Msg.WATCH, group, request, body)
        return request

    def watching_no_more(self, request: int) -> None:
        self._watching.pop(request, None)

    def _next_request(self) -> int:
        self._request = self._request % _REQUEST_MAX + 1
        return self._request

    def ask_status(self, waiter: Waiter) -> None:
        """The waiter's result is the body of the router's answer."""
        if not self.connected:
            fail(waiter, Unavailable(self.trouble))
            return
        request = self._next_request()
        self._statuses[request] = waiter
        self.driver.send(Msg.STATUS, 0, request, b"")

    # Input.

    def message(self, kind: int, group: int, request: int, body: bytes) -> None:
        """A message came. Raises ``msgspec.DecodeError`` for one that cannot be: the connection is of no use."""
        self.now_ms = self._heard_ms = self.clock()
        if kind == Msg.ANSWERS:
            receiver = self._requests.pop(request, None)
            if receiver is not None:
                receiver.answered(request, body)
        elif kind == Msg.EVENTS:
            client = self.group(group)
            for event in decode_events(body):
                client.event(event)
        elif kind == Msg.REFUSED:
            self._refused(request, body)
        elif kind == Msg.TABLE:
            table = decode_table(body)
            if table.version > self.table_version or not self._owners:
                self.table_version = table.version
                self._owners = [self.group(number) for number in _SLOT_GROUPS.unpack(table.groups)]
                for watch in self.watches:
                    watch.place()
        elif kind == Msg.WATCHED:
            watching = self._watching.get(request)
            if watching is not None:
                watching.answered(request, body)
        elif kind == Msg.ROLES:
            for role in decode_roles(body):
                if role.group in self.groups:
                    self.groups[role.group].role(role)
        elif kind == Msg.STATUS:
            settle(self._statuses.pop(request, None), body)

    def _refused(self, request: int, body: bytes) -> None:
        refusal = decode_refusal(body)
        receiver = self._requests.pop(request, None) or self._watching.pop(request, None)
        if receiver is not None:
            receiver.refused(request, refusal)
            return
        waiter = self._statuses.pop(request, None)
        if waiter is not None:
            fail(waiter, refusal.error())
        elif request == 0:
            self.driver.drop(refusal.message)

    # Output.

    def flush_soon(self) -> None:
        if not self._flushing and self.connected:
            self._flushing = True
            self.driver.flush_soon()

    def flush(self) -> None:
        """Send what was issued since the last time, as far as windows have room."""
        self._flushing = False
        if not self.connected:
            return
        now_ms = self.now_ms = self.clock()
        for group in list(self.groups.values()):
            group.flush(now_ms)

    # Time.

    def wake(self, due_ms: float) -> None:
        if due_ms < self._wake_ms:
            self._wake_ms = due_ms
            self.driver.wake(due_ms)

    def after(self, delay_ms: float, callback: Callable[[], None]) -> None:
        """For what is rare; leases and waits have wheels."""
        self._tiebreak += 1
        due_ms = self.clock() + delay_ms
        heappush(self._later, (due_ms, self._tiebreak, callback))
        self.wake(due_ms)

    def advance(self) -> None:
        """Time has passed: stop believing, renew, give up, send again."""
        now_ms = self.now_ms = self.clock()
        self._wake_ms = inf
        if self.closed:
            return
        for lease in self.leases.take(now_ms):
            lease.due(now_ms)
        for hold in self.waits.take(now_ms):
            hold.wait_over()
        while self._later and self._later[0][0] <= now_ms:
            heappop(self._later)[2]()
        for group in list(self.groups.values()):
            group.advance(now_ms)
        self._listen(now_ms)
        self.flush()
        self.wake(self._next_due_ms(now_ms))

    def _listen(self, now_ms: float) -> None:
        """A stopped router keeps its connections open and says nothing."""
        if not self.connected or not (self.watches or any(group.busy for group in self.groups.values())):
            self._heard_ms = now_ms
        elif now_ms - self._heard_ms > DEAD_MS:
            self._heard_ms = now_ms
            self.driver.drop("the router does not answer")
        elif now_ms - self._heard_ms > SILENCE_MS:
            self.driver.send(Msg.PING, 0, 0, b"")

    def _next_due_ms(self, now_ms: float) -> float:
        due_ms = min(self.leases.next_due_ms(), self.waits.next_due_ms())
        if self._later:
            due_ms = min(due_ms, self._later[0][0])
        if self.watches:
            due_ms = min(due_ms, now_ms + LOOK_MS)
        for group in self.groups.values():
            due_ms = min(due_ms, group.next_due_ms())
            if group.leases or group.busy:
                due_ms = min(due_ms, now_ms + LOOK_MS)
        return due_ms

    def check_right(self, kind: int, name: str, options: Options | None) -> None:
        """Raises :class:`Forbidden`. Asked before anything is sent: a router refuses a section as a whole."""
        why = self._why_not(kind, name, options)
        if why:
            raise Forbidden(why)

    def check_acquire(self, name: str, options: Options | None) -> None:
        """Raises :class:`ClientClosed`, and as :meth:`check_right` does."""
        if self.closing:
            self.check_open()
        if options is not None or not self._may_acquire:
            self.check_right(Kind.ACQUIRE, name, options)

    def _why_not(self, kind: int, name: str, options: Options | None) -> str:
        if self._role and self.tenant == OPERATOR:
            return "the operator's keys take and show no locks of their own: use a tenant's key, or holdfast.admin"
        return why_not(self._role, self._prefix, kind, name, options)

    def check_open(self) -> None:
        """Raise :class:`ClientClosed` when this client does nothing any more."""
        if self.closing:
            raise ClientClosed("the client is closed, or belongs to the process that this one was forked from")
