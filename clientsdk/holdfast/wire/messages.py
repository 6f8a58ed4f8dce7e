"""Messages of the stream, by kind. A message is a header (see ``stream``) and a msgpack body of the type given here."""

from __future__ import annotations

import enum

import msgspec

from holdfast.wire.errors import Code, HoldfastError, Throttled, error_of
from holdfast.wire.frames import LockView, decoder
from holdfast.wire.hiding import shown
from holdfast.wire.tenants import Tenant

Struct = msgspec.Struct


class Msg(enum.IntEnum):
    """Message kinds: direction and body."""

    HELLO = 1
    """Caller's first: :class:`Hello`."""
    WELCOME = 2
    """Answer to a good HELLO: :class:`Welcome`."""
    REFUSED = 3
    """Answer to any request (its id) or to the connection (id 0): :class:`Refusal`."""
    OPS = 4
    """SDK to router: :class:`Request` with a section. Router to node: :class:`FrameRequest`."""
    READ = 5
    """As OPS, with reads only."""
    ANSWERS = 6
    """To an SDK: ``Answers``. To a router: ``list[Answers | None]``, one for each section of the frame; None for one
    that was not carried out, because nobody waited for it any more."""
    EVENTS = 7
    """``list[Event]`` of one group (the header's)."""
    TABLE = 8
    """Router to SDK, unasked, at every new version: :class:`SlotTable`."""
    ROLES = 9
    """Node to router and router to SDK, at every change: ``list[GroupRole]``."""
    META = 10
    """Node to router, once after WELCOME: :class:`MetaRecord`."""
    STATUS = 11
    """Asks (empty body) and answers (any msgpack map) for a process's status."""
    PING = 12
    PONG = 13
    PEER = 14
    """Node to node: one bundle of the engine; opaque here."""
    TENANTS = 15
    """Node to router: :class:`MetaDelta`, from the version that this connection was told last."""
    BEAT = 16
    """The meta group's leader to routers, every second: :class:`Beat`."""
    ADMIN = 17
    """SDK to router: :class:`holdfast.wire.administration.AdminCall`; answered with the request's result."""
    USE = 20
    """Node to allotter: what a group that it leads uses of its tenants' shares; opaque here."""
    WATCH = 18
    """SDK to router and router to a group's leader: :class:`WatchRequest`; the request id names the watch."""
    WATCHED = 19
    """The other way, as often as there is something to say, under the watch's request id: :class:`Watched`."""


class Role(enum.StrEnum):
    CLIENT = "client"
    ROUTER = "router"
    NODE = "node"
    ALLOTTER = "allotter"
    """A node that leads the meta group, on the connection by which it moves allotments."""
    ADMIN = "admin"


class Hello(Struct, array_like=True):
    """``cluster``, ``node``, ``identity`` are a peer's; ``key`` is a tenant's API key or the cluster's own secret."""

    version: int
    role: str
    key: str = ""
    cluster: str = ""
    node: int = 0
    identity: str = ""
    agent: str = ""

    def __repr__(self) -> str:
        return shown(self, "key")


class Welcome(Struct, array_like=True):
    version: int
    cluster: str
    tenant: int = 0
    node: int = 0
    identity: str = ""
    seal: bytes = b""
    """To an SDK: its tenant's key for LockIDs (``holdfast.wire.sealing``)."""
    role: str = ""
    """Of the caller's key, and its prefix: what it may do (``holdfast.wire.rights``)."""
    prefix: str = ""

    def __repr__(self) -> str:
        return shown(self, "seal")


class Refusal(Struct, array_like=True):
    code: int
    message: str
    retry_after_ms: int = 0
    leader: int = 0
    """With NOT_LEADER: the node that leads, 0 when unknown."""
    quota: str = ""
    """With THROTTLED: which one is used up."""
    limit: int = 0
    """With THROTTLED: how much of it there is."""

    def error(self) -> HoldfastError:
        return error_of(self.code, self.message, self.retry_after_ms, self.quota, self.limit)


class Request(Struct, array_like=True, gc=False):
    """A section on its way to a router, with what is left of the caller's patience."""

    deadline_ms: int
    section: msgspec.Raw


class FrameRequest(Struct, array_like=True, gc=False):
    """A frame, ``list[StampedRaw]``, on its way to a node, with what is left of the patience of those who wait."""

    patience_ms: list[int]
    """By section, from the frame's arrival; 0: it is carried out however late. Empty: all of them are."""
    frame: msgspec.Raw


class SlotTable(Struct, array_like=True, frozen=True):
    """Slot to group: two bytes little endian for each of the 4,096 slots."""

    version: int
    groups: bytes


class GroupRole(Struct, array_like=True, frozen=True):
    """Who leads a group, as seen by the sender: ``node`` 0 when nobody does; ``ready`` when it serves."""

    group: int
    term: int
    node: int
    ready: bool


class NodeRecord(Struct, array_like=True, frozen=True):
    node: int
    address: str
    identity: str


class GroupRecord(Struct, array_like=True, frozen=True):
    group: int
    members: tuple[int, ...]


class MetaRecord(Struct, array_like=True, frozen=True):
    """What the meta group holds and routers watch. ``version`` only grows."""

    version: int
    cluster: str
    nodes: tuple[NodeRecord, ...]
    groups: tuple[GroupRecord, ...]
    table: SlotTable
    tenants: tuple[Tenant, ...]


class MetaDelta(Struct, array_like=True, frozen=True):
    """What leads from a record of version ``base``, or any between, to one of ``version``."""

    base: int
    version: int
    changed: tuple[Tenant, ...] = ()
    deleted: tuple[int, ...] = ()
    nodes: tuple[NodeRecord, ...] | None = None
    groups: tuple[GroupRecord, ...] | None = None
    table: SlotTable | None = None


class Beat(Struct, array_like=True, frozen=True):
    """The meta group has a leader, and a router that hears it knows everything up to ``version``."""

    version: int
    routers: int
    """How many are connected to that leader, each process counted once."""


def delta_between(old: MetaRecord, new: MetaRecord) -> MetaDelta:
    before = {tenant.number: tenant.version for tenant in old.tenants}
    after = {tenant.number for tenant in new.tenants}
    return MetaDelta(
        old.version,
        new.version,
        tuple(tenant for tenant in new.tenants if before.get(tenant.number) != tenant.version),
        tuple(number for number in before if number not in after),
        new.nodes if new.nodes != old.nodes else None,
        new.groups if new.groups != old.groups else None,
        new.table if new.table != old.table else None,
    )


class WatchRequest(Struct, array_like=True):
    """What to watch: one name, or with ``prefix`` every name of this group that begins with it."""

    name: str
    prefix: bool = False
    on: bool = True
    """False ends the watch of this request id."""
    tenant: int = 0
    """The router's word to the node; an SDK's is not read."""


class Watched(Struct, array_like=True):
    """What has become of watched names, each as it is now: what was in between is not told."""

    fresh: bool
    """The watch stands from here on, and something may have been missed before: read everything watched again."""
    views: list[LockView]
    refusal: Refusal | None = None
    """The watch does not stand. From a router only what the same request would meet again."""


decode_hello = decoder(Hello)
decode_welcome = decoder(Welcome)
decode_refusal = decoder(Refusal)
decode_request = decoder(Request)
decode_frame_request = decoder(FrameRequest)
decode_table = decoder(SlotTable)
decode_roles = decoder(list[GroupRole])
decode_meta = decoder(MetaRecord)
decode_delta = decoder(MetaDelta)
decode_beat = decoder(Beat)
decode_watch = decoder(WatchRequest)
decode_watched = decoder(Watched)


def refusal_of(error: HoldfastError, leader: int = 0) -> Refusal:
    code = error.code if error.code is not None else Code.REJECTED
    if isinstance(error, Throttled):
        return Refusal(int(code), str(error), error.retry_after_ms, leader, error.quota, error.limit)
    return Refusal(int(code), str(error), getattr(error, "retry_after_ms", 0), leader)
