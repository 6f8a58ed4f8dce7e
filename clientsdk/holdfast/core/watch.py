"""Watching names: what is told is how a name looks now, each change at most once, what is in between left out.

The service says which names look different; and *fresh* whenever something may have been missed: at the beginning,
after a change of leader, router or place. Then everything watched is read again, as linearizable as any read.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.errors import HoldfastError, OutcomeUnknown, Overloaded, Unavailable
from holdfast.wire.errors import Code, Throttled
from holdfast.wire.frames import Kind, LockPage, LockView, Options, Status, encode
from holdfast.wire.limits import LIST_PAGE_MAX, WATCHED_NAMES_MAX
from holdfast.wire.messages import Msg, Refusal, WatchRequest, decode_watched

from .batch import RETRY_MS_MAX, Waiter, fail, settle
from .call import Call
from .refusals import refusal

if TYPE_CHECKING:
    from .client import ClientCore

_AGAIN: Final = frozenset({Code.MOVED, Code.NO_SUCH_GROUP, Code.OVERLOADED, Code.UNAVAILABLE, Code.THROTTLED})
"""Refusals that may be over soon."""

CROWDED_RETRY_MS: Final = 1000


def _looks(view: LockView) -> bytes:
    """A digest of what of a view is a change when it differs: all but ages and remaining times, which run by
    themselves. A watch keeps one for each name that it has told of."""
    holders = [
        (row.token, row.mode, row.permits, row.session, row.metadata, row.why, row.leaving, row.count)
        for row in view.holders
    ]
    return blake2b(
        encode([view.capacity, view.waiters, view.closed_ms > 0, view.held, holders]), digest_size=16
    ).digest()


_FREE: Final = _looks(LockView("", 0, 0, []))


class Watch:
    """One name, or with ``prefix`` all that begin with it. Take from :attr:`changed` what has to be told, and call
    :meth:`wait` when it is empty."""

    def __init__(self, core: ClientCore, target: str, *, prefix: bool, patient: bool = True) -> None:
        """``patient``: to wait until there is room for it, where there is none."""
        self.core = core
        self.target = target
        self.prefix = prefix
        self.patient = patient
        self.changed: dict[str, LockView] = {}
        """The latest of each name that looks different from what was told before."""
        self._error: HoldfastError | None = None
        self._waiter: Waiter | None = None
        self._parts: list[_Part] = []
        core.watches[self] = None
        self.place()

    @property
    def lives(self) -> bool:
        return self in self.core.watches

    def wait(self, waiter: Waiter) -> None:
        """The waiter is settled when :attr:`changed` is not empty or the watch was ended, or fails with why it was."""
        self._waiter = waiter
        self._wake()

    def place(self) -> None:
        """Ask each group that has part in it: at the beginning, and when slots have moved."""
        groups = self.core.all_groups() if self.prefix else [self.core.group_of(self.target)]
        numbers = [group.number for group in groups]
        for part in [part for part in self._parts if part.group not in numbers]:
            part.leave()
            self._parts.remove(part)
        known = {part.group for part in self._parts}
        self._parts += [_Part(self, number) for number in numbers if number not in known]

    def connected(self) -> None:
        """There is a connection, and nobody at its other end knows of this watch."""
        for part in self._parts:
            part.ask()

    def end(self, error: HoldfastError | None = None) -> None:
        """Watch no longer. ``error`` is told to who waits, now or later."""
        self._error = self._error or error
        self.core.watches.pop(self, None)
        parts, self._parts = self._parts, []
        for part in parts:
            part.leave()
        self._wake()

    def note(self, view: LockView) -> None:
        self.changed[view.name] = view
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and self.changed:
            settle(self._waiter)
        elif self._waiter is not None and self._error is not None:
            fail(self._waiter, self._error)
        elif self._waiter is not None and not self.lives:
            settle(self._waiter)


class _Part:
    """A watch in one group."""

    def __init__(self, watch: Watch, group: int) -> None:
        self._watch = watch
        self._core = watch.core
        self.group = group
        self._request = 0
        self._told: dict[str, bytes] = {}
        """How each name looked that was told last; names that are free again are not kept under a prefix."""
        self._pushed: set[str] = set()
        """Names that were told of since the reading began: what it finds of them may be older."""
        self._reading: _Reading | None = None
        self.ask()

    def ask(self) -> None:
        # The other end may be the same as before: it must not go on telling what nobody hears.
        self.end()
        if self._core.connected:
            body = encode(WatchRequest(self._watch.target, self._watch.prefix))
            self._request = self._core.watching(self, self.group, body)

    def end(self) -> None:
        if self._request and self._core.connected:
            body = encode(WatchRequest(self._watch.target, self._watch.prefix, on=False))
            self._core.driver.send(Msg.WATCH, self.group, self._request, body)
        self._forget()

    def leave(self) -> None:
        """It is no part of the watch any more."""
        self.end()
        self._core.watched_names -= len(self._told)
        self._told.clear()

    def _forget(self) -> None:
        self._core.watching_no_more(self._request)
        self._request = 0
        self._reading = None

    # From the router.

    def answered(self, request: int, body: bytes) -> None:
        """A WATCHED. Raises ``msgspec.DecodeError``."""
        said = decode_watched(body)
        if said.refusal is not None:
            self.refused(request, said.refusal)
            return
        if said.fresh:
            self._read()
        for view in said.views:
            if self._reading is not None:
                self._pushed.add(view.name)
            self._see(view)

    def refused(self, request: int, refused: Refusal) -> None:
        self._forget()
        if refused.code in _AGAIN and (self._watch.patient or refused.code != Code.OVERLOADED):
            pause_ms = refused.retry_after_ms + RETRY_MS_MAX * (1 + self._core.rng.random())
            self._core.after(pause_ms, self._again)
        else:
            self._watch.end(refused.error())

    def _again(self) -> None:
        if self._watch.lives and not self._request:
            self._watch.place()
            self.ask()

    # Reading all of it.

    def _read(self) -> None:
        """Begin to read; what an earlier reading still finds is not looked at."""
        self._pushed.clear()
        self._reading = _Reading(self, "" if self._watch.prefix else None)
        self._issue(self._reading)

    def _issue(self, reading: _Reading) -> None:
        """The next piece of it."""
        if reading is not self._reading:
            return
        target = self._watch.target
        if reading.cursor is None:
            Call(self._core, reading, int(Kind.GET), target)
        else:
            options = Options(cursor=reading.cursor, limit=LIST_PAGE_MAX)
            Call(self._core, reading, int(Kind.LIST), target, 0, options, self._core.group(self.group))

    def read_one(self, reading: _Reading, view: LockView) -> None:
        if reading is self._reading:
            self._found([view])
            self._reading = None

    def read_page(self, reading: _Reading, page: LockPage) -> None:
        if reading is not self._reading:
            return
        reading.seen.update(view.name for view in page.locks)
        self._found(page.locks)
        reading.cursor = page.cursor
        if page.cursor:
            self._issue(reading)
        else:
            # What was told and is not found has become free.
            for name in [name for name in self._told if name not in reading.seen and name not in self._pushed]:
                self._see(LockView(name, 0, 0, []))
            self._reading = None

    def _found(self, views: list[LockView]) -> None:
        for view in views:
            if view.name not in self._pushed:
                self._see(view)

    def failed(self, reading: _Reading, error: BaseException) -> None:
        if reading is not self._reading:
            return
        if isinstance(error, Unavailable | OutcomeUnknown | Overloaded | Throttled):
            pause_ms = getattr(error, "retry_after_ms", 0) + RETRY_MS_MAX * self._core.rng.random()
            self._core.after(pause_ms, lambda: self._issue(reading))
        elif isinstance(error, HoldfastError):
            self._watch.end(error)

    def _see(self, view: LockView) -> None:
        looks = _looks(view)
        before = self._told.get(view.name, _FREE if self._watch.prefix else None)
        if looks == before or not self._watch.lives:
            return
        if looks == _FREE and self._watch.prefix:
            del self._told[view.name]
            self._core.watched_names -= 1
        elif view.name in self._told or self._remember():
            self._told[view.name] = looks
        else:
            return
        self._watch.note(view)

    def _remember(self) -> bool:
        """Whether there is room for one more name; else the watch ends."""
        if self._core.watched_names < WATCHED_NAMES_MAX:
            self._core.watched_names += 1
            return True
        text = f"watches have {WATCHED_NAMES_MAX} names in mind already: watch longer prefixes, or single names"
        self._watch.end(Overloaded(text, CROWDED_RETRY_MS))
        return False


class _Reading:
    """One reading of what a part watches; settled with each answer, as any waiter is."""

    def __init__(self, part: _Part, cursor: str | None) -> None:
        self._part = part
        self.cursor = cursor
        """Of the next page; None for a single name."""
        self.seen: set[str] = set()

    def done(self) -> bool:
        return False

    def set_result(self, result: tuple[int, int, Any], /) -> None:
        status, _, detail = result
        if status == Status.MOVED:
            self._part.failed(self, Unavailable("what is watched is moving to another group"))
        elif status != Status.OK:
            self._part.failed(self, refusal(status, detail, "", None))
        elif self.cursor is None:
            self._part.read_one(self, msgspec.convert(detail, LockView))
        else:
            self._part.read_page(self, msgspec.convert(detail, LockPage))

    def set_exception(self, exception: BaseException, /) -> None:
        self._part.failed(self, exception)
