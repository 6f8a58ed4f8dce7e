"""Cores of several clients and real lock machines on a clock and a network that the test drives. No asyncio, no sleeps.

Messages stand in one queue per connection and direction until they are delivered; a cut loses both queues. Group clocks
may run fast by ``drift``. ``check`` holds every client's beliefs against what the machines hold.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec

from holdfast.core.client import ClientCore
from holdfast.core.hold import Hold
from holdfast.core.session import SessionCore
from holdfast.core.state import State
from holdfast.wire.errors import Code
from holdfast.wire.frames import (
    Event,
    Kind,
    Mode,
    Options,
    Reason,
    Section,
    Stamped,
    StampedRaw,
    Status,
    decode_answer_list,
    decode_answers,
    decode_raw_list,
    decode_section,
    encode,
)
from holdfast.wire.messages import GroupRole, Msg, Refusal, decode_request
from holdfast.wire.names import slot_of
from tests.sdk.service import GROUPS, TABLE, TENANT, Leader, name_in

Message = tuple[int, int, int, bytes]


class Promise:
    """A waiter of the core."""

    def __init__(self) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self._done = False

    def done(self) -> bool:
        return self._done

    def set_result(self, result: Any, /) -> None:
        assert not self._done
        self.result, self._done = result, True

    def set_exception(self, exception: BaseException, /) -> None:
        assert not self._done
        self.error, self._done = exception, True

    def drop(self) -> None:
        """Its task is gone."""
        self._done = True


class Peer:
    """One client: its core, and its connection."""

    def __init__(self, world: World, seed: int, timeout_ms: float) -> None:
        self.world = world
        self.up: deque[Message] = deque()
        self.down: deque[Message] = deque()
        self.due_ms = float("inf")
        self.flushing = False
        self.drops: list[str] = []
        self.locks: list[Lock] = []
        self.core = ClientCore(self, lambda: world.now_ms, timeout_ms, Random(seed))

    # The driver of the core.

    def send(self, kind: int, group: int, request: int, body: bytes) -> None:
        assert self.core.connected, "nothing is sent without a connection"
        self.up.append((kind, group, request, body))

    def flush_soon(self) -> None:
        self.flushing = True

    def wake(self, due_ms: float) -> None:
        self.due_ms = due_ms

    def drop(self, why: str) -> None:
        self.drops.append(why)

    # The vocabulary of the tests.

    def connect(self) -> None:
        if not self.core.connected:
            self.core.start(TENANT)
            self.core.message(Msg.TABLE, 0, 0, encode(TABLE))

    def cut(self) -> None:
        self.up.clear()
        self.down.clear()
        if self.core.connected:
            self.core.stop("the connection was cut")

    def lock(self, name: str, ttl_ms: int = 10_000, wait_ms: int = 0, **more: Any) -> Lock:
        return Lock(self, name, ttl_ms, wait_ms, **more)

    def session(self, ttl_ms: int = 10_000) -> Session:
        return Session(self, ttl_ms)

    def register(self) -> Peer:
        """Have a number in every group, so that what is issued leaves at once."""
        for group in GROUPS:
            lock = self.lock(name_in(group, "register"))
            lock.acquire()
            self.world.settle()
            lock.release()
            self.world.settle()
        self.locks.clear()
        self.world.log.clear()
        self.world.copies.clear()
        return self

    @property
    def sent(self) -> list[Section]:
        """Sections on their way up."""
        return [decoded for kind, _, _, body in self.up if (decoded := section_of(kind, body)) is not None]


def section_of(kind: int, body: bytes) -> Section | None:
    if kind not in (Msg.OPS, Msg.READ):
        return None
    return decode_section(decode_request(body).section)


class Lock:
    def __init__(
        self,
        peer: Peer,
        name: str,
        ttl_ms: int,
        wait_ms: int,
        session: Session | None = None,
        renew: bool = True,
        **options: Any,
    ) -> None:
        given = Options(**options) if options else None
        core = session.core if session is not None else None
        self.peer = peer
        self.hold = Hold(peer.core, name, ttl_ms, wait_ms, given, core, renew)
        self.promise = Promise()
        self.losses: list[Reason] = []
        peer.locks.append(self)

    def acquire(self) -> Promise:
        self.promise = Promise()
        self.hold.acquire(self.promise, self)
        return self.promise

    def release(self) -> Promise:
        promise = Promise()
        self.hold.release(promise)
        return promise

    def give_up(self) -> None:
        self.promise.drop()
        self.hold.give_up()

    @property
    def believed(self) -> bool:
        return self.hold.until_ms > self.peer.world.now_ms

    def state(self) -> State:
        return self.hold.state

    def hold_lost(self, reason: Reason, text: str) -> None:
        self.losses.append(reason)


def held(lock: Lock) -> Lock:
    """Acquire it, and let all that is under way arrive."""
    lock.acquire()
    lock.peer.world.settle()
    assert lock.state() == State.HELD
    return lock


class Session:
    def __init__(self, peer: Peer, ttl_ms: int) -> None:
        self.peer = peer
        self.losses: list[tuple[Reason, tuple[str, ...]]] = []
        number = peer.world.rng.randbytes(16)
        self.core = SessionCore(peer.core, self, number, ttl_ms, b"")

    def session_lost(self, reason: Reason, names: tuple[str, ...], text: str) -> None:
        self.losses.append((reason, names))


@dataclass
class World:
    seed: int = 0
    drift: float = 0.0
    now_ms: float = 1_000_000.0
    peers: list[Peer] = field(default_factory=list)
    lose_event: Callable[[Event], bool] = lambda event: False
    refuse: Callable[[int, list[int]], Refusal | None] = lambda group, kinds: None
    log: list[tuple[int, int, str]] = field(default_factory=list)
    """(group, kind, name) of everything that was applied or read."""
    copies: list[tuple[int, bytes]] = field(default_factory=list)
    """(group, section) of every write that ever left, for late copies."""

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.leaders = {group: Leader(group, self._server_ms) for group in GROUPS}
        self.heard: dict[tuple[int, int], Peer] = {}

    def _server_ms(self) -> float:
        return self.now_ms * (1.0 + self.drift)

    def peer(self, timeout_ms: float = 5000.0) -> Peer:
        peer = Peer(self, self.rng.getrandbits(32), timeout_ms)
        self.peers.append(peer)
        peer.connect()
        self.settle()
        return peer

    # Moving things.

    def flush(self) -> None:
        for peer in self.peers:
            if peer.flushing:
                peer.flushing = False
                peer.core.flush()

    def settle(self) -> None:
        """Deliver everything that is on its way, and what it causes."""
        self.flush()
        while any(peer.up or peer.down for peer in self.peers):
            for peer in self.peers:
                while peer.up:
                    self.deliver_up(peer)
                while peer.down:
                    self.deliver_down(peer)
            self.flush()

    def deliver_up(self, peer: Peer) -> None:
        kind, group, request, body = peer.up.popleft()
        if kind == Msg.PING:
            peer.down.append((Msg.PONG, 0, request, b""))
            return
        section = decode_request(body).section
        shape = decode_section(section)
        refusal = self.refuse(group, list(shape.kinds))
        if refusal is not None:
            if refusal.code == Code.OUTCOME_UNKNOWN and self.rng.random() < 0.5:
                self.apply(peer, group, bytes(section))
            peer.down.append((Msg.REFUSED, group, request, encode(refusal)))
            return
        self.log += [(group, operation, name) for operation, name in zip(shape.kinds, shape.names, strict=True)]
        if kind == Msg.READ:
            self.run(group)
            frame = encode([StampedRaw(TENANT, _slots(shape.names), section)])
            answers = bytes(decode_raw_list(self.leaders[group].machine.read(frame))[0])
            peer.down.append((Msg.ANSWERS, group, request, answers))
            return
        self.copies.append((group, bytes(section)))
        answers, events = self.apply(peer, group, bytes(section))
        peer.down.append((Msg.ANSWERS, group, request, answers))
        self.tell(group, events)

    def apply(self, peer: Peer | None, group: int, section: bytes) -> tuple[bytes, list[Event]]:
        shape = decode_section(section)
        frame = encode([StampedRaw(TENANT, _slots(shape.names), msgspec.Raw(section))])
        result = self.leaders[group].apply(frame)
        answers = bytes(decode_raw_list(result.answers[0])[0])
        if peer is not None:
            number = shape.client or decode_answers(answers).tokens[0]
            self.heard[group, number] = peer
        return answers, result.events

    def tell(self, group: int, events: list[Event]) -> None:
        for event in events:
            peer = self.heard.get((group, event.client))
            if peer is not None and peer.core.connected and not self.lose_event(event):
                peer.down.append((Msg.EVENTS, group, 0, encode([event])))

    def deliver_down(self, peer: Peer) -> None:
        kind, group, request, body = peer.down.popleft()
        peer.core.message(kind, group, request, body)

    def run(self, group: int) -> None:
        """What the leader does by itself: empty entries, until nothing is due."""
        leader = self.leaders[group]
        while True:
            self.tell(group, leader.apply().events)
            if not leader.machine.backlog:
                return

    def elect(self, group: int) -> None:
        leader = self.leaders[group]
        leader.elect()
        for peer in self.peers:
            if peer.core.connected:
                roles = encode([GroupRole(group, leader.term, leader.term % 3 + 1, True)])
                peer.down.append((Msg.ROLES, 0, 0, roles))

    def step(self, ms: float) -> None:
        """Time passes for everybody, without anything being delivered."""
        self.now_ms += ms
        for group in self.leaders:
            self.run(group)
        for peer in self.peers:
            if peer.due_ms <= self.now_ms:
                peer.due_ms = float("inf")
                peer.core.advance()

    def pass_time(self, ms: float, grain_ms: float = 20.0) -> None:
        """Time passes in small steps, and everything is delivered at once."""
        until_ms = self.now_ms + ms
        while self.now_ms < until_ms:
            self.step(min(grain_ms, until_ms - self.now_ms))
            self.settle()

    # Judging.

    def held(self, group: int, name: str, token: int) -> bool:
        """Whether the machine, as of now, holds the name under the token."""
        section = Section(0, 0, bytes([Kind.CHECK]), [0], [name], [0], [token], [0], [0], {})
        self.run(group)
        answers = decode_answer_list(
            self.leaders[group].machine.read(encode([Stamped(TENANT, _slots([name]), section)]))
        )
        return answers[0].statuses[0] == Status.OK

    def check(self) -> None:
        """Whatever anybody believes to hold, it holds."""
        believers: dict[str, list[Lock]] = {}
        for peer in self.peers:
            for lock in peer.locks:
                if lock.hold.state == State.HELD and lock.believed:
                    hold = lock.hold
                    assert self.held(hold.group.number, hold.name, hold.token), f"{hold.name} {hold.token}"
                    believers.setdefault(hold.name, []).append(lock)
        for name, locks in believers.items():
            exclusive = [lock for lock in locks if _mode(lock) == Mode.EXCLUSIVE]
            assert len({lock.hold.token for lock in exclusive}) <= 1, f"{name} has {len(exclusive)} holders"

    def counts(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for group, leader in self.leaders.items():
            self.run(group)
            for key, value in leader.machine.counts().items():
                total[key] = total.get(key, 0) + value
        return total

    def kinds(self) -> list[Kind]:
        return [Kind(kind) for _, kind, _ in self.log]


def _mode(lock: Lock) -> int:
    return lock.hold.options.mode if lock.hold.options is not None else Mode.EXCLUSIVE


def _slots(names: list[str]) -> bytes:
    return b"".join((slot_of(TENANT, name) if name else 0xFFFF).to_bytes(2, "little") for name in names)
