"""A router, put together: SDKs on one side, nodes on the other, one dispatch for each group between them."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import msgspec

from holdfast.wire.accepting import Acceptor
from holdfast.wire.addresses import split_address
from holdfast.wire.errors import Code, HoldfastError, Unauthenticated
from holdfast.wire.frames import FIRST_READ, Answers, Event, Kind, Status, decode_answers, decode_events, encode
from holdfast.wire.hiding import shown
from holdfast.wire.limits import OPERATIONS_PER_SECTION_MAX
from holdfast.wire.messages import (
    Beat,
    GroupRecord,
    GroupRole,
    MetaDelta,
    MetaRecord,
    Msg,
    NodeRecord,
    Refusal,
    refusal_of,
)
from holdfast.wire.sealing import seal_key
from holdfast.wire.tenants import OPERATOR, KeyRole
from holdfast.wire.tls import Certificates, TlsFiles, watch_certificates

from .admission.gate import Gate
from .admission.verdict import Denied
from .asking import Question
from .control import Control, acts_of
from .directory import EXEMPT, META_SILENCE_S, Directory
from .dispatch import GroupDispatch, Outcome
from .downstream import ALONE, Downstream, Front
from .exempt import is_exempt, may_be_exempt
from .grpc import GrpcFront
from .http.server import HttpFront
from .item import Item
from .operations import Operations
from .showing import for_tenants
from .stamping import Stamper
from .upstream import Upstream
from .watches import Watches

META_GROUP = 0
EXPIRE_EVERY_S = 0.02
ALONE_S = 2.0
"""A router that has reached no node for so long sends its callers away: another may, and they would never know."""
STATUS_TIMEOUT_S = 1.0
STATUS_KEPT_S = 0.1
"""However many ask, the nodes are asked no more often."""
ROUTES_MAX = 1_000_000

Route = tuple[int, int, int]
"""(group, tenant, client number): nobody hears another tenant's events by claiming its clients' numbers."""

log = logging.getLogger("holdfast.router")


class FormationFile(msgspec.Struct):
    """What a router reads of ``formation.json``; everything else comes by watch from the meta group."""

    cluster: str
    secret: str
    nodes: tuple[NodeRecord, ...]
    groups: tuple[GroupRecord, ...]

    def __repr__(self) -> str:
        return shown(self, "secret")


class FormationUnreadable(Exception):
    """The file named by ``--formation`` cannot be used."""


def read_formation(path: Path) -> FormationFile:
    try:
        formation = msgspec.json.decode(path.read_bytes(), type=FormationFile)
        for node in formation.nodes:
            split_address(node.address)
    except OSError as error:
        raise FormationUnreadable(f"cannot read {path}: {error.strerror}") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise FormationUnreadable(f"{path} is no formation file: {error}") from None
    if not formation.nodes:
        raise FormationUnreadable(f"{path} names no nodes")
    return formation


class _StatusesOf(msgspec.Struct, array_like=True, gc=False):
    statuses: bytes


_decode_statuses = msgspec.msgpack.Decoder(_StatusesOf).decode


class _Kinds(msgspec.Struct, array_like=True, gc=False):
    client: int
    floor: int
    kinds: bytes


_decode_kinds = msgspec.msgpack.Decoder(_Kinds).decode
_UNREADABLE = bytes([0])


def _kinds_of(section: bytes) -> bytes:
    """For admission, which comes before the section is read whole: refusing costs little. What cannot be read costs
    as much as one operation."""
    try:
        return _decode_kinds(section).kinds[:OPERATIONS_PER_SECTION_MAX] or _UNREADABLE
    except msgspec.DecodeError:
        return _UNREADABLE


class Router:
    """Create inside a running loop, then :meth:`listen` and :meth:`serve`."""

    def __init__(
        self,
        formation: FormationFile,
        tls: Certificates | None = None,
        *,
        meta_silence_s: float = META_SILENCE_S,
        draw: Callable[[int], bytes] = secrets.token_bytes,
        redis_url: str = "",
    ) -> None:
        """``tls``: of the links to nodes. ``meta_silence_s``: how long nothing is heard from the meta group before
        nothing new is admitted. ``draw`` makes random bytes: what tells this process from others, and change ids.
        ``redis_url``: where routers share rates; without it each has an even share. Raises
        :class:`RedisUrlUnusable`."""
        self._loop = asyncio.get_running_loop()
        self._certificates = [tls] if tls is not None else []
        self.directory = Directory(self._loop.time, meta_silence_s)
        self.gate = Gate(
            self.directory.quotas,
            lambda: self.directory.routers,
            self._loop.time,
            redis_url=redis_url,
            cluster=formation.cluster,
        )
        self._table_version = 0
        self._stamper: Stamper | None = None
        self._dispatches: dict[int, GroupDispatch] = {}
        self._roles: dict[int, GroupRole] = {}
        self._routes: OrderedDict[Route, Downstream] = OrderedDict()
        """The connection that a client's answers last went to; longest unheard first, bounded."""
        self._routes_of: dict[Downstream, set[Route]] = {}
        self._status_askers: list[tuple[Downstream, int]] = []
        self._status_bodies = (b"", b"")
        """The operator's and the tenants'."""
        self._status_at = 0.0
        self._scheduled = False
        self._expiry: asyncio.TimerHandle | None = None
        self._acceptor: Acceptor | None = None
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""
        self.grpc: GrpcFront | None = None
        self._alone = False
        self._alone_timer: asyncio.TimerHandle | None = None
        self._control = Control(self.directory, submit=self._submit, deliver=self._deliver, draw=draw)
        self.administration = self._control.administration
        self._front = Front(
            directory=self.directory,
            alone=lambda: self._alone,
            seal_of=partial(seal_key, formation.secret),
            roles=lambda: list(self._roles.values()),
            on_section=self._on_section,
            on_watch=self._on_watch,
            on_status=self._on_status,
            on_admin=self._on_admin,
            on_closed=self._on_gone,
        )
        self._watches = Watches(self._send_watch, self._loop.call_later)
        self._upstream = Upstream(
            formation.cluster,
            formation.secret,
            draw(8).hex(),
            tls=tls,
            on_up=self._on_node_up,
            on_down=self._on_node_down,
            on_meta=self._on_meta,
            on_beat=self._on_beat,
            on_roles=self._on_roles,
            on_answers=self._on_answers,
            on_refused=self._on_refused,
            on_events=self._on_events,
            on_watched=self._watches.heard,
        )
        self._upstream.keep({record.node: record.address for record in formation.nodes})
        self.http: HttpFront | None = None
        self.operations = Operations(
            self._front,
            formation.secret,
            self.gate,
            note=self._control.note,
            administration=self.administration,
            authenticate=self.directory.authenticate,
            table=lambda: self.directory.record.table if self.directory.record is not None else None,
            roles=lambda: list(self._roles.values()),
        )
        self.gate.start()

    async def listen(self, host: str, port: int, tls: Certificates | None) -> None:
        """Raises ``OSError`` when the port is taken."""
        if tls is not None and tls not in self._certificates:
            self._certificates.append(tls)
        acceptor = self._acceptor = self._front.acceptor(tls)
        found = await acceptor.listen(host, port)
        self.address = f"{found[0]}:{found[1]}"

    async def listen_http(
        self, host: str, port: int, tls: Certificates | None, *, cors_origins: Iterable[str] = ()
    ) -> None:
        """Raises ``OSError`` when the port is taken."""
        if tls is not None and tls not in self._certificates:
            self._certificates.append(tls)
        front = self.http = HttpFront(self.operations, ready=lambda: self.ready, tls=tls, cors_origins=cors_origins)
        self.directory.on_gone(front.key_gone)
        await front.listen(host, port)

    @property
    def ready(self) -> bool:
        """Whether what is asked can be admitted and be answered: the cluster is known, and every group has a leader."""
        dispatches = self._dispatches.values()
        return self.directory.is_fresh and bool(dispatches) and all(dispatch.leader for dispatch in dispatches)

    async def listen_grpc(self, host: str, port: int, tls: TlsFiles | None) -> None:
        """Raises ``OSError`` when the port is taken."""
        self.grpc = GrpcFront(self.operations, self.directory, lambda: self.ready)
        await self.grpc.listen(host, port, tls)

    async def serve(self) -> None:
        """Until TERM or INT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stopping.set)
        watching = asyncio.create_task(self._watch_certificates(), name="certificates")
        await self._stopping.wait()
        watching.cancel()
        await self.close()

    async def _watch_certificates(self) -> None:
        if not self._certificates:
            return
        now = asyncio.Event()
        self._loop.add_signal_handler(signal.SIGHUP, now.set)
        await watch_certificates(
            self._certificates,
            now=now,
            on_loaded=lambda: log.info("certificates were read again"),
            on_trouble=lambda why: log.error("certificates cannot be used", extra={"why": why}),
        )

    async def close(self) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
        if self.grpc is not None:
            await self.grpc.close()
        await self.operations.close()
        if self.http is not None:
            await self.http.close()
        self._front.close()
        for task in self._tasks:
            task.cancel()
        await self._control.close()
        await self.gate.close()
        self._watches.close()
        await self._upstream.close()
        for timer in (self._expiry, self._alone_timer):
            if timer is not None:
                timer.cancel()

    # From SDKs.

    def _on_section(
        self, caller: Downstream, kind: int, group: int, request: int, deadline_s: float, section: bytes
    ) -> None:
        assert self._stamper is not None, "nobody is welcomed before the slot table is known"
        dispatch = self._dispatches.get(group)
        if dispatch is None or group == META_GROUP:
            caller.answered()
            self._front.refuse(caller.connection, group, request, Refusal(Code.NO_SUCH_GROUP, f"no group {group} here"))
            return
        assert caller.principal is not None, "only who was welcomed asks"
        now = self._loop.time()
        kinds = _kinds_of(section)
        item = Item(caller, request, kind, section, now + deadline_s, operations=len(kinds), arrived=now)
        item.exempt = may_be_exempt(kinds)
        if caller.is_router:
            self._judged(caller, group, item, None)
        else:
            self.gate.ask(caller.principal.tenant, kinds, partial(self._judged, caller, group, item))

    def _judged(self, caller: Downstream, group: int, item: Item, denied: Denied | None) -> None:
        """What the gate says of a section, at once or after a look at Redis."""
        assert self._stamper is not None
        assert caller.principal is not None
        if denied is None and not caller.is_router:
            caller.admitted += item.operations
        if caller.connection.closed:
            self._end(caller, caller.admitted, 0.0)
            return
        try:
            if denied is not None:
                raise denied.error()
            tenant = self.directory.tenant(caller.principal.tenant)
            if tenant is None:
                raise Unauthenticated("this tenant was deleted")
            item.tenant, item.weight = tenant.number, tenant.weight
            # Before it is read: refusing must cost little when there is much to refuse.
            self._dispatches[group].check_room(item)
            item.body, decoded = self._stamper.stamp(caller.principal, group, item.kind, item.body)
            if decoded.kinds.translate(None, EXEMPT):
                self.directory.check_fresh()
        except HoldfastError as error:
            if denied is None:
                self._end(caller, item.operations, 0.0)
            caller.answered()
            self._front.refuse(caller.connection, group, item.request, refusal_of(error))
            return
        item.exempt = is_exempt(decoded)
        item.client = decoded.client
        if decoded.kinds == bytes([Kind.REGISTER]):
            item.client = -1
        elif decoded.kinds[0] >= FIRST_READ and decoded.kinds[0] not in (Kind.HOLDS, Kind.TICKETS):
            # Other reads are answered whoever asks: they prove nothing about the number.
            item.client = 0
        # What the router asks for its callers was noted as theirs.
        if caller.principal.role == KeyRole.ADMIN and not caller.is_router and acts_of(decoded):
            self._control.carry_noted(group, item, decoded, max(item.deadline - self._loop.time(), 0.0))
            return
        self._dispatches[group].submit(item)
        self._wake()

    def _submit(self, group: int, item: Item) -> None:
        """The router's own."""
        dispatch = self._dispatches.get(group)
        if dispatch is None:
            self._deliver(group, Outcome(item, None, Refusal(Code.NO_SUCH_GROUP, f"no group {group} here")))
            return
        dispatch.submit(item)
        self._wake()

    def _end(self, caller: Downstream, operations: int, took_s: float) -> None:
        """So many operations of its are under way no more."""
        assert caller.principal is not None
        if operations and not caller.is_router:
            caller.admitted -= operations
            self.gate.ended(caller.principal.tenant, operations, took_s)

    def _on_watch(self, caller: Downstream, group: int, request: int, body: bytes) -> None:
        assert self._stamper is not None, "nobody is welcomed before the slot table is known"
        if group not in self._dispatches or group == META_GROUP:
            self._front.refuse(caller.connection, group, request, Refusal(Code.NO_SUCH_GROUP, f"no group {group} here"))
            return
        try:
            assert caller.principal is not None, "only who was welcomed asks"
            asked = self._stamper.watch(caller.principal, group, body)
            if asked.on:
                self._watches.begin(caller, group, request, caller.principal.tenant, asked)
            else:
                self._watches.end(caller, request)
        except HoldfastError as error:
            self._front.refuse(caller.connection, group, request, refusal_of(error))

    def _send_watch(self, node: int, group: int, request: int, body: bytes) -> bool:
        return self._upstream.send(node, Msg.WATCH, group, request, body)

    def _on_admin(self, caller: Downstream, request: int, body: bytes) -> None:
        """Charged and not refused: whoever floods a tenant must not keep its administrator from revoking the key."""
        assert caller.principal is not None, "only who was welcomed asks"
        self.gate.charge(caller.principal.tenant, 1)
        self._control.on_call(caller, request, body)

    def _on_gone(self, caller: Downstream) -> None:
        if caller.principal is not None:
            self._end(caller, caller.admitted, 0.0)
        self._watches.gone(caller)
        if caller.outstanding:
            for dispatch in self._dispatches.values():
                dispatch.drop_caller(caller)
        for route in self._routes_of.pop(caller, ()):
            del self._routes[route]

    def _on_status(self, caller: Downstream, request: int) -> None:
        caller.asked()
        self._status_askers.append((caller, request))
        if self._loop.time() - self._status_at < STATUS_KEPT_S:
            self._tell_status()
        elif not self._tasks:
            task = asyncio.create_task(self._gather_status(), name="status")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _tell_status(self) -> None:
        askers, self._status_askers = self._status_askers, []
        for caller, request in askers:
            caller.answered()
            rules = caller.principal is not None and caller.principal.tenant == OPERATOR
            caller.connection.send(Msg.STATUS, 0, request, self._status_bodies[0 if rules else 1])

    async def _gather_status(self) -> None:
        addresses = dict(self._upstream.addresses)
        found = await asyncio.gather(*(self._upstream.status(node, STATUS_TIMEOUT_S) for node in addresses))
        nodes = [
            status if status is not None else {"node": node, "address": address, "up": False, "groups": []}
            for (node, address), status in zip(addresses.items(), found, strict=True)
        ]
        router = {
            "pid": os.getpid(),
            "address": self.address,
            "clients": len(self._front),
            "table_version": self._table_version,
            "admission": self.gate.status(),
            "leaders": {str(group): dispatch.leader for group, dispatch in self._dispatches.items()},
        }
        whole = {"whole": True, "router": router, "nodes": nodes}
        self._status_bodies = encode(whole), encode(for_tenants(whole))
        self._status_at = self._loop.time()
        self._tell_status()

    # From nodes.

    def _on_meta(self, said: MetaRecord | MetaDelta) -> None:
        directory = self.directory
        if not (directory.adopt(said) if isinstance(said, MetaRecord) else directory.follow(said)):
            return
        record = directory.record
        assert record is not None
        self._upstream.keep({node.node: node.address for node in record.nodes})
        for group in record.groups:
            self._dispatches.setdefault(group.group, GroupDispatch(group.group))
        if record.table.version != self._table_version:
            self._table_version = record.table.version
            self._stamper = Stamper(record.table)
            self._front.broadcast(Msg.TABLE, encode(record.table))

    def _on_beat(self, beat: Beat) -> None:
        self.directory.beat(beat)
        self._front.settle_early()

    def _on_roles(self, node: int, roles: list[GroupRole]) -> None:
        changed: list[GroupRole] = []
        for role in roles:
            dispatch = self._dispatches.setdefault(role.group, GroupDispatch(role.group))
            before = (dispatch.leader, dispatch.term)
            dispatch.role(node, role)
            if dispatch.leader and (dispatch.leader, dispatch.term) != before:
                self._roles[role.group] = GroupRole(role.group, dispatch.term, dispatch.leader, True)
                changed.append(self._roles[role.group])
                self._watches.led(role.group, dispatch.leader)
        if changed:
            self._front.broadcast(Msg.ROLES, encode(changed))
        self._wake()

    def _on_node_down(self, node: int) -> None:
        for dispatch in self._dispatches.values():
            dispatch.disconnected(node)
        self._watches.disconnected(node)
        if self._upstream.alone and self._alone_timer is None:
            self._alone_timer = self._loop.call_later(ALONE_S, self._send_away)
        self._wake()

    def _on_node_up(self) -> None:
        self._alone = False
        if self._alone_timer is not None:
            self._alone_timer.cancel()
            self._alone_timer = None

    def _send_away(self) -> None:
        self._alone = True
        log.warning("no node can be reached: callers are sent to other routers")
        self._front.send_away(ALONE)

    def _on_answers(self, group: int, request: int, body: bytes) -> None:
        self._dispatches[group].answered(request, body, self._loop.time())
        self._wake()

    def _on_refused(self, group: int, request: int, refusal: Refusal) -> None:
        dispatch = self._dispatches.get(group)
        if dispatch is not None:
            dispatch.refused(request, refusal, self._loop.time())
            self._wake()

    def _on_events(self, group: int, body: bytes) -> None:
        # An event never overtakes the answer before it: a grant means nothing to who does not know its ticket yet.
        if group in self._dispatches:
            self._deliver_all(self._dispatches[group])
        by_caller: dict[Downstream, list[Event]] = {}
        for event in decode_events(body):
            caller = self._routes.get((group, event.tenant, event.client))
            if caller is not None and not caller.connection.paused:
                by_caller.setdefault(caller, []).append(event)
        for caller, mine in by_caller.items():
            caller.connection.send(Msg.EVENTS, group, 0, encode(mine))

    # Turns.

    def _wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        now = self._loop.time()
        busy = False
        for dispatch in self._dispatches.values():
            dispatch.turn(now)
            self._flush(dispatch)
            busy = busy or dispatch.busy
        if busy and self._expiry is None:
            self._expiry = self._loop.call_later(EXPIRE_EVERY_S, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        now = self._loop.time()
        for dispatch in self._dispatches.values():
            if dispatch.busy:
                dispatch.expire(now)
        self._turn()

    def _flush(self, dispatch: GroupDispatch) -> None:
        while dispatch.frames:
            frames, dispatch.frames = dispatch.frames, []
            for frame in frames:
                if not self._upstream.send(frame.node, frame.kind, dispatch.group, frame.request, frame.body):
                    dispatch.unsent(frame)
        self._deliver_all(dispatch)

    def _deliver_all(self, dispatch: GroupDispatch) -> None:
        outcomes, dispatch.outcomes = dispatch.outcomes, []
        for outcome in outcomes:
            self._deliver(dispatch.group, outcome)

    def _deliver(self, group: int, outcome: Outcome) -> None:
        item = outcome.item
        caller = item.caller
        if isinstance(caller, Question):
            caller.settle(outcome)
            return
        assert isinstance(caller, Downstream)
        if caller.connection.closed:
            return  # with it ended all that it had under way
        self._end(caller, item.operations, self._loop.time() - item.arrived)
        caller.answered()
        if outcome.answers is not None:
            self._learn(group, item, caller, outcome.answers)
            caller.connection.send(Msg.ANSWERS, group, item.request, outcome.answers)
        elif outcome.refusal is not None:
            self._front.refuse(caller.connection, group, item.request, outcome.refusal)

    def _learn(self, group: int, item: Item, caller: Downstream, answers: bytes) -> None:
        """Events of a client go where its answers go."""
        number = item.client
        if number == 0:
            return
        if number < 0:
            number = _registered(decode_answers(answers))
        elif _decode_statuses(answers).statuses[:1] == _UNREGISTERED:
            return
        if number and not caller.connection.closed:
            assert caller.principal is not None
            self._route((group, caller.principal.tenant, number), caller)

    def _route(self, route: Route, caller: Downstream) -> None:
        routes = self._routes
        before = routes.get(route)
        if before is not caller:
            if before is not None:
                self._routes_of[before].discard(route)
            routes[route] = caller
            self._routes_of.setdefault(caller, set()).add(route)
        routes.move_to_end(route)
        if len(routes) > ROUTES_MAX:
            oldest, its = routes.popitem(last=False)
            self._routes_of[its].discard(oldest)


_UNREGISTERED = bytes([Status.UNREGISTERED])


def _registered(answers: Answers) -> int:
    return answers.tokens[0] if answers.statuses == bytes([Status.OK]) else 0


def listening_line(router: Router) -> dict[str, object]:
    http = {"http": router.http.address} if router.http is not None else {}
    grpc = {"grpc": router.grpc.address} if router.grpc is not None else {}
    return {"event": "listening", "address": router.address, **http, **grpc, "pid": os.getpid()}
