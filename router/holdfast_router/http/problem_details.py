"""Errors as ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

import math
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from holdfast.errors import HoldfastError, LockLost, QuotaExceeded, SessionLost
from holdfast.wire.errors import Throttled

from ..operations.problems import TYPE_PREFIX, problem_of

MEDIA_TYPE = "application/problem+json"


class ProblemDetails(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``code`` is stable; programs decide by it. ``definite``: it is certain that nothing happened."""

    type: Annotated[str, Meta(description=f"{TYPE_PREFIX}CODE")]
    code: str
    title: str
    status: int
    detail: str
    definite: bool | UnsetType = UNSET
    retry_after_ms: Annotated[int, Meta(description="When it can be had.")] | UnsetType = UNSET
    quota: Annotated[str, Meta(description="Which quota is used up.")] | UnsetType = UNSET
    limit: Annotated[int, Meta(description="How much of it there is.")] | UnsetType = UNSET
    reason: Annotated[str, Meta(description="Why the lock or the session was lost.")] | UnsetType = UNSET

    @property
    def headers(self) -> dict[str, str]:
        found = {}
        if self.retry_after_ms is not UNSET:
            found["retry-after"] = str(max(math.ceil(self.retry_after_ms / 1000), 1))
        if self.status == 401:
            found["www-authenticate"] = 'Bearer realm="holdfast"'
        return found


def details_of(error: HoldfastError) -> ProblemDetails:
    problem = problem_of(error)
    quota: str | UnsetType = UNSET
    limit: int | UnsetType = UNSET
    if isinstance(error, QuotaExceeded):
        quota, limit = error.which, error.limit
    elif isinstance(error, Throttled):
        quota, limit = error.quota, error.limit
    retry_after_ms = getattr(error, "retry_after_ms", 0)
    return ProblemDetails(
        type=problem.type,
        code=problem.slug,
        title=problem.title,
        status=problem.http,
        detail=str(error),
        definite=problem.definite,
        retry_after_ms=retry_after_ms or (RETRY_MS if problem.http == 503 else UNSET),
        quota=quota,
        limit=limit,
        reason=error.reason.name.lower() if isinstance(error, LockLost | SessionLost) else UNSET,
    )


RETRY_MS = 1000
"""When nothing better is known: about what an election takes."""


def plain_problem(status: int, slug: str, title: str, detail: str) -> ProblemDetails:
    """What only HTTP knows: no such path, method or media type."""
    return ProblemDetails(type=TYPE_PREFIX + slug, code=slug, title=title, status=status, detail=detail, definite=True)
