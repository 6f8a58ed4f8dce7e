"""Accepts connections of SDKs: one HELLO with an API key, then sections, watches and what administrators ask."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Final

import msgspec

from holdfast.wire.accepting import Acceptor
from holdfast.wire.complaints import Complaints
from holdfast.wire.crowd import Crowd
from holdfast.wire.errors import Code, HoldfastError, Unauthenticated, VersionMismatch
from holdfast.wire.frames import encode
from holdfast.wire.limits import (
    CONNECTIONS_MAX,
    CONNECTIONS_PER_ADDRESS_MAX,
    DEADLINE_MS_MAX,
    HELLO_BYTES_MAX,
    HELLOS_WAITING_MAX,
    PROTOCOL_VERSION,
    SECTION_BYTES_MAX,
    UNSENT_BYTES_MAX,
)
from holdfast.wire.messages import (
    GroupRole,
    Hello,
    Msg,
    Refusal,
    Role,
    Welcome,
    decode_hello,
    decode_request,
    refusal_of,
)
from holdfast.wire.stream import Connection
from holdfast.wire.tenants import Principal
from holdfast.wire.tls import Certificates

from .directory import Directory, Gone
from .downstream import Downstream

HELLO_TIMEOUT_S = 5.0
META_WAIT_S = 5.0
"""A caller that comes while the router does not hear its cluster's meta group waits this long."""
REQUEST_BYTES_MAX = SECTION_BYTES_MAX + 64

ALONE = Refusal(Code.UNAVAILABLE, "this router reaches no node of its cluster: try another", 1000)
_NOT_YET = Refusal(Code.UNAVAILABLE, "this router does not hear its cluster's meta group: try another", 1000)

_SECTIONS: Final = (int(Msg.OPS), int(Msg.READ))

log = logging.getLogger("holdfast.router")


class Front:
    """Accepts SDKs. What they ask goes to ``on_section(caller, kind, group, request, deadline_s, section)``."""

    def __init__(
        self,
        *,
        directory: Directory,
        alone: Callable[[], bool],
        seal_of: Callable[[int], bytes],
        roles: Callable[[], list[GroupRole]],
        on_section: Callable[[Downstream, int, int, int, float, bytes], None],
        on_watch: Callable[[Downstream, int, int, bytes], None],
        on_status: Callable[[Downstream, int], None],
        on_admin: Callable[[Downstream, int, bytes], None],
        on_closed: Callable[[Downstream], None],
    ) -> None:
        self._directory = directory
        directory.on_gone(self._close_gone)
        self._alone = alone
        self._seal_of = seal_of
        self._roles = roles
        self._on_section = on_section
        self._on_watch = on_watch
        self._on_status = on_status
        self._on_admin = on_admin
        self._on_gone = on_closed
        self._loop = asyncio.get_running_loop()
        self._callers: dict[Connection, Downstream] = {}
        self._own: dict[Connection, Downstream] = {}
        """The router itself, as the client of those who come by its other fronts."""
        self._early: dict[Connection, Hello] = {}
        """Callers that came while the router did not hear its cluster's meta group."""
        self._complaints = Complaints()
        self._crowd = Crowd(CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX)

    def acceptor(self, tls: Certificates | None) -> Acceptor:
        """For a listener of this front."""
        return Acceptor(
            self.protocol, tls=(lambda: tls.listening) if tls is not None else None, on_failed=self._log_stranger
        )

    def protocol(self) -> Connection:
        return Connection(
            self._on_message,
            self._on_closed,
            on_open=self._on_open,
            body_bytes_max=HELLO_BYTES_MAX,
            unsent_bytes_max=UNSENT_BYTES_MAX,
            on_flow=self._on_flow,
            patient=False,
        )

    def __len__(self) -> int:
        return len(self._callers)

    @property
    def connections(self) -> Collection[Connection]:
        return self._callers.keys()

    def _on_flow(self, connection: Connection) -> None:
        caller = self._callers.get(connection)
        if caller is not None:
            caller.read_or_not()

    def _on_open(self, connection: Connection) -> None:
        if not self._crowd.enter(_address(connection)):
            # Not among the callers: it is told so and heard no more.
            self._turn_away(connection, Refusal(Code.OVERLOADED, "this router has too many connections", 1000))
            return
        self._callers[connection] = Downstream(connection)
        connection.keep_alive()
        self._loop.call_later(HELLO_TIMEOUT_S, self._expect_hello, connection)

    def _expect_hello(self, connection: Connection) -> None:
        caller = self._callers.get(connection)
        if caller is not None and caller.principal is None and connection not in self._early:
            text = f"a connection begins with HELLO, within {HELLO_TIMEOUT_S:g} s"
            self._turn_away(connection, Refusal(Code.BAD_MESSAGE, text))

    def _on_closed(self, connection: Connection, error: Exception | None) -> None:
        caller = self._callers.pop(connection, None)
        self._early.pop(connection, None)
        if isinstance(error, HoldfastError):
            self._log_refused(connection, str(error))
        if caller is not None:
            self._crowd.leave(_address(connection))
            self._on_gone(caller)

    # The router itself (``operations.local_link``).

    def admit(self, connection: Connection, principal: Principal) -> None:
        self._own[connection] = caller = Downstream(connection)
        caller.is_router = True
        caller.principal = principal

    def dismiss(self, connection: Connection) -> None:
        self._on_gone(self._own.pop(connection))

    def receive(self, connection: Connection, kind: int, group: int, request: int, body: bytes) -> None:
        if kind == Msg.PING:
            connection.send(Msg.PONG, 0, request, b"")
        elif kind == Msg.WATCH and connection in self._own:
            self._on_watch(self._own[connection], group, request, body)
        elif connection in self._own:
            self._on_request(self._own[connection], kind, group, request, body)

    # Messages.

    def _on_message(self, connection: Connection, kind: int, group: int, request: int, body: bytes | None) -> None:
        caller = self._callers.get(connection)
        if caller is None or caller.last_word is not None:
            return
        if body is not None and kind in _SECTIONS and caller.principal is not None:
            self._on_request(caller, kind, group, request, body)
        elif body is None and caller.principal is None:
            text = f"before HELLO is accepted a message has at most {HELLO_BYTES_MAX} bytes"
            self._turn_away(connection, Refusal(Code.TOO_LARGE, text))
        elif body is None:
            text = f"a request has at most {REQUEST_BYTES_MAX} bytes: send fewer operations in one section"
            self.refuse(connection, group, request, Refusal(Code.TOO_LARGE, text))
        elif kind == Msg.WATCH and caller.principal is not None:
            self._on_watch(caller, group, request, body)
        elif kind == Msg.HELLO:
            self._on_hello(caller, body)
        elif connection in self._early:
            self._turn_away(connection, _NOT_YET)
        elif caller.principal is None:
            self._turn_away(connection, Refusal(Code.BAD_MESSAGE, "a connection begins with HELLO"))
        elif kind == Msg.STATUS:
            self._on_status(caller, request)
        elif kind == Msg.ADMIN:
            self._on_admin(caller, request, body)
        elif kind == Msg.PING:
            connection.send(Msg.PONG, 0, request, b"")
        else:
            self.refuse(connection, group, request, Refusal(Code.BAD_MESSAGE, f"a client does not send kind {kind}"))

    def _on_request(self, caller: Downstream, kind: int, group: int, request: int, body: bytes) -> None:
        try:
            decoded = decode_request(body)
        except msgspec.DecodeError as error:
            self.refuse(caller.connection, group, request, Refusal(Code.BAD_MESSAGE, f"this is no request: {error}"))
            return
        deadline_ms = decoded.deadline_ms
        if not 0 < deadline_ms <= DEADLINE_MS_MAX:
            text = f"a deadline is 1 to {DEADLINE_MS_MAX} ms, not {deadline_ms}"
            self.refuse(caller.connection, group, request, Refusal(Code.INVALID, text))
            return
        caller.asked()
        self._on_section(caller, kind, group, request, deadline_ms / 1000, bytes(decoded.section))

    def _on_hello(self, caller: Downstream, body: bytes) -> None:
        connection = caller.connection
        if caller.principal is not None or connection in self._early:
            self._turn_away(connection, Refusal(Code.BAD_MESSAGE, "a connection says HELLO once"))
            return
        try:
            hello = decode_hello(body)
            if hello.version != PROTOCOL_VERSION:
                raise VersionMismatch(f"this router speaks version {PROTOCOL_VERSION}, the caller {hello.version}")
            if hello.role != Role.CLIENT:
                raise Unauthenticated("a router serves clients")
        except msgspec.DecodeError as error:
            self._turn_away(connection, Refusal(Code.BAD_MESSAGE, f"this is no HELLO: {error}"))
            return
        except HoldfastError as error:
            self._turn_away(connection, refusal_of(error))
            return
        if self._alone():
            self._turn_away(connection, ALONE)
        elif self._directory.is_fresh:
            self._welcome(caller, hello)
        elif len(self._early) >= HELLOS_WAITING_MAX:
            text = f"{HELLOS_WAITING_MAX} callers wait for this router to reach its cluster already"
            self._turn_away(connection, Refusal(Code.OVERLOADED, text, 1000))
        else:
            self._early[connection] = hello
            self._loop.call_later(META_WAIT_S, self._expect_meta, connection)

    def _expect_meta(self, connection: Connection) -> None:
        if connection in self._early:
            self._turn_away(connection, _NOT_YET)

    def settle_early(self) -> None:
        """The cluster is known now, or again."""
        if not self._early or not self._directory.is_fresh:
            return
        early, self._early = self._early, {}
        for connection, hello in early.items():
            self._welcome(self._callers[connection], hello)

    def _welcome(self, caller: Downstream, hello: Hello) -> None:
        connection = caller.connection
        meta = self._directory.record
        assert meta is not None, "a directory that is fresh has a record"
        try:
            caller.principal = principal = self._directory.authenticate(hello.key, _address(connection))
        except HoldfastError as error:
            self._turn_away(connection, refusal_of(error))
            return
        connection.body_bytes_max = REQUEST_BYTES_MAX
        welcome = Welcome(
            PROTOCOL_VERSION,
            meta.cluster,
            principal.tenant,
            seal=self._seal_of(principal.tenant),
            role=principal.role,
            prefix=principal.prefix,
        )
        connection.send(Msg.WELCOME, 0, 0, encode(welcome))
        connection.send(Msg.TABLE, 0, 0, encode(meta.table))
        connection.send(Msg.ROLES, 0, 0, encode(self._roles()))

    # Output.

    def refuse(self, connection: Connection, group: int, request: int, refusal: Refusal) -> None:
        connection.send(Msg.REFUSED, group, request, encode(refusal))

    def broadcast(self, kind: Msg, body: bytes) -> None:
        for caller in (*self._callers.values(), *self._own.values()):
            if caller.principal is not None:
                caller.connection.send(kind, 0, 0, body)

    def _close_gone(self, gone: Gone) -> None:
        """Their keys are valid no more."""
        for connection, caller in list(self._callers.items()):
            error = gone.get(caller.principal.key) if caller.principal is not None else None
            if error is not None:
                self._log_refused(connection, str(error))
                caller.end(refusal_of(error))

    def send_away(self, refusal: Refusal) -> None:
        """Everybody, with the reason."""
        for connection in list(self._callers):
            self.refuse(connection, 0, 0, refusal)
            connection.close()

    def close(self) -> None:
        for connection in list(self._callers):
            connection.close()

    def _turn_away(self, connection: Connection, refusal: Refusal) -> None:
        self._early.pop(connection, None)
        self._log_refused(connection, refusal.message)
        self.refuse(connection, 0, 0, refusal)
        connection.close()

    def _log_refused(self, connection: Connection, why: str) -> None:
        self._log_stranger(_address(connection), why)

    def _log_stranger(self, address: str, why: str) -> None:
        if self._complaints.due(address):
            log.warning("refused a caller", extra={"address": address, "why": why})


def _address(connection: Connection) -> str:
    return connection.peer.rpartition(":")[0]
