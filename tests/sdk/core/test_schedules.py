"""Random schedules: whatever is lost, repeated, late or cut, nobody believes what the service does not hold, and in the
end nothing is left behind."""

from __future__ import annotations

from random import Random

import pytest

from holdfast.core.state import State
from holdfast.wire.errors import Code
from holdfast.wire.frames import Event
from holdfast.wire.limits import CLIENT_IDLE_MS
from holdfast.wire.messages import Refusal
from tests.sdk.world import Lock, Peer, Session, World

NAMES = [f"name-{n}" for n in range(6)]
REFUSALS = [
    Refusal(Code.NOT_LEADER, "no leader"),
    Refusal(Code.OUTCOME_UNKNOWN, "who knows"),
    Refusal(Code.OVERLOADED, "too much", 20),
    Refusal(Code.UNAVAILABLE, "no quorum"),
]


class Schedule:
    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.world = World(seed, drift=0.008 * self.rng.random())
        self.world.lose_event = self.lose_event
        self.world.refuse = self.refuse
        self.trouble = self.rng.choice((0.0, 0.02, 0.1))
        self.pace = self.rng.choice((0.02, 0.05, 0.3))
        """Share of steps in which somebody wants something: with few of them locks are held for long."""
        self.peers = [self.world.peer(timeout_ms=2000.0) for _ in range(3)]
        self.sessions: dict[Peer, list[Session]] = {
            peer: [peer.session(1000), peer.session(20_000)] for peer in self.peers
        }
        self.calm = False
        self.grants = 0

    def lose_event(self, event: Event) -> bool:
        return not self.calm and self.rng.random() < 2 * self.trouble

    def refuse(self, group: int, kinds: list[int]) -> Refusal | None:
        if self.calm or self.rng.random() >= self.trouble:
            return None
        return self.rng.choice(REFUSALS)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.act()
            self.world.check()
        self.calm = True
        self.finish()

    def act(self) -> None:
        chance = self.rng.random()
        peer = self.rng.choice(self.peers)
        if chance < self.pace:
            self.operate(peer)
        elif chance < 0.80:
            self.deliver(peer)
        elif chance < 0.97:
            self.world.step(self.rng.choice((1, 5, 20, 20, 100)))
        elif chance < 0.97 + self.trouble / 4:
            self.break_something(peer)
        self.world.flush()

    def operate(self, peer: Peer) -> None:
        locks = peer.locks
        busy = [lock for lock in locks if lock.state() in (State.HELD, State.LOST)]
        asking = [lock for lock in locks if lock.state() in (State.ASKED, State.WAITING)]
        chance = self.rng.random()
        if busy and chance < 0.5:
            self.rng.choice(busy).release()
        elif asking and chance < 0.6:
            self.rng.choice(asking).give_up()
        elif len(busy) + len(asking) < 6:
            self.acquire(peer)

    def acquire(self, peer: Peer) -> None:
        rng = self.rng
        session = rng.choice([None, *self.sessions[peer]])
        more = {"steal": True} if rng.random() < 0.2 else {}
        ttl_ms, wait_ms = rng.choice((300, 1000, 20_000)), rng.choice((0, 200, 3000, 60_000))
        lock = peer.lock(rng.choice(NAMES), ttl_ms, wait_ms, session=session, **more)
        lock.acquire()
        peer.locks[:] = [other for other in peer.locks if other.state() != State.IDLE]

    def deliver(self, peer: Peer) -> None:
        for _ in range(self.rng.choice((1, 3, 9))):
            if peer.up and self.rng.random() < 0.5:
                self.world.deliver_up(peer)
            elif peer.down:
                self.world.deliver_down(peer)
            self.world.flush()

    def break_something(self, peer: Peer) -> None:
        chance = self.rng.random()
        if chance < 0.4:
            peer.cut()
            if self.rng.random() < 0.7:
                peer.connect()
        elif chance < 0.6:
            self.world.elect(self.rng.choice((1, 2)))
        elif chance < 0.7:
            # Everybody is stopped for a while, or asleep for so long that the groups forget them.
            self.world.step(self.rng.choice((500, 1500, CLIENT_IDLE_MS + 5000)))
        elif chance < 0.9 and self.world.copies:
            # A copy that some hop still had.
            group, section = self.rng.choice(self.world.copies[-50:])
            _, events = self.world.apply(None, group, section)
            self.world.tell(group, events)
        else:
            for other in self.peers:
                other.connect()

    def finish(self) -> None:
        """The trouble is over: everything comes to an end, and nothing is left."""
        for peer in self.peers:
            peer.connect()
        for peer in self.peers:
            for lock in list(peer.locks):
                self.let_go(lock)
        for _ in range(150):
            # Longer than the patience of any call, shorter than the longest leases: those are given back, not run out.
            self.world.pass_time(20)
            self.world.check()
            for peer in self.peers:
                for lock in list(peer.locks):
                    self.let_go(lock)
        counts = self.world.counts()
        assert counts["held"] == 0, counts
        assert counts["waiters"] == 0, counts
        for peer in self.peers:
            assert not peer.core.busy
            for group in peer.core.groups.values():
                assert not group.tickets
                assert not any(lease.wanted for lease in group.leases.values())
                assert group.writes.floor == group.writes.next_seq

    def let_go(self, lock: Lock) -> None:
        if lock.state() in (State.HELD, State.LOST):
            lock.release()
        elif lock.state() in (State.ASKED, State.WAITING):
            lock.give_up()


@pytest.mark.parametrize("block", range(10))
def test_no_schedule_breaks_a_promise_or_leaves_anything_behind(block: int) -> None:
    for seed in range(block * 4, block * 4 + 4):
        try:
            Schedule(seed).run(1500)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
