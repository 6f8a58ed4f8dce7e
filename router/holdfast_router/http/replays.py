"""First answers as whoever asks again has to understand them: what expires does so sooner, what was lost is lost."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, UnsetType

from holdfast.errors import HoldfastError, NotHeld

from ..operations import Caller, Operations
from ..operations.requests import Batch, Check, Checked, CheckOne, Grant
from .batches import BatchAnswer, BatchResult
from .problem_details import details_of


async def told_again(operations: Operations, caller: Caller, answer: Struct, age_ms: float) -> Struct:
    """``answer``, given to a request that came ``age_ms`` before. A grant is looked at: whoever had it may have let go
    of it, or been robbed of it. Raises :class:`NotHeld`, and what comes in the way of looking."""
    answer = aged(answer, age_ms)
    if isinstance(answer, Grant):
        checked = await operations.check(caller, Check(name=answer.name, token=answer.token))
        if not checked.held:
            raise _over()
    if isinstance(answer, BatchAnswer):
        return BatchAnswer(results=await _checked(operations, caller, answer.results))
    return answer


async def _checked(operations: Operations, caller: Caller, results: list[BatchResult]) -> list[BatchResult]:
    grants = {at: _lock_id(one) for at, one in enumerate(results) if _lock_id(one)}
    if not grants:
        return results
    asked = Batch(operations=[CheckOne(lock_id=lock_id) for lock_id in grants.values()])
    found = list(results)
    for at, checked in zip(grants, await operations.batch(caller, asked), strict=True):
        if isinstance(checked, HoldfastError):
            raise checked
        if isinstance(checked, Checked) and not checked.held:
            problem = details_of(_over())
            found[at] = BatchResult(status=problem.status, problem=problem)
    return found


def _over() -> NotHeld:
    return NotHeld("what this request was granted when it first came is held no more: ask under another key")


def _lock_id(one: BatchResult) -> str:
    return "" if isinstance(one.result, UnsetType) else one.result.get("lock_id", "")


def aged(answer: Struct, age_ms: float) -> Struct:
    """What expires counts from when the request came that asks now."""
    if isinstance(answer, BatchAnswer):
        results = [msgspec.structs.replace(one, result=_sooner(one.result, age_ms)) for one in answer.results]
        return BatchAnswer(results=results)
    if hasattr(answer, "expires_in_ms"):
        return msgspec.structs.replace(answer, expires_in_ms=_left(answer.expires_in_ms, age_ms))
    return answer


def _sooner(result: dict[str, Any] | UnsetType, age_ms: float) -> dict[str, Any] | UnsetType:
    if isinstance(result, UnsetType) or "expires_in_ms" not in result:
        return result
    return {**result, "expires_in_ms": _left(result["expires_in_ms"], age_ms)}


def _left(expires_in_ms: int, age_ms: float) -> int:
    return max(int(expires_in_ms - age_ms), 0)
