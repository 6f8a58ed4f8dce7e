"""What the callers of one client process do, over and over: every operation of the SDK, in all its forms."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final

import holdfast
from holdfast.errors import HoldfastError

from .events import Mode, now
from .recorder import Grant, Recorder, Wish
from .sets import Set, SetStore, StaleToken

LOOK_S: Final = 0.02
"""A holder looks so often whether it still believes."""
CAPACITY: Final = 3
TAKEN: Final = "taken"
"""What may be taken with ``now``, the one thing that can make two believe; the other names never are."""
NAMES: Final = (
    *((f"exclusive/{number}", Mode.EXCLUSIVE) for number in range(8)),
    *((f"shared/{number}", Mode.SHARED) for number in range(4)),
    *((f"permits/{number}", Mode.PERMITS) for number in range(4)),
    (f"{TAKEN}/0", Mode.EXCLUSIVE),
)
SET_TTL_S: Final = 2.0
SET_WORK_S: Final = 2.0
TTLS_S: Final = (0.5, 1.0, 2.0, 4.0)
WAITS_S: Final = (0, 0.2, 1.0, 5.0, 20.0)


@dataclass(slots=True)
class Caller:
    """One sequence of calls. ``added``: told of every element that a set has acknowledged."""

    client: holdfast.Client
    recorder: Recorder
    chance: random.Random
    stopping: asyncio.Event
    last: Grant | None = None
    _actions: list[Callable[[], Awaitable[None]]] = field(init=False)
    _weights: list[int] = field(init=False)

    def __post_init__(self) -> None:
        weighted = {
            self._hold: 12,
            self._try: 4,
            self._renew_by_hand: 2,
            self._abandon: 1,
            self._hold_a_session: 3,
            self._look: 5,
            self._check_the_last: 2,
            self._steal: 1,
            self._force: 1,
        }
        self._actions, self._weights = list(weighted), list(weighted.values())

    async def run(self) -> None:
        while not self.stopping.is_set():
            (action,) = self.chance.choices(self._actions, self._weights)
            try:
                await action()
            except HoldfastError:
                pass  # is in the history
            await asyncio.sleep(self.chance.random() * 0.05)

    def _wish(self, *, wait: float | None = None, renew: bool = True) -> Wish:
        name, mode = self.chance.choice(NAMES)
        if mode == Mode.SHARED and self.chance.random() < 0.3:
            mode = Mode.EXCLUSIVE
        permits = self.chance.randint(1, CAPACITY) if mode == Mode.PERMITS else 1
        capacity = CAPACITY if mode == Mode.PERMITS else 0
        wait = self.chance.choice(WAITS_S) if wait is None else wait
        return Wish(name, mode, permits, capacity, self.chance.choice(TTLS_S), wait, renew)

    async def _hold(self) -> None:
        grant = await self.recorder.acquire(self.client, self._wish())
        await self._keep(grant, self._while_s())
        by_id = self.chance.random() < 0.1
        self.last = grant
        await self.recorder.release(grant, self.client if by_id else None)

    async def _try(self) -> None:
        grant = await self.recorder.acquire(self.client, self._wish(wait=0))
        await self._keep(grant, self._while_s())
        await self.recorder.release(grant)

    async def _renew_by_hand(self) -> None:
        grant = await self.recorder.acquire(self.client, self._wish(renew=False))
        for _ in range(self.chance.randint(1, 4)):
            await self._keep(grant, self._while_s())
            await self.recorder.renew(grant)
        await self.recorder.release(grant)

    async def _abandon(self) -> None:
        """Neither renewed nor released: it runs out."""
        grant = await self.recorder.acquire(self.client, replace(self._wish(renew=False), ttl=TTLS_S[0]))
        await self._keep(grant, 2 * TTLS_S[0])

    async def _hold_a_session(self) -> None:
        session = self.client.session(ttl=self.chance.choice(TTLS_S), metadata="session")
        grants: list[Grant] = []
        wishes = {wish.name: wish for wish in (self._wish() for _ in range(4))}
        try:
            # In one order everywhere, so that sessions do not wait for each other in a ring.
            for name in sorted(wishes):
                grants.append(await self.recorder.acquire(self.client, wishes[name], session))
            for grant in grants:
                await self._keep(grant, self._while_s())
            if self.chance.random() < 0.5:
                await self.recorder.release(grants.pop())
        finally:
            await self.recorder.end(session, grants)

    async def _look(self) -> None:
        name, _ = self.chance.choice(NAMES)
        await self.recorder.get(self.client, name, cache=self.chance.random() < 0.2)

    async def _check_the_last(self) -> None:
        if self.last is not None:
            await self.recorder.check(self.client, self.last)

    async def _steal(self) -> None:
        wish = self._wish(wait=self.chance.choice((1.0, 5.0)))
        if wish.mode == Mode.EXCLUSIVE:
            grant = await self.recorder.steal(self.client, wish, at_once=self._at_once(wish.name))
            await self._keep(grant, self._while_s())
            await self.recorder.release(grant)

    async def _force(self) -> None:
        name, _ = self.chance.choice(NAMES)
        await self.recorder.force(self.client, name, at_once=self._at_once(name))

    def _at_once(self, name: str) -> bool:
        return name.startswith(TAKEN) and self.chance.random() < 0.5

    def _while_s(self) -> float:
        return min(self.chance.expovariate(1 / 0.05), 2.0)

    async def _keep(self, grant: Grant, seconds: float) -> None:
        """Hold it for a while, looking; the service is asked now and then whether it agrees."""
        ends = now() + seconds
        while self.recorder.look(grant) and now() < ends:
            asked = self.chance.random()
            if asked < 0.05:
                await self.recorder.check(self.client, grant)
            elif asked < 0.1:
                await self.recorder.get(self.client, grant.name)
            await asyncio.sleep(min(LOOK_S, max(ends - now(), 0.0)))


@dataclass(slots=True)
class Adder:
    """Adds to one of the two sets, one element after the other. ``added`` is told what the store acknowledged."""

    client: holdfast.Client
    recorder: Recorder
    chance: random.Random
    stopping: asyncio.Event
    store: SetStore
    name: Set
    added: Callable[[Set, str], None]

    async def run(self) -> None:
        while not self.stopping.is_set():
            try:
                grant = await self.recorder.acquire(self.client, Wish(f"set/{self.name}", ttl=SET_TTL_S, wait=5.0))
                try:
                    await self._add(grant)
                finally:
                    await self.recorder.release(grant)
            except (HoldfastError, StaleToken):
                pass  # an element that was not acknowledged is not missed
            await asyncio.sleep(self.chance.random() * 0.1)

    async def _add(self, grant: Grant) -> None:
        """Whether the lock is still held is looked at by nobody but the guard: that is what is tried here."""
        members = self.store.read(self.name, grant.token)
        ends = now() + self.chance.random() * SET_WORK_S
        while now() < ends:
            self.recorder.look(grant)
            await asyncio.sleep(LOOK_S)
        self.store.write(self.name, grant.token, [*members, grant.call])
        self.added(self.name, grant.call)
