"""Who calls this node: routers, peers and operators; one HELLO each, then messages of their role."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable

import msgspec

from holdfast.wire.accepting import Acceptor
from holdfast.wire.complaints import Complaints
from holdfast.wire.crowd import Crowd
from holdfast.wire.errors import Code, HoldfastError, Unauthenticated, VersionMismatch, WrongCluster
from holdfast.wire.frames import Event, encode
from holdfast.wire.limits import (
    CONNECTIONS_MAX,
    CONNECTIONS_PER_ADDRESS_MAX,
    HELLO_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    PROTOCOL_VERSION,
)
from holdfast.wire.messages import (
    GroupRole,
    Hello,
    Msg,
    Refusal,
    Role,
    Watched,
    Welcome,
    decode_hello,
    decode_watch,
    refusal_of,
)
from holdfast.wire.stream import Connection
from holdfast.wire.tls import Certificates, names_shown, node_name, router_name

from ..formation import Formation
from .frame import Sender, read_frame
from .service import GroupService

HELLO_TIMEOUT_S = 5.0
ROUTES_MAX = 2_000_000

log = logging.getLogger("holdfast.node")


class Caller:
    """One accepted connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.role: str = ""
        self.node = 0
        self.identity = ""


class Listener:
    def __init__(
        self,
        formation: Formation,
        node: int,
        services: dict[int, GroupService],
        *,
        clock: Callable[[], float],
        tls: Certificates | None,
        members: Callable[[], set[int]],
        on_input: Callable[[], None],
        on_peer: Callable[[int, Connection], None],
        on_peer_message: Callable[[int, Connection, bytes], None],
        on_peer_closed: Callable[[int, Connection], None],
        status: Callable[[], dict[str, object]],
        roles: Callable[[], list[GroupRole]],
        greeting: Callable[[], list[tuple[Msg, bytes]]],
        on_allotter: Callable[[], None],
    ) -> None:
        self._formation = formation
        self._node = node
        self._services = services
        self._clock = clock
        self._tls = tls
        self._members = members
        self._on_input = on_input
        self._on_peer = on_peer
        self._on_peer_message = on_peer_message
        self._on_peer_closed = on_peer_closed
        self._status = status
        self._roles = roles
        self._greeting = greeting
        self._on_allotter = on_allotter
        self._loop = asyncio.get_running_loop()
        self._acceptor = Acceptor(
            self._accept, tls=(lambda: tls.listening) if tls is not None else None, on_failed=self._log_stranger
        )
        self._callers: dict[Connection, Caller] = {}
        self._routes: dict[int, dict[tuple[int, int], Caller]] = {group: {} for group in services}
        """Per group: (tenant, client number) -> the router it was last heard from. Bounded; events may be lost."""
        self._complaints = Complaints()
        self._crowd = Crowd(CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX)

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Raises ``OSError`` when the port is taken."""
        return await self._acceptor.listen(host, port)

    def _accept(self) -> Connection:
        return Connection(
            self._on_message,
            self._on_closed,
            on_open=self._on_open,
            body_bytes_max=HELLO_BYTES_MAX,
            patient=False,
        )

    def _on_open(self, connection: Connection) -> None:
        if not self._crowd.enter(_address(connection)):
            # Not among the callers: it is told so and heard no more.
            self._turn_away(connection, Refusal(Code.OVERLOADED, "this node has too many connections", 1000))
            return
        self._callers[connection] = Caller(connection)
        connection.keep_alive()
        self._loop.call_later(HELLO_TIMEOUT_S, self._expect_hello, connection)

    def _expect_hello(self, connection: Connection) -> None:
        caller = self._callers.get(connection)
        if caller is not None and not caller.role:
            text = f"a connection begins with HELLO, within {HELLO_TIMEOUT_S:g} s"
            self._turn_away(connection, Refusal(Code.BAD_MESSAGE, text))

    def _on_closed(self, connection: Connection, error: Exception | None) -> None:
        caller = self._callers.pop(connection, None)
        if caller is None:
            return
        self._crowd.leave(_address(connection))
        if isinstance(error, HoldfastError):
            self._log_refused(connection, str(error))
        elif isinstance(error, TimeoutError):
            log.warning("a caller fell silent", extra={"address": connection.peer, "role": caller.role})
        if caller.role == Role.NODE:
            self._on_peer_closed(caller.node, connection)
        elif caller.role in (Role.ROUTER, Role.ALLOTTER):
            for service in self._services.values():
                service.drop_caller(caller)
            for routes in self._routes.values():
                for key in [key for key, via in routes.items() if via is caller]:
                    del routes[key]

    # Messages.

    def _on_message(self, connection: Connection, kind: int, group: int, request: int, body: bytes | None) -> None:
        caller = self._callers.get(connection)
        if caller is None:
            return
        if kind == Msg.PEER and caller.role == Role.NODE:
            if body is not None:
                self._on_peer_message(caller.node, connection, body)
        elif body is None and not caller.role:
            text = f"before HELLO is accepted a message has at most {HELLO_BYTES_MAX} bytes"
            self._turn_away(connection, Refusal(Code.TOO_LARGE, text))
        elif body is None:
            self._refuse(
                connection, request, Refusal(Code.TOO_LARGE, f"a message has at most {MESSAGE_BYTES_MAX} bytes")
            )
        elif kind in (Msg.OPS, Msg.READ) and caller.role in (Role.ROUTER, Role.ALLOTTER):
            self._on_frame(caller, kind, group, request, body)
        elif kind == Msg.WATCH and caller.role == Role.ROUTER:
            self._on_watch(caller, group, request, body)
        elif kind == Msg.HELLO:
            self._on_hello(caller, body)
        elif not caller.role:
            self._turn_away(connection, Refusal(Code.BAD_MESSAGE, "a connection begins with HELLO"))
        elif kind == Msg.STATUS:
            connection.send(Msg.STATUS, 0, request, encode(self._status()))
        elif kind == Msg.PING:
            connection.send(Msg.PONG, 0, request, b"")
        elif kind == Msg.PONG:
            pass  # a sign of life, which the connection has noted
        else:
            self._refuse(connection, request, Refusal(Code.BAD_MESSAGE, f"a {caller.role} does not send kind {kind}"))

    def _on_frame(self, caller: Caller, kind: int, group: int, request: int, body: bytes) -> None:
        connection = caller.connection
        service = self._services.get(group)
        if service is None:
            self._refuse(connection, request, Refusal(Code.NO_SUCH_GROUP, f"group {group} has no replica here"), group)
            return
        try:
            frame, senders = read_frame(caller, request, body, self._clock())
        except HoldfastError as error:
            self._refuse(connection, request, refusal_of(error), group)
            return
        self._learn(group, caller, senders)
        if kind == Msg.OPS:
            service.write(frame)
        else:
            service.read(frame)
        self._on_input()

    def _on_watch(self, caller: Caller, group: int, request: int, body: bytes) -> None:
        service = self._services.get(group)
        if service is None or service.watches is None:
            self._no_watch(caller, group, request, Code.NO_SUCH_GROUP, f"group {group} has no locks here")
            return
        try:
            asked = decode_watch(body)
        except msgspec.DecodeError as error:
            self._no_watch(caller, group, request, Code.BAD_MESSAGE, f"this is no watch: {error}")
            return
        service.watches.ask(caller, request, asked, service.office)
        self._on_input()

    def _no_watch(self, caller: Caller, group: int, request: int, code: Code, text: str) -> None:
        """Watches have request ids of their own: REFUSED would be taken for that of a frame."""
        caller.connection.send(Msg.WATCHED, group, request, encode(Watched(False, [], Refusal(code, text))))

    def _learn(self, group: int, caller: Caller, senders: list[Sender]) -> None:
        routes, machine = self._routes[group], self._services[group].machine
        for sender in senders:
            key = (sender.tenant, sender.section.client)
            if routes.get(key) is not caller and machine.knows(*key):
                routes.pop(key, None)
                routes[key] = caller
                if len(routes) > ROUTES_MAX:
                    del routes[next(iter(routes))]

    def _on_hello(self, caller: Caller, body: bytes) -> None:
        connection = caller.connection
        if caller.role:
            self._turn_away(connection, Refusal(Code.BAD_MESSAGE, "a connection says HELLO once"))
            return
        try:
            hello = decode_hello(body)
            self._check_hello(hello)
            if self._tls is not None:
                self._check_names(hello, names_shown(connection.transport))
        except msgspec.DecodeError as error:
            self._turn_away(connection, Refusal(Code.BAD_MESSAGE, f"this is no HELLO: {error}"))
            return
        except HoldfastError as error:
            self._turn_away(connection, refusal_of(error))
            return
        caller.role, caller.node, caller.identity = hello.role, hello.node, hello.identity
        connection.body_bytes_max = MESSAGE_BYTES_MAX
        identity = self._formation.node(self._node).identity
        welcome = Welcome(PROTOCOL_VERSION, self._formation.cluster, 0, self._node, identity)
        connection.send(Msg.WELCOME, 0, 0, encode(welcome))
        if hello.role in (Role.ROUTER, Role.NODE, Role.ALLOTTER):
            connection.watch()
        if hello.role == Role.NODE:
            self._on_peer(hello.node, connection)
        elif hello.role == Role.ROUTER:
            for kind, said in self._greeting():
                connection.send(kind, 0, 0, said)
            connection.send(Msg.ROLES, 0, 0, encode(self._roles()))
        elif hello.role == Role.ALLOTTER:
            connection.send(Msg.ROLES, 0, 0, encode(self._roles()))
            self._on_allotter()

    def _check_hello(self, hello: Hello) -> None:
        formation = self._formation
        if hello.version != PROTOCOL_VERSION:
            raise VersionMismatch(f"this node speaks version {PROTOCOL_VERSION}, the caller {hello.version}")
        if hello.role not in (Role.ROUTER, Role.NODE, Role.ALLOTTER, Role.ADMIN):
            raise Unauthenticated("a node serves routers and nodes; clients connect to a router")
        if hello.cluster != formation.cluster:
            raise WrongCluster(f"this node is of cluster {formation.cluster}, the caller of {hello.cluster or 'none'}")
        if not hmac.compare_digest(hello.key.encode(), formation.secret.encode()):
            raise Unauthenticated("the cluster secret is wrong")
        if hello.role in (Role.NODE, Role.ALLOTTER):
            known = {record.node: formation.node(record.node).identity for record in formation.nodes}
            if hello.node == self._node or known.get(hello.node) != hello.identity:
                raise WrongCluster(
                    f"node {hello.node} with identity {hello.identity or 'none'} is no member: its disk was replaced, "
                    "or it was formed anew"
                )

    def _check_names(self, hello: Hello, names: frozenset[str]) -> None:
        """Whoever calls is what its certificate says, and that is of this cluster as the meta group knows it now."""
        cluster = self._formation.cluster
        nodes = {node_name(node, cluster) for node in self._members()}
        # Nodes ask the meta group as routers do, to say where they are.
        allowed = (
            {node_name(hello.node, cluster)} & nodes
            if hello.role in (Role.NODE, Role.ALLOTTER)
            else {*nodes, router_name(cluster)}
        )
        if not allowed & names:
            shown = ", ".join(sorted(names)) or "no name"
            raise Unauthenticated(f"a certificate for {shown} is not that of a {hello.role} of cluster {cluster}")

    def _turn_away(self, connection: Connection, refusal: Refusal) -> None:
        self._log_refused(connection, refusal.message)
        self._refuse(connection, 0, refusal)
        connection.close()

    def _refuse(self, connection: Connection, request: int, refusal: Refusal, group: int = 0) -> None:
        connection.send(Msg.REFUSED, group, request, encode(refusal))

    def _log_refused(self, connection: Connection, why: str) -> None:
        self._log_stranger(_address(connection), why)

    def _log_stranger(self, address: str, why: str) -> None:
        if self._complaints.due(address):
            log.warning("refused a caller", extra={"address": address, "why": why})

    # Output.

    def answer(self) -> None:
        """Send what the services have to say."""
        for group, service in self._services.items():
            if service.replies:
                replies, service.replies = service.replies, []
                for reply in replies:
                    caller = reply.caller
                    assert isinstance(caller, Caller)
                    if reply.answers is not None:
                        caller.connection.send(Msg.ANSWERS, group, reply.request, reply.answers)
                    elif reply.refusal is not None:
                        self._refuse(caller.connection, reply.request, reply.refusal, group)
            if service.events:
                events, service.events = service.events, []
                self._send_events(group, events)
            if service.watches is not None and service.watches.busy:
                for notice in service.watches.take(service.office, _listens):
                    assert isinstance(notice.caller, Caller)
                    notice.caller.connection.send(Msg.WATCHED, group, notice.request, encode(notice.watched))

    def _send_events(self, group: int, events: list[Event]) -> None:
        routes = self._routes[group]
        by_caller: dict[Caller, list[Event]] = {}
        for event in events:
            caller = routes.get((event.tenant, event.client))
            if caller is not None:
                by_caller.setdefault(caller, []).append(event)
        for caller, mine in by_caller.items():
            # A router that does not read gets no events: its clients find out by tickets and change numbers.
            if not caller.connection.paused:
                caller.connection.send(Msg.EVENTS, group, 0, encode(mine))

    def broadcast(self, kind: Msg, body: bytes, role: Role = Role.ROUTER) -> bool:
        """To everybody of this role; returns whether there was anybody."""
        callers = [caller for caller in self._callers.values() if caller.role == role]
        for caller in callers:
            caller.connection.send(kind, 0, 0, body)
        return bool(callers)

    @property
    def connections(self) -> set[Connection]:
        return set(self._callers)

    @property
    def routers(self) -> int:
        """How many are connected, each process counted once; a node that announces itself is none."""
        return len({caller.identity for caller in self._callers.values() if caller.role == Role.ROUTER} - {""})

    async def close(self) -> None:
        self._acceptor.close()
        for connection in list(self._callers):
            connection.close()


def _address(connection: Connection) -> str:
    return connection.peer.rpartition(":")[0]


def _listens(caller: object) -> bool:
    """A router that does not read is told when it reads again."""
    assert isinstance(caller, Caller)
    return not caller.connection.paused
