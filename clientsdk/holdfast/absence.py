"""Cached "not held": a short shared hold that tells us when anybody wants the name (``docs/design.md``, 6.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdfast.core.hold import Hold
from holdfast.core.state import HELD
from holdfast.errors import LockLost, LockTimeout
from holdfast.wire.frames import Mode, Options, Reason
from holdfast.wire.limits import CACHE_TTL_MS_MAX

if TYPE_CHECKING:
    from holdfast.link import Link

CACHED_MAX: Final = 10_000
"""Names cached at once; each is a lease of its own until it runs out."""


class AbsenceCache:
    """What this client knows to be held by nobody. An entry is never wrong about an acquire that has been answered."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._entries: dict[str, _Absence] = {}

    def knows(self, name: str) -> bool:
        entry = self._entries.get(name)
        return entry is not None and entry.hold.until_ms > self._link.core.clock()

    async def learn(self, name: str) -> bool:
        """Ask to cache that ``name`` is not held; False when it is, or somebody waits for it."""
        if len(self._entries) >= CACHED_MAX:
            return False
        entry = _Absence(self, self._link, name)
        waiter = self._link.loop.create_future()
        entry.hold.acquire(waiter, entry)
        try:
            await waiter
        except (LockTimeout, LockLost):
            return False
        finally:
            if not waiter.done() or waiter.cancelled():
                entry.hold.give_up()
        if entry.hold.state is not HELD:
            return False
        known = self._entries.setdefault(name, entry)
        if known is not entry:
            entry.hold.release(None)
        return True

    def forget(self, entry: _Absence) -> None:
        if self._entries.get(entry.hold.name) is entry:
            del self._entries[entry.hold.name]


class _Absence:
    def __init__(self, cache: AbsenceCache, link: Link, name: str) -> None:
        self._cache = cache
        options = Options(mode=int(Mode.CACHE))
        self.hold = Hold(link.core, name, CACHE_TTL_MS_MAX, 0, options, None, False)

    def hold_lost(self, reason: Reason, text: str) -> None:
        """It ran out, or somebody queues for the name: let go at once, for they wait for us."""
        self._cache.forget(self)
        if reason != Reason.EXPIRED:
            self.hold.release(None)
