"""A node, put together: listener, peers, engine loop; start, status and stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal

from holdfast.wire.addresses import split_address
from holdfast.wire.frames import encode
from holdfast.wire.messages import GroupRole, Msg, NodeRecord
from holdfast.wire.messages import Role as CallerRole
from holdfast.wire.tls import Certificates, watch_certificates

from .. import compiled
from ..consensus import ReplicaConfig, Role
from ..formation import FRESH_FILE, load_directory, note_caught_up, note_journal, require_journal
from ..machine import META_GROUP, MetaMachine
from ..machine.allotments import Report
from .allotter import Allotter
from .announce import announce
from .audit_file import AuditFile
from .engine_loop import EngineLoop
from .listener import Listener
from .meta_watch import MetaWatch
from .peers import Peers
from .surroundings import Surroundings
from .use_reporter import UseReporter

LOG_TAIL_BYTES = 16 << 20
"""Of each group: what is kept behind a snapshot, and how much may follow it. The log is held in memory, and it is all
applied again at a restart, so less than the engine's default serves better."""

CONFIG = ReplicaConfig(kept_tail_bytes=LOG_TAIL_BYTES, snapshot_log_bytes=LOG_TAIL_BYTES)

HANDOVER_S = 1.0
"""Longest time that a node told to stop spends on handing over what it leads."""
HANDOVER_LOOK_S = 0.005

log = logging.getLogger("holdfast.node")


class Node:
    """Create inside a running loop, then :meth:`run`.

    ``listen`` where it is not the formation's address, ``advertise`` where others find it elsewhere than it listens;
    ``tls`` of listener and links.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        listen: str | None = None,
        advertise: str | None = None,
        config: ReplicaConfig = CONFIG,
        tls: Certificates | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._now = surroundings.monotonic
        self._tls = tls
        disk = self._disk = surroundings.disk
        self.formation, self.record = load_directory(disk)
        self.listening = listen or self.record.address
        self.address = advertise or self.listening
        """Where others find it; as given, for a name may be right where the number behind it is not."""
        self._advertised = advertise is not None
        disk.lock()
        number = self.record.node
        has_journal = any(name.startswith("journal") for name in disk.names())
        require_journal(disk, self.formation, number, has_journal=has_journal)
        self._failure: BaseException | None = None
        self._fresh = disk.exists(FRESH_FILE)
        self._stopping = asyncio.Event()
        self._complained: set[int] = set()
        self._roles: list[GroupRole] = []
        self._meta_changed = asyncio.Event()
        self.engine = EngineLoop(
            self.formation,
            number,
            surroundings,
            config=config,
            fresh=self._fresh,
            on_messages=self._send,
            on_progress=self._progress,
            on_fatal=self._fatal,
        )
        note_journal(disk)
        if self.engine.journal.torn is not None:
            log.warning("cut a torn tail off the journal", extra={"torn": str(self.engine.journal.torn)})
        self.peers = Peers(
            self.formation,
            number,
            tls=tls,
            address_of=self._address_of,
            on_connected=self._peer_connected,
            on_disconnected=self._peer_disconnected,
            on_message=self._peer_message,
        )
        self._reporter = UseReporter(
            self.engine.machines, self.engine.host.replicas, send=self._send_report, now=self._now
        )
        self.listener = Listener(
            self.formation,
            number,
            self.engine.services,
            clock=self._now,
            tls=tls,
            members=lambda: {record.node for record in self._node_records()},
            on_input=self.engine.wake,
            on_peer=self.peers.accepted,
            on_peer_message=self.peers.received,
            on_peer_closed=self.peers.closed,
            status=self.status,
            roles=lambda: self._roles,
            greeting=lambda: [] if self._watch is None else self._watch.greeting(),
            on_allotter=self._reporter.begin,
        )
        self._watch = self._meta_watch()
        self._allotter = self._meta_allotter()

    def _meta_watch(self) -> MetaWatch | None:
        machine = self.engine.machines.get(META_GROUP)
        if not isinstance(machine, MetaMachine):
            return None
        listener = self.listener
        replica = self.engine.host.replicas[META_GROUP]
        return MetaWatch(
            machine,
            replica,
            AuditFile(self._disk),
            broadcast=listener.broadcast,
            routers=lambda: listener.routers,
        )

    def _meta_allotter(self) -> Allotter | None:
        machine = self.engine.machines.get(META_GROUP)
        if not isinstance(machine, MetaMachine):
            return None
        return Allotter(
            self.formation,
            self.record.node,
            machine,
            self.engine.host.replicas[META_GROUP],
            self.engine.services,
            tls=self._tls,
            address_of=self._address_of,
            on_input=self.engine.wake,
            on_office=self._reporter.begin,
            now=self._now,
        )

    def _send_report(self, report: Report) -> bool:
        heard = self.listener.broadcast(Msg.USE, encode(report), CallerRole.ALLOTTER)
        if self._allotter is not None and self._allotter.leads:
            self._allotter.report(report)
            heard = True
        return heard

    async def run(self) -> tuple[str, int]:
        """Listen and begin to take part; returns the address."""
        host, port = split_address(self.listening, port_min=0)
        address = await self.listener.listen(host, port)
        self.listening = f"{address[0]}:{address[1]}"
        if port == 0 and not self._advertised:
            self.address = f"{host}:{address[1]}"
        self.peers.start()
        self.engine.wake()
        return address

    def heed_signals(self) -> None:
        """From now on TERM and INT end :meth:`serve`; before anybody is told that this process is there."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stopping.set)

    async def serve(self) -> None:
        """Until it is told to stop, or a failure; raises what failed."""
        announcing = asyncio.create_task(self._announce(), name="announce")
        watching = asyncio.create_task(self._watch_certificates(), name="certificates")
        await self._stopping.wait()
        for task in (announcing, watching):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._failure is None:
            await self._leave_office()
        await self.close()
        if self._failure is not None:
            raise self._failure

    async def _announce(self) -> None:
        await announce(
            self.formation,
            self.record.node,
            self.address,
            known=lambda: self._address_of(self.record.node) if META_GROUP in self.engine.machines else None,
            changed=self._meta_changed,
            members=self._meta_members,
            tls=self._tls,
        )

    async def _watch_certificates(self) -> None:
        if self._tls is None:
            return
        now = asyncio.Event()
        self._loop.add_signal_handler(signal.SIGHUP, now.set)
        await watch_certificates(
            [self._tls],
            now=now,
            on_loaded=lambda: log.info("certificates were read again"),
            on_trouble=lambda why: log.error("certificates cannot be used", extra={"why": why}),
        )

    async def _leave_office(self) -> None:
        """A planned stop is no failure that others first have to notice."""
        deadline = self._loop.time() + HANDOVER_S
        while self._failure is None and self.engine.host.leave_office(self._now()):
            if self._loop.time() >= deadline:
                return
            self.engine.wake()
            await asyncio.sleep(HANDOVER_LOOK_S)

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.close()
        self._reporter.close()
        if self._allotter is not None:
            self._allotter.close()
        await self.peers.close()
        await self.listener.close()
        self.engine.close()

    # Between engine and sockets.

    def _send(self, messages: dict[int, list[bytes]]) -> None:
        if messages:
            self.peers.send(messages)

    def _peer_connected(self, peer: int) -> None:
        self.engine.host.connected(peer, self._now())
        self.engine.wake()

    def _peer_disconnected(self, peer: int) -> None:
        self.engine.host.disconnected(peer, self._now())
        self.engine.wake()

    def _peer_message(self, peer: int, body: bytes) -> None:
        try:
            self.engine.host.receive(peer, body, self._now())
        except Exception as error:  # noqa: BLE001 - the engine has halted: say why and stop
            self._fatal(error)
            return
        if self.engine.host.has_work:
            self.engine.wake()

    def _complain(self) -> None:
        for group, replica in self.engine.host.replicas.items():
            for member in replica.forgetful - self._complained:
                self._complained.add(member)
                text = "a member has lost what it acknowledged: stop it and replace its disk (holdfast node replace)"
                log.critical(text, extra={"group": group, "member": member})

    def _progress(self) -> None:
        self.listener.answer()
        roles = [
            GroupRole(group, replica.term, replica.leader or 0, replica.ready)
            for group, replica in self.engine.host.replicas.items()
        ]
        self._complain()
        if roles != self._roles:
            self._roles = roles
            self.listener.broadcast(Msg.ROLES, encode(roles))
            self.listener.broadcast(Msg.ROLES, encode(roles), CallerRole.ALLOTTER)
        if self._fresh and all(replica.may_vote for replica in self.engine.host.replicas.values()):
            self._fresh = False
            note_caught_up(self._disk)
            log.info("this replacement has caught up and takes part in elections")
        if self._watch is not None and self._watch.look():
            self._meta_changed.set()
        if self._allotter is not None:
            self._allotter.look()
        self._reporter.look()

    def _fatal(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
            log.critical("this node stops", extra={"why": repr(error)}, exc_info=error)
            self.engine.stop()
            self._stopping.set()

    # What others ask.

    def _address_of(self, peer: int) -> str:
        return next(record.address for record in self._node_records() if record.node == peer)

    def _node_records(self) -> tuple[NodeRecord, ...]:
        machine = self.engine.machines.get(META_GROUP)
        return machine.nodes if isinstance(machine, MetaMachine) else self.formation.nodes

    def _meta_members(self) -> dict[int, str]:
        members = next(record.members for record in self.formation.groups if record.group == META_GROUP)
        return {m: self.listening if m == self.record.node else self._address_of(m) for m in members}

    def status(self) -> dict[str, object]:
        table = {}
        for group, replica in self.engine.host.replicas.items():
            machine = self.engine.machines[group]
            table[group] = {
                "group": group,
                "role": "leader" if replica.role is Role.LEADER else replica.role.value,
                "leader": replica.leader or 0,
                "term": replica.term,
                "epoch": machine.term,
                "ready": replica.ready,
                "commit": replica.commit_index,
                "applied": replica.applied_index,
                "last": replica.last_index,
                "digest": machine.digest.hex(),
                "digest_index": machine.digest_index,
                **machine.counts(),
            }
        return {
            "node": self.record.node,
            "address": self.address,
            "pid": os.getpid(),
            "up": True,
            "compiled": compiled.in_use(),
            "cluster": self.formation.cluster,
            "dropped": self.engine.host.dropped,
            "received": sum(each.received for each in self.listener.connections | self.peers.connections),
            "syncs": self.engine.journal.syncs,
            "groups": list(table.values()),
        }


def listening_line(node: Node) -> dict[str, object]:
    return {
        "event": "listening",
        "node": node.record.node,
        "address": node.listening,
        "advertised": node.address,
        "compiled": compiled.in_use(),
        "pid": os.getpid(),
    }
