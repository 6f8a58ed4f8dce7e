"""One acquire that is asked for: sent, sent again where that may help, taken back when its caller's patience ends."""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING, Protocol

from holdfast.errors import ClientClosed, HoldfastError, LockTimeout, Throttled
from holdfast.wire.frames import Options, Reason
from holdfast.wire.limits import WAIT_MS_MAX

from .batch import Batch, Waiter
from .lease import Lease
from .refusals import share_pause_ms
from .state import ASKED, IDLE, LOST, NO_REASON
from .wheel import UNTIMED

if TYPE_CHECKING:
    from .client import ClientCore
    from .session import SessionCore


class Listener(Protocol):
    def hold_lost(self, reason: Reason, text: str) -> None:
        """The lock was held and is so no longer, for another reason than a release of ours."""


class Asking:
    """How long, and how often: what is the same whatever lease the lock will be held under."""

    __slots__ = (
        "_asking", "_at", "_batch", "_listener", "_out_of_share", "_until_ms", "_wait_until_ms", "_waiter", "bucket",
        "core", "group", "lease", "name", "options", "reason", "renews", "seq", "session", "state", "text", "token",
        "ttl_ms", "wait_ms",
    )  # fmt: skip

    def __init__(
        self,
        core: ClientCore,
        name: str,
        ttl_ms: int,
        wait_ms: int,
        options: Options | None,
        session: SessionCore | None,
        renews: bool,
    ) -> None:
        self.core = core
        self.name = name
        self.ttl_ms = ttl_ms
        self.wait_ms = wait_ms
        self.options = options
        self.session = session
        self.renews = renews
        self.state = IDLE
        self.token = 0
        self.lease: Lease | None = None
        self.reason: Reason = NO_REASON
        self.text = ""
        self.bucket = UNTIMED
        self._listener: Listener | None = None
        """Only while something can be lost: a lock that is not in use makes no cycle with its hold, which would be left
        to the garbage collector."""
        self._out_of_share = 0
        """How often it was refused because the group's share was used up."""
        self._asking = 0
        """Counts what was asked: an earlier one's pause must not ask for a later one."""
        self._batch: Batch | None = None
        """The acquire under way: whose answer we wait for."""
        self._waiter: Waiter | None = None
        self._until_ms = 0.0
        """While it is let go of: until when it was believed."""

    def acquire(self, waiter: Waiter, listener: Listener | None) -> None:
        """Ask for the lock. The waiter ends when it is held, or with the reason why it is not."""
        assert self.state is IDLE or self.state is LOST, "this hold is in use"
        self._waiter = waiter
        self._listener = listener
        self.reason, self.text, self.token = NO_REASON, "", 0
        self._out_of_share = 0
        # A try may have to wait too, for cachers, and what would tell it so may be lost: no longer than for any answer.
        patience_ms = self.wait_ms or self.core.timeout_ms
        self._wait_until_ms = self.core.clock() + patience_ms if patience_ms < WAIT_MS_MAX else inf
        self._ask(self.wait_ms)

    def _ask(self, wait_ms: int) -> None:
        """Send it, to whichever group the name is in now."""
        raise NotImplementedError

    def _fail(self, error: BaseException) -> None:
        """Take it back, and tell the waiter why."""
        raise NotImplementedError

    def ask_again(self) -> None:
        """What was asked came to nothing through no fault of the caller's."""
        if self.state is not ASKED:
            return
        left_ms = self.wait_ms
        if self._wait_until_ms != inf:
            left_ms = int(self._wait_until_ms - self.core.clock())
            if left_ms <= 0:
                self._fail(LockTimeout(self.name, self.wait_s))
                return
        self._ask(left_ms if self.wait_ms else 0)
        self.limit()

    def limit(self) -> None:
        """The answer comes by a detour: not later than one asked for at the end of the wait would come."""
        if self._wait_until_ms != inf:
            late_ms = self.core.timeout_ms if self.wait_ms else 0
            self.core.after(self._wait_until_ms + late_ms - self.core.clock(), partial(self._too_late, self._asking))

    def _too_late(self, asking: int) -> None:
        if asking == self._asking and self.state is ASKED:
            closed = ClientClosed("the client is closed") if self.core.closing else None
            self._fail(closed or LockTimeout(self.name, self.wait_s))

    def _ask_later(self, asking: int) -> None:
        if asking == self._asking:
            self.ask_again()

    @property
    def wait_s(self) -> float | None:
        return None if self.wait_ms >= WAIT_MS_MAX else self.wait_ms / 1000

    def _ask_for_a_share(self, status: int) -> bool:
        """Ask once more later, if that may help and patience lasts."""
        pause_ms = share_pause_ms(status, self._out_of_share, self.core.rng)
        if pause_ms is None or self.core.clock() + pause_ms >= self._wait_until_ms:
            return False
        self._out_of_share += 1
        self.core.after(pause_ms, partial(self._ask_later, self._asking))
        return True

    def refuse(self, error: HoldfastError) -> None:
        """Nothing was sent, or nothing came of it. Who may wait for the lock may wait for a quota, too."""
        if self.state is not ASKED:
            return
        if isinstance(error, Throttled) and self.wait_ms:
            free_ms = self.core.clock() + error.retry_after_ms
            if free_ms < self._wait_until_ms:
                self.core.after(error.retry_after_ms, partial(self._ask_later, self._asking))
                return
        self._fail(error)
