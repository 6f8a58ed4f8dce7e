"""Moving allotments, at the node that leads the meta group: reports of use go into its log, what follows goes out.

Nothing here is remembered beyond the office. What a report or an allotment that was lost would have changed still
differs from what the meta machine holds, and is sent again for as long as it does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

import msgspec

from holdfast.wire.dialing import Dialer
from holdfast.wire.errors import WrongCluster
from holdfast.wire.frames import Allotment, Kind, Options, Section, Stamped, encode
from holdfast.wire.limits import PROTOCOL_VERSION
from holdfast.wire.messages import FrameRequest, Hello, Msg, Role, Welcome, decode_refusal, decode_roles
from holdfast.wire.stream import Connection
from holdfast.wire.tls import Certificates, node_name

from ..formation import Formation
from ..machine import META_GROUP, MetaMachine
from ..machine.allotments import Report, Use, decode_report
from .frame import Frame
from .service import GroupService, Replica

GATHER_S = 0.005
"""How long reports and allotments are gathered, so that they share entries."""
RETRY_S = 1.0
"""What has not shown its effect for so long is sent again."""
USES_PER_ENTRY_MAX = 2000
ALLOTMENTS_PER_FRAME_MAX = 1000

log = logging.getLogger("holdfast.node")


class Allotter:
    def __init__(
        self,
        formation: Formation,
        node: int,
        machine: MetaMachine,
        replica: Replica,
        services: Mapping[int, GroupService],
        *,
        tls: Certificates | None,
        address_of: Callable[[int], str],
        on_input: Callable[[], None],
        on_office: Callable[[], None],
        now: Callable[[], float],
    ) -> None:
        """``on_input`` when something was handed to a service of this node; ``on_office`` when reports are wanted."""
        self._formation = formation
        self._node = node
        self._machine = machine
        self._replica = replica
        self._services = services
        self._tls = tls
        self._address_of = address_of
        self._on_input = on_input
        self._on_office = on_office
        self._now = now
        self._leads = False
        self._applied = 0
        self._links: dict[int, Connection] = {}
        """By node."""
        self._leaders: dict[int, tuple[int, int]] = {}
        """Group -> (term, node), as far as was heard."""
        self._dialing: list[asyncio.Task[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0
        self._uses: dict[tuple[int, int], Use] = {}
        """(group, tenant) -> the newest report, until the machine holds it."""
        self._proposed: dict[tuple[int, int], tuple[Use, float]] = {}
        self._carried: dict[tuple[int, int], tuple[int, float]] = {}
        """(group, tenant) -> the version that was sent last, and when."""

    def look(self) -> None:
        """After every turn of the engine."""
        if self._replica.ready != self._leads:
            self._leads = self._replica.ready
            if self._leads:
                self._begin()
            else:
                self.close()
        if self._leads and self._machine.applied_index != self._applied:
            self._applied = self._machine.applied_index
            self._wake(GATHER_S)

    @property
    def leads(self) -> bool:
        return self._leads

    def _begin(self) -> None:
        for record in self._formation.nodes:
            if record.node != self._node:
                dialer = self._dialer(record.node)
                self._dialing.append(asyncio.create_task(dialer.run(), name=f"allot at node {record.node}"))
        self._on_office()
        self._wake(GATHER_S)

    def close(self) -> None:
        """Out of office: whoever follows hears everything anew."""
        for task in self._dialing:
            task.cancel()
        self._dialing.clear()
        for connection in list(self._links.values()):
            connection.close()
        self._links.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for memory in (self._leaders, self._uses, self._proposed, self._carried):
            memory.clear()

    # What comes in.

    def report(self, report: Report) -> None:
        """From the reporter of this node, or by a link."""
        for use in report.uses:
            self._uses[(report.group, use.tenant)] = use
        self._wake(GATHER_S)

    def _dialer(self, node: int) -> Dialer:
        formation = self._formation

        def on_welcome(connection: Connection, welcome: Welcome) -> None:
            if welcome.cluster != formation.cluster or welcome.identity != formation.node(node).identity:
                raise WrongCluster("the node at this address is another one")
            self._links[node] = connection

        def on_message(connection: Connection, kind: int, group: int, request: int, body: bytes) -> None:
            if kind == Msg.USE:
                self.report(decode_report(body))
            elif kind == Msg.ROLES:
                for role in decode_roles(body):
                    if role.node == node and role.ready and role.term >= self._leaders.get(role.group, (0, 0))[0]:
                        self._leaders[role.group] = (role.term, node)
                self._wake(GATHER_S)
            elif kind == Msg.REFUSED and request == 0:
                connection.abort(decode_refusal(body).error())

        def on_closed(connection: Connection) -> None:
            if self._links.get(node) is connection:
                del self._links[node]

        me, tls, name = formation.node(self._node), self._tls, node_name(node, formation.cluster)
        return Dialer(
            lambda: self._address_of(node),
            Hello(PROTOCOL_VERSION, Role.ALLOTTER, formation.secret, formation.cluster, self._node, me.identity),
            tls=lambda: tls.toward(name) if tls is not None else None,
            on_welcome=on_welcome,
            on_message=on_message,
            on_closed=on_closed,
            on_trouble=lambda why: log.warning("no link to allot by", extra={"peer": node, "why": why}),
        )

    # Work.

    def _wake(self, delay_s: float) -> None:
        due_at = self._now() + delay_s
        if not self._leads or (self._timer is not None and self._due_at <= due_at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due_at = due_at
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._work)

    def _work(self) -> None:
        self._timer = None
        now = self._now()
        self._propose(now)
        self._carry(now)
        if self._uses or self._carried:
            self._wake(RETRY_S)

    def _propose(self, now: float) -> None:
        """Have the meta group hear what it does not know yet."""
        allotments = self._machine.allotments
        by_group: dict[int, list[Use]] = {}
        count = 0
        # While the office is being handed over nothing is proposed any more.
        room = USES_PER_ENTRY_MAX if self._leads_here(META_GROUP) else 0
        for key, use in list(self._uses.items()):
            if not allotments.is_news(key[0], use):
                del self._uses[key]
                self._proposed.pop(key, None)
            elif count < room and self._is_due(self._proposed.get(key), use, now):
                self._proposed[key] = (use, now)
                by_group.setdefault(key[0], []).append(use)
                count += 1
        if by_group:
            reports = [Options(change=encode(Report(group, uses))) for group, uses in by_group.items()]
            self._hand(META_GROUP, Kind.REPORT, reports)

    def _carry(self, now: float) -> None:
        """Tell the groups of allotments that they have not said to have."""
        allotments = self._machine.allotments
        unreported: set[tuple[int, int]] = set()
        for group in allotments.groups:
            due: list[Allotment] = []
            for allotment in allotments.unreported(group):
                key = (group, allotment.tenant)
                unreported.add(key)
                if self._is_due(self._carried.get(key), allotment.version, now) and self._reaches(group):
                    self._carried[key] = (allotment.version, now)
                    due.append(allotment)
            for at in range(0, len(due), ALLOTMENTS_PER_FRAME_MAX):
                part = due[at : at + ALLOTMENTS_PER_FRAME_MAX]
                self._hand(group, Kind.ALLOT, [Options(allotment=allotment) for allotment in part])
        self._carried = {key: sent for key, sent in self._carried.items() if key in unreported}
        if unreported:
            self._wake(RETRY_S)

    @staticmethod
    def _is_due(sent: tuple[object, float] | None, what: object, now: float) -> bool:
        return sent is None or sent[0] != what or now - sent[1] >= RETRY_S

    def _leads_here(self, group: int) -> bool:
        service = self._services.get(group)
        return service is not None and service.leads

    def _reaches(self, group: int) -> bool:
        return self._leads_here(group) or self._leaders.get(group, (0, 0))[1] in self._links

    def _hand(self, group: int, kind: Kind, options: Iterable[Options]) -> None:
        """To whoever leads the group. No answer is awaited: the machine shows what came of it."""
        body = _frame(kind, list(options))
        if self._leads_here(group):
            self._services[group].write(Frame(None, 0, body))
            self._on_input()
        else:
            self._links[self._leaders[group][1]].send(Msg.OPS, group, 1, encode(FrameRequest([], msgspec.Raw(body))))


def _frame(kind: Kind, options: list[Options]) -> bytes:
    """A frame of the service itself, with one section."""
    count = len(options)
    nothing = [0] * count
    section = Section(
        0, 0, bytes([kind]) * count, nothing, [""] * count, nothing, nothing, nothing, nothing, dict(enumerate(options))
    )
    return encode([Stamped(0, b"\xff\xff" * count, section)])
