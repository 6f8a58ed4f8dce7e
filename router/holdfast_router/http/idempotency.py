"""Idempotency-Key: a request that comes again gets its first answer, or joins the first while that is under way.

Per router and key of the API; through another router an acquire finds its own grant by the id that is made of the key.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct

from holdfast.errors import HoldfastError
from holdfast.wire.errors import InvalidArgument
from holdfast.wire.limits import REQUEST_ID_BYTES
from holdfast.wire.tenants import Principal

from ..directory import Gone
from ..operations.cancelling import uncancel
from ..operations.problems import IdempotencyConflict, problem_of

KEPT_S: Final = 600.0
KEPT_MAX: Final = 100_000
KEY_CHARS_MAX: Final = 255


class _Entry:
    __slots__ = ("ended", "fingerprint", "key", "since", "task")

    def __init__(self, fingerprint: bytes, key: str, since: float, task: asyncio.Task[Struct]) -> None:
        self.ended: HoldfastError | None = None
        """Why it was told to end before it had an answer."""
        self.fingerprint = fingerprint
        self.key = key
        self.since = since
        self.task = task


class FirstAnswers:
    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock``: seconds, monotonic."""
        self._clock = clock
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        """Oldest first."""

    async def once(
        self, request: bytes, key: str, operation: str, asked: Struct, carry_out: Callable[[], Awaitable[Struct]]
    ) -> tuple[Struct, float]:
        """The answer, and how many milliseconds ago its request came, 0 for the first. What was refused for the moment
        only is not kept. ``key``: id of the API key that ``request`` was made with. Raises
        :class:`IdempotencyConflict` for a ``request`` that was another, and what ended its key meanwhile."""
        self._forget_old()
        fingerprint = blake2b(operation.encode() + b"\0" + msgspec.msgpack.encode(asked), digest_size=16).digest()
        entry = self._entries.get(request)
        now = self._clock()
        if entry is None:
            task = asyncio.ensure_future(_awaited(carry_out))
            entry = self._entries[request] = _Entry(fingerprint, key, now, task)
            task.add_done_callback(lambda done: self._ended(request, done))
        elif entry.fingerprint != fingerprint:
            raise IdempotencyConflict("this Idempotency-Key was used for another request: take a new one for this")
        # Whoever began it may have gone: whoever comes again still gets the answer.
        try:
            return await asyncio.shield(entry.task), 1000 * (now - entry.since)
        except asyncio.CancelledError:
            if entry.ended is None:
                raise
            uncancel()
        await asyncio.wait((entry.task,))
        if entry.task.cancelled():
            raise entry.ended
        return entry.task.result(), 1000 * (now - entry.since)

    def key_gone(self, gone: Gone) -> None:
        """End what is under way under these API keys; whoever waits for its answer is told why."""
        for entry in self._entries.values():
            if entry.key in gone and not entry.task.done():
                entry.ended = gone[entry.key]
                entry.task.cancel()

    def _ended(self, request: bytes, task: asyncio.Task[Struct]) -> None:
        error = None if task.cancelled() else task.exception()
        passing = isinstance(error, HoldfastError) and problem_of(error).http in (429, 503, 504)
        if task.cancelled() or passing or (error is not None and not isinstance(error, HoldfastError)):
            self._entries.pop(request, None)

    def _forget_old(self) -> None:
        entries, now = self._entries, self._clock()
        while entries:
            first = next(iter(entries.values()))
            if not first.task.done() or (now - first.since < KEPT_S and len(entries) < KEPT_MAX):
                return
            entries.popitem(last=False)

    def close(self) -> None:
        for entry in self._entries.values():
            entry.task.cancel()


async def _awaited(carry_out: Callable[[], Awaitable[Struct]]) -> Struct:
    return await carry_out()


def request_id(principal: Principal, key: str) -> bytes:
    """The same on every router. Raises :class:`InvalidArgument`."""
    if not 0 < len(key) <= KEY_CHARS_MAX or not all("!" <= char <= "~" for char in key):
        raise InvalidArgument(f"an Idempotency-Key is 1 to {KEY_CHARS_MAX} ASCII characters without blanks")
    text = f"{principal.tenant}\0{principal.key}\0{key}"
    return blake2b(text.encode(), digest_size=REQUEST_ID_BYTES).digest()


def aged(answer: Struct, age_ms: float) -> Struct:
    """An answer given before, as it is to be understood by who asks now: what expires does so sooner."""
    if age_ms and hasattr(answer, "expires_in_ms"):
        return msgspec.structs.replace(answer, expires_in_ms=max(int(answer.expires_in_ms - age_ms), 0))
    return answer
