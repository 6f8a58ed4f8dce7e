"""One operation or read that somebody waits for, other than of a lock object of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.errors import ClientClosed, HoldfastError
from holdfast.wire.frames import FIRST_READ, Options, Status

from .batch import Waiter, fail, settle
from .lease import ELSEWHERE_MS

if TYPE_CHECKING:
    from .client import ClientCore
    from .group import GroupClient

_MOVED = int(Status.MOVED)
_UNREGISTERED = int(Status.UNREGISTERED)

Answer = tuple[int, int, Any]
"""(status, token, detail)."""


class Call:
    """The waiter's result is an :data:`Answer`. Without a ``group`` the name says which, also after it has moved."""

    __slots__ = ("_core", "_deadline_ms", "_group", "_kind", "_name", "_options", "_token", "_ttl_ms", "_waiter")

    def __init__(
        self,
        core: ClientCore,
        waiter: Waiter,
        kind: int,
        name: str = "",
        token: int = 0,
        options: Options | None = None,
        group: GroupClient | None = None,
        ttl_ms: int = 0,
    ) -> None:
        self._core = core
        self._waiter = waiter
        self._kind = kind
        self._name = name
        self._token = token
        self._options = options
        self._group = group
        self._ttl_ms = ttl_ms
        self._deadline_ms = core.clock() + core.timeout_ms
        self._issue()

    def _issue(self) -> None:
        if self._waiter.done():
            return
        if self._core.closing:
            fail(self._waiter, ClientClosed("the client was closed"))
            return
        group = self._group or self._core.group_of(self._name)
        lane = group.reads if self._kind >= FIRST_READ else group.writes
        lane.call(self, self._kind, self._name, 0, self._token, self._ttl_ms, 0, self._options)

    def answered(
        self, kind: int, status: int, token: int, deadline_ms: int, detail: Any, seq: int, sent_ms: float
    ) -> None:
        if status in (_MOVED, _UNREGISTERED) and self._core.clock() < self._deadline_ms:
            self._core.after(ELSEWHERE_MS, self._issue)
        else:
            settle(self._waiter, self.result(status, token, deadline_ms, detail, sent_ms))

    def result(self, status: int, token: int, deadline_ms: int, detail: Any, sent_ms: float) -> object:
        """What the waiter gets."""
        return (status, token, detail)

    def failed(self, kind: int, error: HoldfastError) -> None:
        fail(self._waiter, error)
