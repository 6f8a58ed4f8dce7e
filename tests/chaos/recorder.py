"""The SDK's calls, each written down before it is made and after it was answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count

import holdfast
from holdfast.errors import LockTimeout, Rejected, Unavailable

from .events import Believed, Called, Event, Mode, Op, Outcome, Returned, Shown, now

LOCAL_TIMEOUT_S = 0.45
"""So much later than asked for, the SDK itself ends a wait whose end it did not hear of. What it then takes back may
be seen held until that has arrived: no definite failure."""


@dataclass(slots=True, eq=False)
class Grant:
    """A lock that this process holds, or held."""

    call: str
    lock: holdfast.Lock
    token: int
    lock_id: str
    mode: Mode = Mode.EXCLUSIVE
    permits: int = 1
    capacity: int = 0

    @property
    def name(self) -> str:
        return self.lock.name


@dataclass(frozen=True, slots=True)
class Wish:
    """What to acquire, and how. Seconds; ``wait`` None waits as long as it takes."""

    name: str
    mode: Mode = Mode.EXCLUSIVE
    permits: int = 1
    capacity: int = 0
    ttl: float = 10.0
    wait: float | None = 30.0
    renew: bool = True


@dataclass(slots=True)
class Recorder:
    """``prefix`` makes the ids of calls unique among all recorders of a run."""

    prefix: str
    write: Callable[[Event], None]
    _numbers: count[int] = field(default_factory=lambda: count(1))

    async def acquire(self, client: holdfast.Client, wish: Wish, session: holdfast.Session | None = None) -> Grant:
        """Raises what the SDK raises."""
        call = self._new()
        self.write(Called(
            call, Op.ACQUIRE, wish.name, now(), wish.mode, wish.permits, wish.capacity, tries=wish.wait == 0,
        ))  # fmt: skip
        if wish.mode == Mode.PERMITS:
            lock: holdfast.Lock = client.semaphore(
                wish.name, wish.capacity, wish.permits, ttl=wish.ttl, wait=wish.wait, metadata=call, session=session,
                renew=wish.renew,
            )  # fmt: skip
        else:
            lock = client.lock(
                wish.name, ttl=wish.ttl, wait=wish.wait, shared=wish.mode == Mode.SHARED, metadata=call,
                session=session, renew=wish.renew,
            )  # fmt: skip
        return await self._granted(call, lock.acquire(), wish)

    async def steal(self, client: holdfast.Client, wish: Wish, *, at_once: bool) -> Grant:
        call = self._new()
        self.write(Called(call, Op.ACQUIRE, wish.name, now(), wish.mode, takes=True, now=at_once))
        asked = client.steal(
            wish.name, ttl=wish.ttl, wait=wish.wait, metadata=call, reason="chaos", now=at_once, renew=wish.renew
        )
        return await self._granted(call, asked, wish)

    async def _granted(self, call: str, asked: Awaitable[holdfast.Lock], wish: Wish) -> Grant:
        began = now()
        try:
            lock = await asked
            token, lock_id = lock.token, lock.id
        except LockTimeout as error:
            # Not by the service's answer, but because none had come.
            late = bool(wish.wait) and now() - began >= (wish.wait or 0.0) + LOCAL_TIMEOUT_S
            self._failed(call, error, Outcome.UNKNOWN if late else Outcome.FAILED)
            raise
        except BaseException as error:
            self._failed(call, error, Outcome.UNKNOWN if isinstance(error, Unavailable) else outcome_of(error))
            raise
        grant = Grant(call, lock, token, lock_id, wish.mode, wish.permits, wish.capacity)
        self.write(Returned(call, now(), Outcome.OK, token=token))
        self.look(grant)
        return grant

    def look(self, grant: Grant) -> bool:
        """Write down whether the holder believes, and until when it may."""
        at = now()
        remaining_s = grant.lock.remaining()
        self.write(Believed(grant.call, at, at + remaining_s if remaining_s else 0.0))
        return remaining_s > 0

    async def release(self, grant: Grant, client: holdfast.Client | None = None) -> None:
        """With a ``client``, by its LockID."""
        self.look(grant)
        call = self._about(grant, Op.RELEASE)
        asked = grant.lock.release() if client is None else client.release(grant.lock_id)
        await self._answered(call, asked, definite=client is not None)

    async def end(self, session: holdfast.Session, grants: list[Grant]) -> None:
        """End a session: a release of all that it holds. What was lost before is none of its answer's business."""
        calls = [self._about(grant, Op.RELEASE) for grant in grants if self.look(grant)]
        try:
            await session.end()
        except BaseException as error:
            for call in calls:
                self._failed(call, error, Outcome.UNKNOWN)
            raise
        at = now()
        for call in calls:
            self.write(Returned(call, at, Outcome.OK))

    async def renew(self, grant: Grant) -> None:
        call = self._about(grant, Op.RENEW)
        await self._answered(call, grant.lock.renew(), definite=False)
        self.look(grant)

    async def check(self, client: holdfast.Client, grant: Grant) -> bool:
        call = self._about(grant, Op.CHECK)
        try:
            holds = await client.check(grant.name, grant.token)
        except BaseException as error:
            self._failed(call, error, outcome_of(error))
            raise
        self.write(Returned(call, now(), Outcome.OK, token=grant.token, holds=holds))
        return holds

    async def get(self, client: holdfast.Client, name: str, *, cache: bool = False) -> None:
        call = self._new()
        self.write(Called(call, Op.GET, name, now()))
        try:
            info = await client.get(name, cache=cache)
        except BaseException as error:
            self._failed(call, error, outcome_of(error))
            raise
        shown = tuple(_shown(holder, info.capacity) for holder in info.holders)
        self.write(Returned(call, now(), Outcome.OK, shown=shown))

    async def force(self, client: holdfast.Client, name: str, *, at_once: bool) -> None:
        call = self._new()
        self.write(Called(call, Op.FORCE, name, now(), takes=True, now=at_once))
        await self._answered(call, client.force_release(name, reason="chaos", now=at_once), definite=True)

    async def _answered(self, call: str, asked: Awaitable[None], *, definite: bool) -> None:
        """``definite``: a rejection says that the operation will not be carried out later either."""
        try:
            await asked
        except BaseException as error:
            self._failed(call, error, outcome_of(error) if definite else Outcome.UNKNOWN)
            raise
        self.write(Returned(call, now(), Outcome.OK))

    def _about(self, grant: Grant, op: Op) -> str:
        call = self._new()
        self.write(Called(
            call, op, grant.name, now(), grant.mode, grant.permits, grant.capacity, grant.call, grant.token,
        ))  # fmt: skip
        return call

    def _new(self) -> str:
        return f"{self.prefix}-{next(self._numbers)}"

    def _failed(self, call: str, error: BaseException, outcome: Outcome) -> None:
        self.write(Returned(call, now(), outcome, type(error).__name__))


def outcome_of(error: BaseException) -> Outcome:
    return Outcome.FAILED if isinstance(error, Rejected) else Outcome.UNKNOWN


def _shown(holder: holdfast.HolderInfo, capacity: int) -> Shown:
    mode = Mode.PERMITS if capacity else Mode.SHARED if holder.shared else Mode.EXCLUSIVE
    return Shown(holder.token, holder.metadata.decode(), mode, holder.permits)
