"""Answers of a batch: each a result or a problem, with the status it would have had by itself."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from holdfast.errors import HoldfastError

from ..operations import Caller, Operations
from ..operations.requests import Batch, Told
from .problem_details import ProblemDetails, details_of


class BatchResult(Told, frozen=True, kw_only=True, omit_defaults=True):
    """``result`` as the operation has it by itself, or ``problem``."""

    status: int
    result: dict[str, Any] | UnsetType = UNSET
    problem: ProblemDetails | UnsetType = UNSET


class BatchAnswer(Told, frozen=True, kw_only=True):
    results: list[BatchResult]


async def answer_batch(operations: Operations, caller: Caller, asked: Batch) -> BatchAnswer:
    return BatchAnswer(results=[_answer(result) for result in await operations.batch(caller, asked)])


def _answer(result: Struct | HoldfastError) -> BatchResult:
    if isinstance(result, HoldfastError):
        problem = details_of(result)
        return BatchResult(status=problem.status, problem=problem)
    return BatchResult(status=200, result=msgspec.to_builtins(result))
