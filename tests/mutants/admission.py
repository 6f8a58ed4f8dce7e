"""Bugs of quotas at the routers, and of how the SDK bears them."""

from __future__ import annotations

from dataclasses import replace

from holdfast.core import batch, lane
from holdfast.core.batch import Batch
from holdfast.core.lane import Lane
from holdfast.core.write_lane import WriteLane
from holdfast.wire import exempt
from holdfast.wire.exempt import EXEMPT
from holdfast.wire.frames import Options
from holdfast.wire.messages import Refusal
from holdfast.wire.tenants import Quotas
from holdfast_router.admission.bucket import TokenBucket
from holdfast_router.admission.credits import Credits, Row, _Account
from holdfast_router.admission.gate import Gate
from holdfast_router.admission.in_flight import InFlight
from holdfast_router.admission.shares import Shares
from holdfast_router.admission.verdict import Later, Verdict

from .mutant import Mutant, Promise, Selection, patch, patches

_BUCKET = Selection(("tests/router/admission/test_bucket.py",))
_CREDITS = Selection(("tests/router/admission/test_credits.py",))
_THROTTLED = Selection(("tests/sdk/core/test_throttled.py",))
_GATE = Selection(("tests/router/admission/test_gate.py",))
_EXEMPT = Selection(("tests/wire/test_exempt.py",))


def _takes_from_nothing(self: TokenBucket, operations: int, now: float) -> bool:
    self.refill(now)
    self.tokens = max(self.tokens - operations, 0.0)
    return True


def _starts_full_again(self: TokenBucket, rate: float, burst: float, now: float) -> None:
    self.__init__(rate, burst, now)  # type: ignore[misc]


def _admits_the_whole_quota(self: Shares, tenant: int, quotas: Quotas, now: float) -> TokenBucket:
    self._routers = lambda: 1
    return _BUCKET_OF(self, tenant, quotas, now)


def _keeps_what_was_overdrawn_to_itself(self: Credits, tenant: int, account: _Account, now: float) -> Row | None:
    row = _ROW(self, tenant, account, now)
    return replace(row, spent=min(row.spent, 0)) if row is not None else None


def _keeps_what_is_exempt_to_itself(self: Credits, tenant: int, account: _Account, now: float) -> Row | None:
    row = _ROW(self, tenant, account, now)
    return replace(row, exempt=0) if row is not None else None


def _forgets_who_waits(self: Credits) -> list[object]:
    _CLOSE(self)
    return []


def _exempts_nothing(self: Gate, tenant: int, operations: int, *, exempt: bool = False) -> Verdict | Later:
    return _ASK(self, tenant, operations)


def _exempts_every_end(kind: int, options: Options | None, *, vouched: bool = False) -> bool:
    return kind in EXEMPT


_ASK = Gate.ask
_BUCKET_OF, _ROW, _CLOSE = Shares.bucket, Credits._row, Credits.close


# The SDK.


def _is_sure_of_every_copy(self: Lane, batch: Batch, refusal: Refusal) -> None:
    batch.maybe = False
    _THROTTLE(self, batch, refusal)


def _floor_of_the_whole_ones(self: WriteLane) -> int:
    floor = next(iter(self._unanswered), self.next_seq)
    return min(floor, *self._pinned) if self._pinned else floor


def _lets_newcomers_through(self: Lane, refusal: Refusal) -> None:
    _HOLD_BACK(self, refusal)
    self._free_ms = 0.0


_THROTTLE, _HOLD_BACK = Lane._throttled, Lane.hold_back


MUTANTS = (
    Mutant(
        "an empty bucket admits", Promise.COUNTED, patch(TokenBucket, "take", _takes_from_nothing), (_BUCKET,),
    ),
    Mutant(
        "a changed quota fills the bucket", Promise.COUNTED, patch(TokenBucket, "resize", _starts_full_again),
        (_BUCKET,),
    ),
    Mutant(
        "what is never refused is not charged", Promise.COUNTED,
        patch(TokenBucket, "charge", lambda self, operations, now: None), (_BUCKET, _CREDITS),
    ),
    Mutant(
        "every router admits the whole quota", Promise.COUNTED, patch(Shares, "bucket", _admits_the_whole_quota),
        (_BUCKET,),
    ),
    Mutant(
        "what ended stays in flight", Promise.COUNTED, patch(InFlight, "end", lambda self, *ended: None), (_BUCKET,),
    ),
    Mutant(
        "what a router overdrew is not told", Promise.COUNTED,
        patch(Credits, "_row", _keeps_what_was_overdrawn_to_itself), (_CREDITS,),
    ),
    Mutant(
        "what is never refused is not told", Promise.COUNTED, patch(Credits, "_row", _keeps_what_is_exempt_to_itself),
        (_CREDITS,),
    ),
    Mutant(
        "a second burst after an outage", Promise.COUNTED, patch(Credits, "reopen", lambda self, ceilings: None),
        (_CREDITS,),
    ),
    Mutant(
        "who waits for Redis is forgotten with it", Promise.ANSWERED, patch(Credits, "close", _forgets_who_waits),
        (_CREDITS,),
    ),
    Mutant(
        "releases refused when the quota is used up", Promise.NOTHING_LEFT, patch(Gate, "ask", _exempts_nothing),
        (_GATE,),
    ),
    Mutant(
        "routers never refuse the end of another's session", Promise.COUNTED,
        patch(exempt, "is_exempt", _exempts_every_end), (_EXEMPT,),
    ),
    Mutant(
        "the end of another's session sent apart with releases", Promise.NOTHING_LEFT,
        patches(patch(batch, "is_exempt", _exempts_every_end), patch(lane, "is_exempt", _exempts_every_end)),
        (_THROTTLED,),
    ),
    Mutant(
        "releases wait with what was throttled", Promise.NOTHING_LEFT, patch(Lane, "_part", lambda self, batch: None),
        (_THROTTLED,),
    ),
    Mutant(
        "throttled although an earlier copy may live", Promise.REJECTED,
        patch(Lane, "_throttled", _is_sure_of_every_copy), (_THROTTLED,),
    ),
    Mutant(
        "the floor passes what left a throttled section", Promise.ONCE,
        patch(WriteLane, "floor", property(_floor_of_the_whole_ones)), (_THROTTLED,),
    ),
    Mutant(
        "newcomers do not wait behind what was throttled", Promise.IN_TURN,
        patch(Lane, "hold_back", _lets_newcomers_through), (_THROTTLED,),
    ),
)  # fmt: skip
