"""The turn of the loop: what came in goes through engine and journal, and what follows goes out.

All of it runs on the event loop. The journal is synced inline by default: on the disks measured a sync costs less than
waking a thread (``docs/adr/0003-sync-inline-or-thread.md``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from holdfast.wire.turn import turn_end

from ..consensus import Host, ReplicaConfig, SnapshotJob
from ..consensus.journal import Journal
from ..consensus.snapshots import SnapshotStore
from ..formation import Formation
from ..machine import META_GROUP, LockMachine, Machine, MetaMachine
from .service import GroupService
from .surroundings import Surroundings

SNAPSHOT_STEP_S = 0.002
"""How long one step of writing a snapshot may hold the loop."""
SNAPSHOT_PAUSE_S = 0.010
"""Between two steps: a group's snapshot takes a sixth of a core, for its replicas come to theirs at the same entry, and
have the same to do meanwhile. A million rows take some twenty seconds, in which the log grows on."""
TURNS_MAX = 8
"""Rounds of engine and journal in one go before sockets get their turn again."""
MARK_AFTER_S = 1.0
"""How long the journal rests before it notes that all of it is synced."""
TURN_S = 0.01
"""Likewise: a replica that catches up must go on hearing votes and broken connections."""


class EngineLoop:
    """Owns engine, journal and state machines of one node. ``on_fatal`` is called once when it can serve no more."""

    def __init__(
        self,
        formation: Formation,
        node: int,
        surroundings: Surroundings,
        *,
        config: ReplicaConfig,
        fresh: bool,
        on_messages: Callable[[dict[int, list[bytes]]], None],
        on_progress: Callable[[], None],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._turn_end = turn_end()
        self._now = surroundings.monotonic
        disk = surroundings.disk
        self._on_messages = on_messages
        self._on_progress = on_progress
        self._on_fatal = on_fatal
        self._scheduled = False
        self._stopped = False
        self._timer: asyncio.TimerHandle | None = None
        self._written = 0
        self._written_at = 0.0
        """Highest write number seen, and since when."""
        members = formation.members_of(node)
        self.machines: dict[int, Machine] = {
            group: MetaMachine(formation.meta()) if group == META_GROUP else LockMachine(formation.genesis(group))
            for group in members
        }
        self.journal, recovered = Journal.open(disk, segment_bytes=config.segment_bytes)
        self.host = Host(
            node=node,
            members=members,
            machines=self.machines,
            journal=self.journal,
            recovered=recovered,
            snapshots={group: SnapshotStore(disk, group) for group in members},
            rng=surroundings.rng,
            config=config,
            now=self._now(),
            stopwatch=surroundings.stopwatch,
            fresh=fresh,
        )
        self.services = {
            group: GroupService(group, self.host.replicas[group], self.machines[group], self.host.propose)
            for group in members
        }

    def wake(self) -> None:
        """Something came in: run a turn once everything of this round of the loop is in."""
        if not self._scheduled and not self._stopped:
            self._scheduled = True
            self._turn_end.put_off(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self._stopped:
            return
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - whatever it is, this node must not go on half broken
            self.stop()
            self._on_fatal(error)

    def _work(self) -> None:
        host, journal, services = self.host, self.journal, self.services
        began = self._now()
        self._mark(began)
        for _ in range(TURNS_MAX):
            now = self._now()
            host.step(now)
            self._hand_out()
            for service in services.values():
                service.turn(now)
            host.step(now)
            # Followers write while we do: what may leave before our own sync leaves now.
            self._on_messages(host.take_messages())
            if journal.flush() > journal.durable:
                journal.sync()
            now = self._now()
            host.synced(journal.durable, now)
            host.step(now)
            self._on_messages(host.take_messages())
            if not self._hand_out() or self._now() - began > TURN_S:
                break
        for job in host.take_snapshot_jobs():
            self._write_snapshot(job)
        self._on_progress()
        self._arm()

    def _mark(self, now: float) -> None:
        """Before the engine's step, which counts every write that is to be synced."""
        journal = self.journal
        if journal.appended > self._written:
            self._written, self._written_at = journal.appended, now
        elif not journal.marked and now >= self._written_at + MARK_AFTER_S:
            self._written = journal.mark()

    def _hand_out(self) -> bool:
        applied = self.host.take_applied()
        for group, entry in applied:
            self.services[group].applied(entry)
        return bool(applied)

    def _arm(self) -> None:
        now = self._now()
        at = self.host.wakeup
        if not self.journal.marked:
            at = min(at, self._written_at + MARK_AFTER_S)
        for service in self.services.values():
            due = service.wakeup_in_ms(now)
            if due is not None:
                at = min(at, now + due / 1000)
        if self._timer is not None:
            self._timer.cancel()
        if at <= now:
            self.wake()
        else:
            self._timer = self._loop.call_later(at - now, self.wake)

    def _write_snapshot(self, job: SnapshotJob) -> None:
        if self._stopped:
            return
        try:
            done = job.step(SNAPSHOT_STEP_S)
        except Exception as error:  # noqa: BLE001 - a disk that fails here fails the node
            self.stop()
            self._on_fatal(error)
            return
        if not done:
            self._loop.call_later(SNAPSHOT_PAUSE_S, self._write_snapshot, job)

    def stop(self) -> None:
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def close(self) -> None:
        """Stop, and make durable what was said."""
        self.stop()
        if not self.host.halted:
            self.journal.flush()
            self.journal.sync()
            self.journal.mark()
            self.journal.flush()
            self.journal.sync()
        self.journal.close()
