"""Operations that leave together, in the columns in which they travel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from holdfast.wire.errors import HoldfastError
from holdfast.wire.exempt import is_exempt
from holdfast.wire.frames import Kind, Options
from holdfast.wire.limits import OPERATIONS_PER_SECTION_MAX, SECTION_BYTES_MAX
from holdfast.wire.messages import Refusal

_OPERATION_BYTES: Final = 64
"""Room for the numbers of one operation; names and options are counted apart."""
_OPTIONS_BYTES: Final = 96
_FULL_BYTES: Final = SECTION_BYTES_MAX - 16_384
"""A batch takes no more once it is this large: whatever the last operation carries, the section stays within bounds."""

RETRY_MS_MAX: Final = 500.0
"""Longest pause before something is sent again; at least this before what was refused for good is tried anew."""
RELEASE: Final = int(Kind.RELEASE)


class Waiter(Protocol):
    """What is settled when something has come to its end; an ``asyncio.Future`` is one."""

    def done(self) -> bool: ...
    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...


def settle(waiter: Waiter | None, result: object = None) -> None:
    """Nothing happens when the waiter is gone already, as a cancelled future is."""
    if waiter is not None and not waiter.done():
        waiter.set_result(result)


def fail(waiter: Waiter | None, error: BaseException) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_exception(error)


class Caller(Protocol):
    """Who issued an operation."""

    def answered(
        self, kind: int, status: int, token: int, deadline_ms: int, detail: Any, seq: int, sent_ms: float
    ) -> None:
        """The group's answer; ``sent_ms`` is a moment before the first copy left."""

    def failed(self, kind: int, error: HoldfastError) -> None:
        """No answer. A rejection: nothing happened or will. ``OutcomeUnknown``: patience is over, but the operation is
        still under way; its answer follows, or a rejection."""


class _Nobody:
    def answered(
        self, kind: int, status: int, token: int, deadline_ms: int, detail: Any, seq: int, sent_ms: float
    ) -> None:
        """Nobody waits for this."""

    def failed(self, kind: int, error: HoldfastError) -> None:
        """Nobody waits for this."""


NOBODY: Final[Caller] = _Nobody()


class Batch:
    """Invariant: all columns have one length. Sealed (numbered and encoded) when it first leaves, and not changed after
    that as long as a copy may be carried out: all that are under way at a time have the same bytes."""

    __slots__ = (
        "attempts", "begun_ms", "callers", "client", "deadline_ms", "expired", "full", "kinds", "leases", "maybe",
        "names", "options", "resend_ms", "section", "sent_ms", "seqs", "size", "throttled", "tokens", "ttls", "waits",
    )  # fmt: skip

    def __init__(self, begun_ms: float, deadline_ms: float) -> None:
        self.kinds: list[int] = []
        self.names: list[str] = []
        self.leases: list[int] = []
        self.tokens: list[int] = []
        self.ttls: list[int] = []
        self.waits: list[int] = []
        self.options: dict[int, Options] = {}
        self.callers: list[Caller] = []
        self.size = 0
        self.full = False
        """Whether it takes no more."""
        self.begun_ms = begun_ms
        self.deadline_ms = deadline_ms
        """When the callers' patience ends."""
        self.expired = False
        self.section = b""
        self.client = 0
        self.seqs: Sequence[int] = ()
        """Numbers of the operations, ascending. Reads have none of their own: 0."""
        self.sent_ms = 0.0
        """A moment before the first copy left; 0 before that."""
        self.maybe = False
        """Whether some copy may have been applied without our having heard of it."""
        self.attempts = 0
        self.resend_ms = 0.0
        """When to send the next copy. While one is under way: when it must be taken for lost."""
        self.throttled: Refusal | None = None
        """What the last copy was refused with, if that was a quota of the tenant."""

    def add(
        self,
        caller: Caller,
        kind: int,
        name: str,
        lease: int,
        token: int,
        ttl_ms: int,
        wait_ms: int,
        options: Options | None,
    ) -> None:
        if options is not None:
            self.options[len(self.callers)] = options
            self.size += _OPTIONS_BYTES + len(options.metadata) + 4 * len(options.reason) + 4 * len(options.cursor)
        self.size += _OPERATION_BYTES + 4 * len(name)
        self.kinds.append(kind)
        self.names.append(name)
        self.leases.append(lease)
        self.tokens.append(token)
        self.ttls.append(ttl_ms)
        self.waits.append(wait_ms)
        self.callers.append(caller)
        self.full = len(self.callers) >= OPERATIONS_PER_SECTION_MAX or self.size >= _FULL_BYTES

    def add_from(self, batch: Batch, at: int) -> None:
        """The operation that stands there in ``batch``."""
        self.add(
            batch.callers[at], batch.kinds[at], batch.names[at], batch.leases[at], batch.tokens[at], batch.ttls[at],
            batch.waits[at], batch.options.get(at),
        )  # fmt: skip

    def exempt(self, vouched: bool) -> list[int]:
        """Where operations stand that are never refused for load, and somebody waits for."""
        callers, options = self.callers, self.options
        return [
            at
            for at, kind in enumerate(self.kinds)
            if is_exempt(kind, options.get(at), vouched=vouched) and callers[at] is not NOBODY
        ]

    def shrink(self) -> list[int]:
        """Drop what nobody waits for; only while no copy can have been carried out. Returns the numbers of the rest."""
        kept = [at for at, caller in enumerate(self.callers) if caller is not NOBODY]
        self.kinds = [self.kinds[at] for at in kept]
        self.names = [self.names[at] for at in kept]
        self.leases = [self.leases[at] for at in kept]
        self.tokens = [self.tokens[at] for at in kept]
        self.ttls = [self.ttls[at] for at in kept]
        self.waits = [self.waits[at] for at in kept]
        self.options = {now: self.options[at] for now, at in enumerate(kept) if at in self.options}
        self.callers = [self.callers[at] for at in kept]
        return [self.seqs[at] for at in kept]

    @property
    def idle(self) -> bool:
        """Whether nobody waits for any of it."""
        return all(caller is NOBODY for caller in self.callers)

    def take_back(self, at: int) -> None:
        """Nobody waits for this operation any more. One that has not left becomes one that changes nothing."""
        self.callers[at] = NOBODY
        if not self.sent_ms:
            self.kinds[at] = RELEASE
            self.leases[at] = self.tokens[at] = 0
            self.options.pop(at, None)
