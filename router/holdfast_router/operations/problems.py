"""Errors as callers of HTTP and gRPC see them: one row for each kind, used by both fronts.

The ``slug`` is the stable code: programs decide by it, people read the message.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from holdfast import errors
from holdfast.errors import HoldfastError
from holdfast.wire.errors import Conflict, Forbidden, NotFound, Throttled

TYPE_PREFIX: Final = "urn:holdfast:error:"


class IdempotencyConflict(errors.Rejected):
    """The Idempotency-Key was used for another request already."""


class Problem(Struct, frozen=True):
    slug: str
    title: str
    http: int
    grpc: str
    """Name of the ``grpc.StatusCode``."""
    definite: bool = True
    """Whether it is certain that nothing happened."""

    @property
    def type(self) -> str:
        return TYPE_PREFIX + self.slug


PROBLEMS: Final[dict[type[HoldfastError], Problem]] = {
    errors.InvalidName: Problem("invalid-name", "The lock name cannot be", 400, "INVALID_ARGUMENT"),
    errors.InvalidLockID: Problem("invalid-lock-id", "This is no LockID of this tenant", 400, "INVALID_ARGUMENT"),
    errors.InvalidArgument: Problem("invalid-argument", "An argument is out of its range", 400, "INVALID_ARGUMENT"),
    errors.BadMessage: Problem("bad-request", "The request cannot be read", 400, "INVALID_ARGUMENT"),
    errors.TooLarge: Problem("too-large", "The request is too large", 413, "INVALID_ARGUMENT"),
    IdempotencyConflict: Problem(
        "idempotency-key-reused", "The Idempotency-Key belongs to another request", 422, "INVALID_ARGUMENT"
    ),
    errors.Unauthenticated: Problem("unauthenticated", "The API key is missing or unknown", 401, "UNAUTHENTICATED"),
    Forbidden: Problem("forbidden", "The API key may not do this", 403, "PERMISSION_DENIED"),
    NotFound: Problem("not-found", "There is nothing of this name", 404, "NOT_FOUND"),
    Conflict: Problem("conflict", "Its state does not allow this", 409, "FAILED_PRECONDITION"),
    errors.LockTimeout: Problem("lock-timeout", "The lock was not had in time", 409, "ABORTED"),
    errors.AlreadyHeld: Problem("already-held", "The session has this lock already", 409, "ALREADY_EXISTS"),
    errors.CapacityMismatch: Problem(
        "capacity-mismatch", "The semaphore has another capacity", 409, "FAILED_PRECONDITION"
    ),
    errors.NotHeld: Problem("not-held", "The grant holds nothing any more", 409, "FAILED_PRECONDITION"),
    errors.LockLost: Problem("lock-lost", "The lock is being taken away", 409, "FAILED_PRECONDITION"),
    errors.SessionLost: Problem("session-lost", "There is no such session any more", 404, "NOT_FOUND"),
    errors.QuotaExceeded: Problem("quota-exceeded", "A quota is used up", 429, "RESOURCE_EXHAUSTED"),
    Throttled: Problem("throttled", "The rate is used up for now", 429, "RESOURCE_EXHAUSTED"),
    errors.Overloaded: Problem("overloaded", "The service is busy", 503, "UNAVAILABLE"),
    errors.Unavailable: Problem("unavailable", "No answer could be had in time", 503, "UNAVAILABLE"),
    errors.OutcomeUnknown: Problem(
        "outcome-unknown", "It may or may not have happened", 504, "DEADLINE_EXCEEDED", definite=False
    ),
    errors.Rejected: Problem("rejected", "Nothing was done", 503, "UNAVAILABLE"),
}


def problem_of(error: HoldfastError) -> Problem:
    return problem_of_kind(type(error))


def problem_of_kind(kind: type[HoldfastError]) -> Problem:
    """The row of the nearest class; of what has none it is not known whether it happened."""
    found = next((PROBLEMS[base] for base in kind.__mro__ if base in PROBLEMS), None)
    return found or PROBLEMS[errors.OutcomeUnknown]
