"""Bugs where requests come again, and where callers come too often."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import blake2b

from msgspec import Struct

from holdfast.wire.limits import REQUEST_ID_BYTES
from holdfast.wire.messages import Refusal
from holdfast.wire.tenants import Principal
from holdfast_router.admission.gate import Gate
from holdfast_router.haste import Haste
from holdfast_router.http import idempotency
from holdfast_router.http.idempotency import FirstAnswers
from holdfast_router.operations import Caller
from holdfast_router.operations.requests import Done

from .mutant import Mutant, Promise, Selection, patch

_IDEMPOTENCY = Selection(("tests/router/test_idempotency.py",))
_HASTE = Selection(("tests/router/test_haste.py",))
_HASTY = Selection(("tests/router/test_requests.py",))
_GATE = Selection(("tests/router/admission/test_gate.py",))


async def _every_time(
    self: FirstAnswers, caller: Caller, operation: str, asked: Struct, carry_out: Callable[[], Awaitable[Struct]]
) -> tuple[Struct, float]:
    return await carry_out(), 0.0


async def _whatever_is_asked(
    self: FirstAnswers, caller: Caller, operation: str, asked: Struct, carry_out: Callable[[], Awaitable[Struct]]
) -> tuple[Struct, float]:
    return await _ONCE(self, caller, "", _ALIKE, carry_out)


def _of_the_tenant(principal: Principal, key: str) -> bytes:
    return blake2b(f"{principal.tenant}\0{key}".encode(), digest_size=REQUEST_ID_BYTES).digest()


def _whatever_it_was(self: Haste, group: int, kind: int, patience_s: float, size: int) -> Refusal | None:
    return next((refusal for refusal, *_ in self._last.values()), None)


_ONCE = FirstAnswers.once
_ALIKE = Done()

MUTANTS = (
    Mutant(
        "an Idempotency-Key not looked at", Promise.ONCE, patch(FirstAnswers, "once", _every_time), (_IDEMPOTENCY,),
    ),
    Mutant(
        "another request under the same Idempotency-Key given the first one's answer", Promise.KEPT,
        patch(FirstAnswers, "once", _whatever_is_asked), (_IDEMPOTENCY,),
    ),
    Mutant(
        "one Idempotency-Key for all API keys of a tenant", Promise.APART,
        patch(idempotency, "request_id", _of_the_tenant), (_IDEMPOTENCY,),
    ),
    Mutant(
        "who ignores when to come again is read as ever", Promise.IN_TURN,
        patch(Haste, "refused", lambda self, group, retry_after_ms, now: False), (_HASTE,),
    ),
    Mutant(
        "a hasty caller's refusal is told whatever came with it", Promise.IN_TURN,
        patch(Haste, "alike", _whatever_it_was), (_HASTY,),
    ),
    Mutant(
        "watchers are told free of charge", Promise.IN_TURN, patch(Gate, "told", lambda self, tenant, watchers: None),
        (_GATE,),
    ),
)  # fmt: skip
