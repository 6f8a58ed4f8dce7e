"""How a cluster comes to be: written once, into every data directory, and never merged or edited afterwards.

The formation is the genesis of every group and the only source of a node's identity. A directory of another cluster, or
one whose identity is not the one that the formation names, is refused.
"""

from __future__ import annotations

import errno
import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from holdfast.wire.addresses import split_address
from holdfast.wire.hiding import shown
from holdfast.wire.keys import DIGEST_BYTES, SALT_BYTES, new_key
from holdfast.wire.limits import SLOTS
from holdfast.wire.messages import GroupRecord, MetaRecord, NodeRecord, SlotTable
from holdfast.wire.tenants import OPERATOR, PLANS, ApiKey, KeyRole, Tenant, TenantState

from .consensus.disk import Disk, DiskError, DiskFull, RealDisk
from .machine import META_GROUP, Genesis
from .machine.allotments import first_allotments
from .placement import pack_slots, place_slots, unpack_slots

FORMATION_VERSION = 3
BUILT_IN_TENANT = 1
FORMATION_FILE = "formation.json"
IDENTITY_FILE = "identity"
BEGUN_FILE = "begun"
"""Present once a node has written its journal here: from then on an empty journal is a lost one."""
FRESH_FILE = "fresh"
"""Present in a directory that replaces a lost one, until its replicas have caught up."""
META_REPLICAS_MAX = 5
GROUPS_MAX = 4096
BUILT_IN_PLAN = "unlimited"


class FormationError(Exception):
    """The data directory is not this node's, or not readable; the message says what to do."""


class _Versioned(msgspec.Struct):
    version: int


class Formation(msgspec.Struct, frozen=True):
    version: int
    cluster: str
    secret: str
    nodes: tuple[NodeRecord, ...]
    groups: tuple[GroupRecord, ...]
    slots: bytes
    tenants: tuple[Tenant, ...]
    """The operator and the built-in tenant, each with its first key."""
    replaced: dict[int, str] = {}
    """Node -> the identity that :func:`replace_node` gave it last; its disk is not as formed and may not vote at first.

    ``nodes`` stays as it was: it is the genesis of the meta group, where every replica has to begin alike, whether it
    was there before the replacement or comes after it."""

    def __repr__(self) -> str:
        return shown(self, "secret")

    def node(self, number: int) -> NodeRecord:
        """With its present identity."""
        for record in self.nodes:
            if record.node == number:
                return NodeRecord(record.node, record.address, self.replaced.get(number, record.identity))
        raise FormationError(f"cluster {self.cluster} has no node {number}")

    def members_of(self, node: int) -> dict[int, tuple[int, ...]]:
        """Groups with a replica on ``node`` -> their members."""
        return {record.group: record.members for record in self.groups if node in record.members}

    def meta(self) -> MetaRecord:
        return MetaRecord(1, self.cluster, self.nodes, self.groups, SlotTable(1, self.slots), self.tenants)

    def genesis(self, group: int) -> Genesis:
        slots = tuple(slot for slot, owner in enumerate(unpack_slots(self.slots)) if owner == group)
        groups = [record.group for record in self.groups if record.group != META_GROUP]
        allotments = tuple(
            first_allotments(tenant.number, tenant.quotas, groups)[group]
            for tenant in self.tenants
            if tenant.number != OPERATOR
        )
        return Genesis(self.cluster, group, slots, allotments)


class NewCluster(NamedTuple):
    formation: Formation
    api_key: str
    """Of the built-in tenant, role admin."""
    operator_key: str

    def __repr__(self) -> str:
        return f"NewCluster({self.formation})"


def new_formation(addresses: Sequence[str], groups: int, replicas: int, now_ms: int) -> NewCluster:
    """A new cluster and its first keys; ``now_ms`` is Unix time. Raises :class:`FormationError` for impossible
    numbers."""
    nodes = len(addresses)
    if replicas not in (1, 3, 5):
        raise FormationError(f"replicas is 1, 3 or 5, not {replicas}: an even number adds cost and no safety")
    if replicas > nodes:
        raise FormationError(f"{replicas} replicas need as many nodes; there are {nodes}")
    if not 1 <= groups <= GROUPS_MAX:
        raise FormationError(f"groups is 1 to {GROUPS_MAX}, not {groups}")
    if len(set(addresses)) != nodes:
        raise FormationError("every node needs an address of its own")
    records = tuple(
        NodeRecord(number, address, secrets.token_hex(16)) for number, address in enumerate(addresses, start=1)
    )
    meta_replicas = min(nodes - (nodes + 1) % 2, META_REPLICAS_MAX)
    members = [GroupRecord(META_GROUP, tuple(range(1, meta_replicas + 1)))]
    for group in range(1, groups + 1):
        first = (group - 1) % nodes
        members.append(GroupRecord(group, tuple(sorted((first + at) % nodes + 1 for at in range(replicas)))))
    tenant_key, api_key = new_key("first", KeyRole.ADMIN, "", now_ms)
    rule_key, operator_key = new_key("first", KeyRole.ADMIN, "", now_ms)
    tenants = (
        _tenant(OPERATOR, "operator", "Operator of this cluster", rule_key),
        _tenant(BUILT_IN_TENANT, "default", "Default tenant", tenant_key),
    )
    table = pack_slots(place_slots(range(1, groups + 1)))
    formation = Formation(
        FORMATION_VERSION, secrets.token_hex(8), secrets.token_hex(32), records, tuple(members), table, tenants
    )
    return NewCluster(formation, api_key, operator_key)


def _tenant(number: int, text: str, display: str, key: ApiKey) -> Tenant:
    plan, now_ms = PLANS[BUILT_IN_PLAN], key.created_ms
    return Tenant(
        number, text, display, TenantState.ACTIVE, BUILT_IN_PLAN, plan.weight, plan.quotas, (key,), now_ms, now_ms, 1
    )


def write_formation(formation: Formation, path: Path) -> None:
    """Readable by its owner only, whole or not at all, and kept through a power loss from here on. Raises
    :class:`DiskFull`, :class:`DiskError`."""
    with closing(RealDisk(path.parent)) as disk:
        disk.write_atomic(path.name, _encoded(formation))


def _encoded(formation: Formation) -> bytes:
    return msgspec.json.format(msgspec.json.encode(formation), indent=1)


def read_formation(path: Path) -> Formation:
    return _formation(path.read_bytes, str(path))


def _formation(read: Callable[[], bytes], place: str) -> Formation:
    try:
        raw = read()
        version = msgspec.json.decode(raw, type=_Versioned).version
        if version != FORMATION_VERSION:
            raise FormationError(f"{place} is of version {version}; this program knows {FORMATION_VERSION}")
        formation = msgspec.json.decode(raw, type=Formation)
    except (OSError, DiskError) as error:
        raise FormationError(f"cannot read {place}: {_why(error)}; form a cluster first (holdfast node form)") from None
    except msgspec.DecodeError as error:
        raise FormationError(f"{place} is no formation file ({error}); restore it from another node's copy") from None
    try:
        _check(formation)
    except ValueError as error:
        raise FormationError(f"{place} is damaged ({error}); restore it from another node's copy") from None
    return formation


def _why(error: Exception) -> str:
    cause = error.__cause__ if isinstance(error, DiskError) else error
    return getattr(cause, "strerror", None) or str(error)


def _check(formation: Formation) -> None:
    """Raises ``ValueError`` when the parts do not fit: whoever has read a formation may rely on it."""
    if not formation.cluster or not formation.secret:
        raise ValueError("the cluster has no id or no secret")
    nodes = {record.node for record in formation.nodes}
    if not nodes or min(nodes) < 1:
        raise ValueError("nodes are numbered from 1")
    _check_unlike("node", [record.node for record in formation.nodes])
    _check_unlike("address", [record.address for record in formation.nodes])
    _check_unlike("identity", [*(record.identity for record in formation.nodes), *formation.replaced.values()])
    for node in formation.nodes:
        split_address(node.address)
        if not node.identity:
            raise ValueError(f"node {node.node} has no identity")
    groups = {record.group for record in formation.groups}
    _check_unlike("group", [record.group for record in formation.groups])
    if not all(META_GROUP <= group <= GROUPS_MAX for group in groups) or META_GROUP not in groups:
        raise ValueError(f"groups are 0, the meta group, to {GROUPS_MAX}")
    for group in formation.groups:
        _check_unlike(f"member of group {group.group}", group.members)
        if not group.members or not nodes.issuperset(group.members):
            raise ValueError(f"the members {list(group.members)} of group {group.group} are not all nodes")
    if len(formation.slots) != 2 * SLOTS:
        raise ValueError(f"the slot table has {len(formation.slots)} bytes, not {2 * SLOTS}")
    strangers = set(unpack_slots(formation.slots)) - (groups - {META_GROUP})
    if strangers:
        raise ValueError(f"slots belong to {sorted(strangers)}, which are no lock groups")
    _check_tenants(formation.tenants)
    if not nodes.issuperset(formation.replaced) or not all(formation.replaced.values()):
        raise ValueError("a node that is none was replaced, or one has no identity")


def _check_tenants(tenants: Sequence[Tenant]) -> None:
    _check_unlike("tenant", [tenant.number for tenant in tenants])
    _check_unlike("tenant's id", [tenant.id for tenant in tenants])
    _check_unlike("key", [key.id for tenant in tenants for key in tenant.keys])
    if not any(tenant.number == OPERATOR and tenant.keys for tenant in tenants):
        raise ValueError("there is no operator with a key")
    for tenant in tenants:
        sound = all(len(key.digest) == DIGEST_BYTES and len(key.salt) == SALT_BYTES for key in tenant.keys)
        if tenant.number < OPERATOR or not sound:
            raise ValueError(f"tenant {tenant.number} has an impossible number or key")


def _check_unlike(what: str, values: Sequence[object]) -> None:
    if len(set(values)) != len(values):
        raise ValueError(f"one {what} stands there twice")


def write_directory(formation: Formation, node: int, directory: Path, *, fresh: bool = False) -> None:
    """Make the data directory of one node. Raises :class:`FormationError` when it holds anything already."""
    try:
        new = [path for path in (directory, *directory.parents) if not path.exists()]
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise FormationError(f"{directory} is not empty; a data directory is made once")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"disk full: cannot make {directory}; free space on that volume") from None
        raise FormationError(f"cannot make {directory}: {error.strerror}") from None
    for path in new:
        _sync_names(path.parent)
    with closing(RealDisk(directory)) as disk:
        fill_directory(disk, formation, node, fresh=fresh)


def fill_directory(disk: Disk, formation: Formation, node: int, *, fresh: bool = False) -> None:
    """What a node's empty data directory has to hold before its first start."""
    if fresh:
        # First: there is no moment at which this directory could be started as one that may vote.
        disk.write_atomic(FRESH_FILE, b"")
    disk.write_atomic(FORMATION_FILE, _encoded(formation))
    disk.write_atomic(IDENTITY_FILE, formation.node(node).identity.encode())


def open_directory(directory: Path) -> RealDisk:
    """An existing data directory. Raises :class:`FormationError`."""
    try:
        if directory.is_dir():
            return RealDisk(directory)
        why = "it is no directory" if directory.exists() else "there is none"
    except (OSError, DiskError) as error:
        why = _why(error)
    raise FormationError(f"cannot use data directory {directory}: {why}; form a cluster first (holdfast node form)")


def load_directory(disk: Disk) -> tuple[Formation, NodeRecord]:
    """The formation of a data directory and the node it belongs to."""
    formation = _formation(partial(disk.read, FORMATION_FILE), f"{disk.place}/{FORMATION_FILE}")
    try:
        identity = disk.read(IDENTITY_FILE).decode().strip()
    except (OSError, DiskError, UnicodeDecodeError) as error:
        why = "it is no text" if isinstance(error, UnicodeDecodeError) else _why(error)
        raise FormationError(
            f"cannot read {disk.place}/{IDENTITY_FILE}: {why}. A directory that lost its identity may have "
            "lost more: replace the node (docs/operations.md)"
        ) from None
    for number in (record.node for record in formation.nodes):
        record = formation.node(number)
        if record.identity == identity:
            return formation, record
    raise FormationError(
        f"{disk.place} has identity {identity}, which cluster {formation.cluster} does not know: it is of another "
        "cluster, or was replaced"
    )


def require_journal(disk: Disk, formation: Formation, node: int, *, has_journal: bool) -> None:
    """Raises :class:`FormationError` when this directory has forgotten what a node must remember: a node that forgot
    its votes and entries must never take part under its old identity, nor a replacement vote before it caught up."""
    begun = disk.exists(BEGUN_FILE)
    if begun and not has_journal:
        raise FormationError(
            f"{disk.place} has lost its journal: replace this node (docs/operations.md), do not start it empty"
        )
    if node in formation.replaced and not begun and not disk.exists(FRESH_FILE):
        raise FormationError(
            f"{disk.place} replaces a lost disk, but its file {FRESH_FILE!r} is gone and nothing shows that it has "
            "caught up: replace this node again (docs/operations.md), do not start it"
        )


def note_journal(disk: Disk) -> None:
    """The journal has begun. Written after its first file, so that a crash between the two loses nothing."""
    if not disk.exists(BEGUN_FILE):
        disk.write_atomic(BEGUN_FILE, b"")


def note_caught_up(disk: Disk) -> None:
    """The replicas of a replacement hold what their groups hold: it may vote, also after a restart."""
    with suppress(FileNotFoundError):
        disk.remove(FRESH_FILE)
    disk.sync_directory()


def replace_node(node: int, survivors: Sequence[Path], target: Path) -> str:
    """Give ``node`` a new identity in every surviving directory and make an empty directory for it; all nodes stopped.

    The new replica grants no vote before it has caught up, so that an entry which only the lost disk and one survivor
    had cannot be outvoted by the other survivor and an empty disk.
    """
    with ExitStack() as opened:
        disks = [opened.enter_context(closing(open_directory(path))) for path in survivors]
        after = replaced_formation(node, disks, secrets.token_hex(16))
        write_directory(after, node, target, fresh=True)
        for disk in disks:
            renew_formation(disk, after)
    return after.node(node).identity


def renew_formation(disk: Disk, formation: Formation) -> None:
    """On the disk of a node that stays what it was."""
    disk.write_atomic(FORMATION_FILE, _encoded(formation))


def replaced_formation(node: int, survivors: Sequence[Disk], identity: str) -> Formation:
    """What has to stand on every disk once ``node`` has this new identity. Raises :class:`FormationError`."""
    formations = [load_directory(disk) for disk in survivors]
    if not formations:
        raise FormationError("name the data directories of the surviving nodes")
    clusters = {formation.cluster for formation, _ in formations}
    if len(clusters) != 1:
        raise FormationError(f"the directories are of different clusters: {', '.join(sorted(clusters))}")
    first = formations[0][0]
    numbers = {record.node for _, record in formations}
    wanted = {record.node for record in first.nodes} - {node}
    first.node(node)
    if numbers != wanted:
        raise FormationError(
            f"the survivors have to be nodes {sorted(wanted)}, the directories are those of {sorted(numbers)}"
        )
    return msgspec.structs.replace(first, replaced={**first.replaced, node: identity})


def _sync_names(directory: Path) -> None:
    with closing(RealDisk(directory)) as disk:
        disk.sync_directory()
