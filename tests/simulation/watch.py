"""Who promised what, and whether it was kept: looked at after every turn of a client and every entry of a log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import holdfast
from holdfast.wire.limits import WAIT_MS_MAX
from holdfast.wire.names import slot_of
from holdfast_shard.placement import unpack_slots
from tests.simulation.loop import Process
from tests.simulation.processes import TIMEOUT_S
from tests.simulation.world import Violation, World

if TYPE_CHECKING:
    from holdfast_shard.formation import Formation

TENANT = 1
LATE_S = TIMEOUT_S + 1.0
"""How much longer than its wait an acquire may take: until it is certain that no answer comes."""


class Ask:
    """One acquire of a client, from the call until nothing of it is believed any more."""

    def __init__(
        self, watch: Watch, process: Process, lock: holdfast.Lock, mode: str, permits: int, who: str, floor: int
    ) -> None:
        self._watch = watch
        self.process = process
        self.lock = lock
        self.mode = mode
        self.permits = permits
        self.who = who
        self.open = True
        """The call has not returned."""
        self.given_up = False
        """Its holder lets go of it in a way that the lock object does not know of."""
        self._since = watch.world.now
        self._floor = floor
        """Highest token of this name that anybody was told before the call."""

    @property
    def believed(self) -> bool:
        return self.process.alive and not self.given_up and self.lock.held

    def _returned(self) -> None:
        self.open = False
        wait_ms = self.lock._hold.wait_ms
        took_s = self._watch.world.now - self._since
        if wait_ms < WAIT_MS_MAX and self.process.paused_until < self._since and took_s > wait_ms / 1000 + LATE_S:
            self._watch.violate("a call ends in time", f"{self.who} took {took_s:.1f} s with a wait of {wait_ms} ms")

    def granted(self) -> None:
        self._returned()
        watch, name, token = self._watch, self.lock.name, self.lock.token
        watch.world.note(f"{self.who} has {name} with token {token}")
        watch.world.count("state: granted")
        if token < self._floor or (token == self._floor and self.mode != "reentrant"):
            watch.violate("tokens rise", f"{self.who} got {token} of {name} after {self._floor} had been granted")
        watch.tops[name] = max(watch.tops[name], token)

    def gone(self) -> None:
        self._returned()

    def taken_back(self) -> None:
        """The caller was told that it has nothing and will have nothing."""
        self._returned()
        self._watch.void.add(self.who)

    def rejected(self) -> None:
        """The caller was told that nothing ever came of it."""
        self._returned()
        self._watch.never.add((self.lock.name, self.who))


class Watch:
    def __init__(self, world: World, formation: Formation) -> None:
        self.world = world
        self._owners = unpack_slots(formation.slots)
        self._asks: dict[str, list[Ask]] = {}
        """By name of the lock."""
        self._of: dict[Process, list[Ask]] = {}
        self.tops: Counter[str] = Counter()
        self.void: set[str] = set()
        self.never: set[tuple[str, str]] = set()
        self.released: set[tuple[str, int]] = set()
        self._excused: Counter[str] = Counter()
        """Steals with ``now`` under way or of unknown outcome, by name."""
        self._excused_below: Counter[str] = Counter()

    def violate(self, rule: str, text: str) -> None:
        self.world.violate(Violation(rule, text))

    def call(self) -> None:
        self.world.count("operations")

    def group_of(self, name: str) -> int:
        return self._owners[slot_of(TENANT, name)]

    # What clients do.

    def client_started(self, process: Process) -> None:
        asks = self._of[process] = []

        def look() -> None:
            for ask in asks:
                if ask.believed:
                    self._one_holder(ask)
            if len(asks) > 8:
                self._sweep(asks)

        process.on_turn = look

    def _sweep(self, asks: list[Ask]) -> None:
        over = [ask for ask in asks if not ask.open and not ask.lock.held]
        for ask in over:
            asks.remove(ask)
            self._asks[ask.lock.name].remove(ask)

    def asks(
        self, process: Process, lock: holdfast.Lock, mode: str, permits: int, who: str, floor: int | None = None
    ) -> Ask:
        self.call()
        ask = Ask(self, process, lock, mode, permits, who, self.tops[lock.name] if floor is None else floor)
        self._of[process].append(ask)
        self._asks.setdefault(lock.name, []).append(ask)
        return ask

    def releases(self, lock: holdfast.Lock) -> Callable[[], None]:
        """Called before a release; the result when it was acknowledged."""
        self.call()
        name, token = lock.name, lock._hold.token
        reentrant = lock._hold.options is not None and lock._hold.options.reentrant

        def released() -> None:
            self.world.note(f"{name} with token {token} is released")
            if not reentrant:
                self.released.add((name, token))

        return released

    def top(self, name: str) -> int:
        return self.tops[name]

    def excuse(self, name: str) -> Callable[[int], None]:
        """A steal with ``now`` begins: it may make two believers, and only tokens protect."""
        self._excused[name] += 1

        def done(token: int) -> None:
            self._excused[name] -= 1
            self._excused_below[name] = max(self._excused_below[name], token)

        return done

    def excused(self, name: str, token: int) -> bool:
        return self._excused[name] > 0 or token < self._excused_below[name]

    def unless_excused(self, name: str, token: int, rule: str, text: str) -> None:
        if not self.excused(name, token):
            self.violate(rule, text)

    def surely_held(self, name: str) -> Ask | None:
        return next((ask for ask in self._asks.get(name, ()) if not ask.open and ask.believed), None)

    # One holder.

    def _one_holder(self, ask: Ask) -> None:
        name = ask.lock.name
        others = self._asks[name]
        if len(others) < 2:
            return
        token = ask.lock.token
        used = ask.permits
        for other in others:
            if other is ask or not other.believed or other.lock.token == token:
                continue
            used += other.permits
            if ask.mode == other.mode == "shared":
                continue
            if ask.mode == other.mode == "permits":
                capacity = ask.lock._hold.options.capacity if ask.lock._hold.options is not None else 0
                if used > capacity:
                    self.unless_excused(
                        name, token, "capacity", f"{used} of {capacity} permits of {name} are believed held"
                    )
                continue
            self.unless_excused(
                name,
                min(token, other.lock.token),
                "one holder",
                f"{name} is believed held by {ask.who} (token {token}, {ask.lock.remaining():.3f} s left) and by "
                f"{other.who} (token {other.lock.token}, {other.lock.remaining():.3f} s left)",
            )

    def believers(self, group: int) -> list[Ask]:
        return [
            ask
            for name, asks in self._asks.items()
            if asks and self.group_of(name) == group
            for ask in asks
            if ask.believed
        ]
