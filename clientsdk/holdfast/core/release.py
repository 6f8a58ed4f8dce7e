"""Letting go of a lock where saying it once was not enough: said until it has been heard, or until nobody can believe
in it any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from holdfast.errors import HoldfastError, Rejected
from holdfast.wire.frames import Kind, Status

from .batch import RETRY_MS_MAX, Waiter, fail, settle
from .lease import ELSEWHERE_MS

if TYPE_CHECKING:
    from .hold import Hold

RELEASE: Final = int(Kind.RELEASE)
MOVED: Final = int(Status.MOVED)


class Release:
    """Takes over from a hold. The waiter ends with the answer, or with the first error; what is let go goes on being
    said all the same."""

    __slots__ = ("_group", "_hold", "_until_ms", "_waiter")

    def __init__(self, hold: Hold, until_ms: float, waiter: Waiter | None) -> None:
        self._hold = hold
        self._group = hold.group
        self._until_ms = until_ms
        self._waiter = waiter

    def answered(
        self, kind: int, status: int, token: int, deadline_ms: int, detail: Any, seq: int, sent_ms: float
    ) -> None:
        if status == MOVED:
            self.moved()
        else:
            self._end()

    def moved(self) -> None:
        """Its slot was met in another group."""
        self._group = self._hold.core.group_of(self._hold.name)
        self._hold.core.after(ELSEWHERE_MS, self._say_again)

    def failed(self, kind: int, error: HoldfastError) -> None:
        fail(self._waiter, error)
        self._waiter = None
        if isinstance(error, Rejected):
            self._hold.core.after(RETRY_MS_MAX, self._say_again)

    def _say_again(self) -> None:
        if self._hold.core.closed or self._hold.core.clock() >= self._until_ms:
            self._end()
        else:
            self._group.writes.call(self, RELEASE, self._hold.name, 0, self._hold.token)

    def _end(self) -> None:
        self._hold.released()
        settle(self._waiter)
