"""Who watches which names of one group, and what they have yet to be told. Sans-io.

Only a leader that serves has watches; they end with its office, and routers ask the next leader anew. A watcher is told
how a name looks when there is room to say so, never what it looked like in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from holdfast.wire.errors import Code
from holdfast.wire.frames import LockView
from holdfast.wire.limits import WATCHED_CHANGES_MAX, WATCHES_PER_GROUP_MAX
from holdfast.wire.messages import Refusal, Watched, WatchRequest

from ..machine import Lock, LockMachine, ReadBudget

Key = tuple[object, int]
"""(caller, request id)."""


@dataclass(eq=False, slots=True)
class _Watch:
    caller: object
    request: int
    tenant: int
    target: str
    prefix: bool
    fresh: bool = True
    """It is to be told that something may have been missed."""
    views: list[LockView] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Notice:
    caller: object
    request: int
    watched: Watched


class Watches:
    """Observes the machine while anybody watches, and costs nothing otherwise."""

    def __init__(self, group: int, machine: LockMachine) -> None:
        self._group = group
        self._machine = machine
        self._watches: dict[Key, _Watch] = {}
        self._names: dict[tuple[int, str], dict[_Watch, None]] = {}
        self._prefixes: dict[int, dict[int, dict[str, dict[_Watch, None]]]] = {}
        """Tenant -> length in characters -> prefix: a name is looked up once for each length there is."""
        self._changed: dict[tuple[int, str], int] = {}
        """(tenant, name) -> slot of what changed and is not told."""
        self._due: dict[_Watch, None] = {}
        """Those that are to be told something."""
        self._refused: list[Notice] = []
        self._term = 0

    @property
    def busy(self) -> bool:
        """Whether :meth:`take` may have something to say, or watches to end."""
        return bool(self._watches or self._refused)

    @property
    def pending(self) -> bool:
        """Whether the next :meth:`take` has something to say now."""
        return bool(self._changed or self._refused)

    # Who watches.

    def ask(self, caller: object, request: int, asked: WatchRequest, term: int | None) -> None:
        """``term``: in which this replica leads and serves; None when it does not."""
        self.office(term)
        self._end((caller, request))
        if not asked.on:
            return
        if term is None:
            self._refuse(caller, request, Code.NOT_LEADER, f"this node does not lead group {self._group}")
        elif len(self._watches) >= WATCHES_PER_GROUP_MAX:
            text = f"{WATCHES_PER_GROUP_MAX} names and prefixes of group {self._group} are watched already"
            self._refuse(caller, request, Code.OVERLOADED, text)
        else:
            self._begin(_Watch(caller, request, asked.tenant, asked.name, asked.prefix))

    def _refuse(self, caller: object, request: int, code: Code, text: str) -> None:
        self._refused.append(Notice(caller, request, Watched(False, [], Refusal(code, text))))

    def _begin(self, watch: _Watch) -> None:
        if not self._watches:
            self._machine.observe(self)
        self._watches[watch.caller, watch.request] = watch
        self._peers(watch)[watch] = None
        self._due[watch] = None

    def _peers(self, watch: _Watch) -> dict[_Watch, None]:
        """Those who watch the same."""
        if not watch.prefix:
            return self._names.setdefault((watch.tenant, watch.target), {})
        lengths = self._prefixes.setdefault(watch.tenant, {})
        return lengths.setdefault(len(watch.target), {}).setdefault(watch.target, {})

    def _end(self, key: Key) -> None:
        watch = self._watches.pop(key, None)
        if watch is None:
            return
        self._due.pop(watch, None)
        peers = self._peers(watch)
        del peers[watch]
        if not peers and not watch.prefix:
            del self._names[watch.tenant, watch.target]
        elif not peers:
            lengths = self._prefixes[watch.tenant]
            del lengths[len(watch.target)][watch.target]
            if not lengths[len(watch.target)]:
                del lengths[len(watch.target)]
            if not lengths:
                del self._prefixes[watch.tenant]
        if not self._watches:
            self._machine.observe(None)
            self._changed.clear()

    def drop_caller(self, caller: object) -> None:
        for key in [key for key in self._watches if key[0] is caller]:
            self._end(key)

    def office(self, term: int | None) -> None:
        """Watches end with the office in which they were asked for: whoever leads next is asked anew."""
        if term is None or term != self._term:
            self._term = term or 0
            for key in list(self._watches):
                self._end(key)

    # What changed.

    def touched(self, lock: Lock) -> None:
        key = (lock.tenant.number, lock.name)
        if key in self._changed or not any(True for _ in self._watching(*key)):
            return
        if len(self._changed) >= WATCHED_CHANGES_MAX:
            self._changed.clear()
            for watch in self._watches.values():
                watch.fresh = True
                self._due[watch] = None
        self._changed[key] = lock.slot

    def _watching(self, tenant: int, name: str) -> Iterator[_Watch]:
        yield from self._names.get((tenant, name), ())
        for length, prefixes in self._prefixes.get(tenant, {}).items():
            yield from prefixes.get(name[:length], ())

    def take(self, term: int | None, listens: Callable[[object], bool]) -> list[Notice]:
        """What there is to tell, as far as one turn's budget of reads goes. A caller that does not listen now is told
        to read again once it does."""
        self.office(term)
        notices, self._refused = self._refused, []
        if self._changed:
            self._look(listens)
        for watch in [watch for watch in self._due if listens(watch.caller)]:
            del self._due[watch]
            notices.append(Notice(watch.caller, watch.request, Watched(watch.fresh, watch.views)))
            watch.fresh, watch.views = False, []
        return notices

    def _look(self, listens: Callable[[object], bool]) -> None:
        budget = ReadBudget()
        while self._changed and not budget.spent:
            (tenant, name), slot = self._changed.popitem()
            view: LockView | None = None
            for watch in self._watching(tenant, name):
                self._due[watch] = None
                if not listens(watch.caller):
                    watch.fresh = True
                else:
                    view = view or self._machine.view(tenant, slot, name, budget)
                    watch.views.append(view)
