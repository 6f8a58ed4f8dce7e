"""The table of what is served: requests are decoded by it, and the OpenAPI document is made from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from holdfast import errors
from holdfast.errors import HoldfastError
from holdfast.wire.administration import LOOKS, AdminRequest
from holdfast.wire.errors import Conflict, Forbidden, NotFound, Throttled
from holdfast.wire.limits import TOKEN_MAX

from ..operations import Caller, Operations
from ..operations import requests as ask
from ..operations.problems import IdempotencyConflict
from ..operations.turnstile import is_exempt
from .batches import BatchAnswer, answer_batch

Error = type[HoldfastError]

ALWAYS: Final[tuple[Error, ...]] = (
    errors.InvalidArgument,
    errors.BadMessage,
    errors.Unauthenticated,
    Forbidden,
    Throttled,
    errors.Unavailable,
    errors.OutcomeUnknown,
    errors.TooLarge,
)


class OfToken(ask.Asked, frozen=True, kw_only=True):
    """The grant that is meant, by its fencing token."""

    token: ask.Token


class RenewBody(OfToken, frozen=True, kw_only=True):
    """The grant to renew, and for how long."""

    ttl_ms: ask.Ttl = ask.TTL_MS


class BreakBody(ask.Asked, frozen=True, kw_only=True):
    """What to take, and why."""

    token: Annotated[int, Meta(ge=0, le=TOKEN_MAX, description="Of one holder; 0 for all of them.")] = 0
    reason: ask.Why = ""
    now: Annotated[bool, Meta(description="Do not wait until the holder has stopped believing.")] = False


class AdminAnswer(ask.Told, frozen=True, kw_only=True):
    """What a request is answered with is said where the request is described."""

    result: dict[str, Any]


async def _administer(operations: Operations, caller: Caller, asked: AdminRequest) -> AdminAnswer:
    return AdminAnswer(result=msgspec.to_builtins(await operations.administer(caller, asked)))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``asked`` is made of what path, query and body say together."""

    id: str
    method: str
    path: str
    summary: str
    asked: Any
    """A type, or a union of tagged ones that is the body as a whole."""
    result: type[Struct]
    carry_out: Callable[[Operations, Caller, Any], Awaitable[Struct]]
    body: Any = None
    query: type[Struct] | None = None
    status: int = 200
    errors: tuple[Error, ...] = ()
    example: dict[str, object] = field(default_factory=dict)
    told: dict[str, object] = field(default_factory=dict)
    """Example of an answer."""
    changes: bool = field(init=False)
    """Whether it can be sent again under an Idempotency-Key."""
    exempt: bool = field(init=False)
    """Whether holders need it to keep or to let go of what they have."""
    waits: bool = field(init=False)
    """Whether its answer may be long in coming."""

    def __post_init__(self) -> None:
        # Once and not for each request: frozen dataclasses have no other way to set what they work out.
        object.__setattr__(self, "changes", self.method != "GET" and self.asked not in (ask.Get, ask.Check))
        object.__setattr__(self, "exempt", is_exempt(self.asked))
        object.__setattr__(self, "waits", self.asked in (ask.Acquire, ask.Batch))

    def is_taken_back(self, asked: Struct | None) -> bool:
        """Whether nothing is left of this request when it is cut off, None before it was read; of others it is not
        known what was done by then. Who was stolen from has lost the lock also if the thief never gets it."""
        if asked is None or not self.changes or isinstance(asked, LOOKS):
            return True
        return isinstance(asked, ask.Acquire) and not asked.steal

    @property
    def problems(self) -> tuple[Error, ...]:
        return (*ALWAYS, *((IdempotencyConflict,) if self.changes else ()), *self.errors)


_GRANT: Final[dict[str, object]] = {
    "name": "orders/7", "token": 42, "lock_id": "hf1_…", "expires_in_ms": 29698, "session": "",
}  # fmt: skip
_SESSION: Final[dict[str, object]] = {
    "session": "hfs1_…", "id": "0123456789abcdef0123456789abcdef", "ttl_ms": 30000, "expires_in_ms": 29698,
}  # fmt: skip
_HELD: Final[dict[str, object]] = {"name": "orders/7", "token": 42}
LOCK_STATE: Final[dict[str, object]] = {
    "name": "orders/7", "held": True, "holder_count": 1, "waiters": 2, "capacity": 0, "closed_ms": 0,
    "holders": [
        {
            "token": 42, "mode": "exclusive", "permits": 1, "session_id": "", "metadata": "host-1",
            "metadata_base64": "", "held_ms": 1200, "remaining_ms": 28800, "why": "queued", "leaving": "", "count": 1,
        }
    ],
}  # fmt: skip
_SESSION_STATE: Final[dict[str, object]] = {
    "id": "0123456789abcdef0123456789abcdef", "group": 1, "ttl_ms": 30000, "remaining_ms": 28800, "held": 1,
    "waiting": 0, "metadata": "host-1", "metadata_base64": "",
}  # fmt: skip
_ACQUIRE_ERRORS: Final[tuple[Error, ...]] = (
    errors.LockTimeout,
    errors.AlreadyHeld,
    errors.CapacityMismatch,
    errors.SessionLost,
    errors.LockLost,
    errors.NotHeld,
    errors.QuotaExceeded,
)

ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        "acquireLock", "POST", "/v1/locks/{name}/acquire", "Take a lock", ask.Acquire, ask.Grant, Operations.acquire,
        body=ask.AcquireOptions, errors=_ACQUIRE_ERRORS, example={"ttl_ms": 30000, "wait_ms": 1000}, told=_GRANT,
    ),
    Endpoint(
        "acquire", "POST", "/v1/acquire", "Take a lock; its name in the body", ask.Acquire, ask.Grant,
        Operations.acquire, body=ask.Acquire, errors=_ACQUIRE_ERRORS,
        example={"name": "orders/7", "ttl_ms": 30000, "wait_ms": 1000}, told=_GRANT,
    ),
    Endpoint(
        "releaseLock", "POST", "/v1/locks/{name}/release", "Let go of a lock", ask.Release, ask.Done,
        Operations.release, body=OfToken, errors=(errors.NotHeld,), example={"token": 42}, told={"ok": True},
    ),
    Endpoint(
        "release", "POST", "/v1/release", "Let go of a lock; named in the body", ask.Release, ask.Done,
        Operations.release, body=ask.Release, errors=(errors.NotHeld,), example=_HELD, told={"ok": True},
    ),
    Endpoint(
        "renewLock", "POST", "/v1/locks/{name}/renew", "Extend the lease of a lock", ask.Renew, ask.Renewed,
        Operations.renew, body=RenewBody, errors=(errors.NotHeld, errors.LockLost, errors.QuotaExceeded),
        example={"token": 42, "ttl_ms": 30000}, told={"expires_in_ms": 29698},
    ),
    Endpoint(
        "renew", "POST", "/v1/renew", "Extend the lease of a lock; named in the body", ask.Renew, ask.Renewed,
        Operations.renew, body=ask.Renew, errors=(errors.NotHeld, errors.LockLost, errors.QuotaExceeded),
        example={**_HELD, "ttl_ms": 30000}, told={"expires_in_ms": 29698},
    ),
    Endpoint(
        "getLock", "GET", "/v1/locks/{name}", "Who holds a name, and how many wait", ask.Get, ask.LockState,
        Operations.get, told=LOCK_STATE,
    ),
    Endpoint(
        "get", "POST", "/v1/get", "Who holds a name; given in the body", ask.Get, ask.LockState, Operations.get,
        body=ask.Get, example={"name": "orders/7"}, told=LOCK_STATE,
    ),
    Endpoint(
        "checkLock", "GET", "/v1/locks/{name}/check", "Whether a token still holds a lock", ask.Check, ask.Checked,
        Operations.check, query=OfToken, told={"held": True},
    ),
    Endpoint(
        "check", "POST", "/v1/check", "Whether a grant still holds; named in the body", ask.Check, ask.Checked,
        Operations.check, body=ask.Check, example=_HELD, told={"held": True},
    ),
    Endpoint(
        "listLocks", "GET", "/v1/locks", "Names that are held, awaited or closed", ask.ListLocks, ask.LockList,
        Operations.list_locks, query=ask.ListLocks, told={"locks": [LOCK_STATE], "cursor": "hfc1_…"},
    ),
    Endpoint(
        "breakLock", "POST", "/v1/locks/{name}/break", "Take a lock from its holders (role admin)", ask.Break,
        ask.Done, Operations.break_lock, body=BreakBody, errors=(errors.NotHeld,), example={"reason": "maintenance"},
        told={"ok": True},
    ),
    Endpoint(
        "createSession", "POST", "/v1/sessions", "Make a session", ask.CreateSession, ask.SessionGrant,
        Operations.create_session, body=ask.CreateSession, status=201, errors=(errors.QuotaExceeded,),
        example={"ttl_ms": 30000}, told=_SESSION,
    ),
    Endpoint(
        "listSessions", "GET", "/v1/sessions", "Every session's part in every shard group", ask.ListSessions,
        ask.SessionList, Operations.list_sessions, query=ask.ListSessions,
        told={"sessions": [_SESSION_STATE], "cursor": ""},
    ),
    Endpoint(
        "keepSession", "POST", "/v1/sessions/{session}/keepalive", "Extend a session by its TTL", ask.KeepSession,
        ask.SessionKept, Operations.keep_session, body=ask.KeepSessionOptions, errors=(errors.SessionLost,),
        example={"seen": "1:3,2:0"}, told={**_SESSION, "seen": "1:4,2:0", "locks": [_HELD]},
    ),
    Endpoint(
        "endSession", "DELETE", "/v1/sessions/{session}", "End a session, and let go of all it holds", ask.EndSession,
        ask.Done, Operations.end_session, errors=(errors.SessionLost,), told={"ok": True},
    ),
    Endpoint(
        "batch", "POST", "/v1/batch", "Many operations in one request", ask.Batch, BatchAnswer, answer_batch,
        body=ask.Batch, example={"operations": [{"op": "acquire", "name": "orders/7"}, {"op": "check", **_HELD}]},
        told={"results": [{"status": 200, "result": _GRANT}, {"status": 200, "result": {"held": True}}]},
    ),
    Endpoint(
        "administer", "POST", "/v1/admin", "Tenants, keys, the audit log (role admin)", AdminRequest, AdminAnswer,
        _administer, body=AdminRequest, errors=(NotFound, Conflict, errors.NotHeld),
        example={"type": "key.create", "name": "worker", "role": "locks"},
        told={"result": {"key": {"id": "abcdefghijkl", "name": "worker"}, "api_key": "hf_…"}},
    ),
)  # fmt: skip
