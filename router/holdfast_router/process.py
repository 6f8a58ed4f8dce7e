"""A router, put together: SDKs on one side, nodes on the other, one dispatch for each group between them."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
from collections.abc import Callable, Iterable
from functools import partial

from holdfast.wire.accepting import Acceptor
from holdfast.wire.frames import encode
from holdfast.wire.messages import Beat, GroupRole, MetaDelta, MetaRecord, Msg
from holdfast.wire.sealing import seal_key
from holdfast.wire.tls import Certificates, TlsFiles

from . import compiled
from .admission.gate import Gate
from .certificates import CertificateWatch
from .control import Control
from .directory import META_SILENCE_S, Directory
from .formation import FormationFile
from .front import ALONE, Front
from .groups import Groups
from .grpc import GrpcFront
from .http.server import HttpFront
from .item import Outcome
from .metrics import Metrics
from .operations import Operations
from .requests import Requests
from .routes import Routes
from .silence import SilenceWatch
from .status import ClusterStatus
from .upstream import Upstream
from .watches import Watches

ALONE_S = 2.0
"""A router that has reached no node for so long sends its callers away: another may, and they would never know."""

log = logging.getLogger("holdfast.router")


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
        self._certificates = CertificateWatch()
        self._certificates.add(tls)
        self.directory = Directory(self._loop.time, meta_silence_s)
        self._silence = SilenceWatch(self.directory)
        self.gate = Gate(
            self.directory.quotas,
            lambda: self.directory.routers,
            self._loop.time,
            redis_url=redis_url,
            cluster=formation.cluster,
        )
        self._table_version = 0
        self._acceptor: Acceptor | None = None
        self._stopping = asyncio.Event()
        self.address = ""
        self.http: HttpFront | None = None
        self._metrics: Metrics | None = None
        self.grpc: GrpcFront | None = None
        self._alone = False
        self._alone_timer: asyncio.TimerHandle | None = None
        self._groups = Groups(self._send, self._deliver)
        self._control = Control(self.directory, submit=self._groups.submit, deliver=self._deliver, draw=draw)
        self.administration = self._control.administration
        self._watches = Watches(self._send_watch, self.gate.told, self._loop.call_later)
        self._routes = Routes()
        self._requests = Requests(self.directory, self.gate, self._groups, self._control, self._watches, self._routes)
        self._upstream = self._links(formation, tls, draw(8).hex())
        self._status = ClusterStatus(self._upstream, self._account)
        self._front = self._sdks(formation)
        self._upstream.keep({record.node: record.address for record in formation.nodes})
        self.operations = Operations(
            self._front,
            formation.secret,
            self.gate,
            note=self._control.note,
            administration=self.administration,
            authenticate=self.directory.authenticate,
            table=lambda: self.directory.record.table if self.directory.record is not None else None,
            roles=self._groups.roles,
            longest_ttl_ms=lambda tenant: self.directory.quotas(tenant).ttl_ms,
        )
        self.gate.start()

    def _links(self, formation: FormationFile, tls: Certificates | None, identity: str) -> Upstream:
        return Upstream(
            formation.cluster,
            formation.secret,
            identity,
            tls=tls,
            on_up=self._on_node_up,
            on_down=self._on_node_down,
            on_meta=self._on_meta,
            on_beat=self._on_beat,
            on_roles=self._on_roles,
            on_answers=self._groups.answered,
            on_refused=self._groups.refused,
            on_events=self._on_events,
            on_watched=self._watches.heard,
        )

    def _sdks(self, formation: FormationFile) -> Front:
        return Front(
            directory=self.directory,
            alone=lambda: self._alone,
            seal_of=partial(seal_key, formation.secret),
            roles=self._groups.roles,
            on_section=self._requests.on_section,
            on_watch=self._requests.on_watch,
            on_status=self._status.on_asked,
            on_admin=self._requests.on_admin,
            on_closed=self._requests.on_gone,
        )

    async def listen(self, host: str, port: int, tls: Certificates | None) -> None:
        """Raises ``OSError`` when the port is taken."""
        self._certificates.add(tls)
        acceptor = self._acceptor = self._front.acceptor(tls)
        found = await acceptor.listen(host, port)
        self.address = f"{found[0]}:{found[1]}"

    async def listen_http(
        self, host: str, port: int, tls: Certificates | None, *, cors_origins: Iterable[str] = ()
    ) -> None:
        """Raises ``OSError`` when the port is taken."""
        self._certificates.add(tls)
        self._metrics = Metrics(self.gate, self.directory, lambda: self._groups.dispatches, lambda: len(self._front))
        front = self.http = HttpFront(
            self.operations,
            ready=lambda: self.ready,
            metrics=self._metrics.exposition,
            tls=tls,
            cors_origins=cors_origins,
        )
        self.directory.on_gone(front.key_gone)
        await front.listen(host, port)

    @property
    def ready(self) -> bool:
        """Whether what is asked can be admitted and be answered: the cluster is known, and every group has a leader."""
        return self.directory.is_fresh and self._groups.led

    async def listen_grpc(self, host: str, port: int, tls: TlsFiles | None) -> None:
        """Raises ``OSError`` when the port is taken."""
        self.grpc = GrpcFront(self.operations, self.directory, lambda: self.ready)
        await self.grpc.listen(host, port, tls)

    def heed_signals(self) -> None:
        """From now on TERM and INT end :meth:`serve`; before anybody is told that this process is there."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stopping.set)

    async def serve(self) -> None:
        """Until it is told to stop."""
        watching = asyncio.create_task(self._certificates.run(), name="certificates")
        await self._stopping.wait()
        watching.cancel()
        await self.close()

    async def close(self) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
        if self.grpc is not None:
            await self.grpc.close()
        await self.operations.close()
        if self.http is not None:
            await self.http.close()
        if self._metrics is not None:
            self._metrics.close()
        self._front.close()
        self._status.close()
        await self._control.close()
        await self.gate.close()
        self._watches.close()
        await self._upstream.close()
        self._groups.close()
        self._silence.close()
        if self._alone_timer is not None:
            self._alone_timer.cancel()

    # Between the parts.

    def _send(self, node: int, kind: int, group: int, request: int, body: bytes) -> bool:
        return self._upstream.send(node, kind, group, request, body)

    def _send_watch(self, node: int, group: int, request: int, body: bytes) -> bool:
        return self._upstream.send(node, Msg.WATCH, group, request, body)

    def _deliver(self, group: int, outcome: Outcome) -> None:
        self._requests.deliver(group, outcome)

    def _account(self) -> dict[str, object]:
        return {
            "pid": os.getpid(),
            "compiled": compiled.in_use(),
            "address": self.address,
            "clients": len(self._front),
            "received": sum(each.received for each in (*self._front.connections, *self._upstream.connections)),
            "table_version": self._table_version,
            "admission": self.gate.status(),
            "leaders": {str(group): leader for group, leader in self._groups.leaders.items()},
        }

    # From nodes.

    def _on_meta(self, said: MetaRecord | MetaDelta) -> None:
        directory = self.directory
        if not (directory.adopt(said) if isinstance(said, MetaRecord) else directory.follow(said)):
            return
        record = directory.record
        assert record is not None
        deleted = said.deleted if isinstance(said, MetaDelta) else self.gate.counts.keys() - directory.numbers
        self.gate.forget(deleted)
        self.operations.forget(deleted)
        self._upstream.keep({node.node: node.address for node in record.nodes})
        self._groups.add(group.group for group in record.groups)
        if record.table.version != self._table_version:
            self._table_version = record.table.version
            self._requests.follow(record.table)
            self._front.broadcast(Msg.TABLE, encode(record.table))

    def _on_beat(self, beat: Beat) -> None:
        self.directory.beat(beat)
        self._silence.heard()
        self._front.settle_early()

    def _on_roles(self, node: int, roles: list[GroupRole]) -> None:
        changed = self._groups.heard(node, roles)
        for role in changed:
            self._watches.led(role.group, role.node)
        if changed:
            self._front.broadcast(Msg.ROLES, encode(changed))
        self._groups.wake()

    def _on_node_down(self, node: int) -> None:
        self._groups.disconnected(node)
        self._watches.disconnected(node)
        if self._upstream.alone and self._alone_timer is None:
            self._alone_timer = self._loop.call_later(ALONE_S, self._send_away)
        self._groups.wake()

    def _on_node_up(self) -> None:
        self._alone = False
        if self._alone_timer is not None:
            self._alone_timer.cancel()
            self._alone_timer = None

    def _send_away(self) -> None:
        self._alone = True
        log.warning("no node can be reached: callers are sent to other routers")
        self._front.send_away(ALONE)

    def _on_events(self, group: int, body: bytes) -> None:
        # An event never overtakes the answer before it: a grant means nothing to who does not know its ticket yet.
        self._groups.settle(group)
        self._routes.tell(group, body)


def listening_line(router: Router) -> dict[str, object]:
    http = {"http": router.http.address} if router.http is not None else {}
    grpc = {"grpc": router.grpc.address} if router.grpc is not None else {}
    return {
        "event": "listening",
        "address": router.address,
        **http,
        **grpc,
        "pid": os.getpid(),
        "compiled": compiled.in_use(),
    }
