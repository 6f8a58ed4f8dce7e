"""Messages of holdfast.v1 to the requests of ``operations``, and results back. Nothing is decided here."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec
from google.protobuf.duration_pb2 import Duration

from holdfast.errors import InvalidArgument
from holdfast.v1 import locks_pb2 as pb
from holdfast.v1 import sessions_pb2 as spb
from holdfast.v1 import types_pb2 as tpb
from holdfast.wire.frames import Reason

from ..operations import requests as op
from .statuses import duration_of

T = TypeVar("T", bound=msgspec.Struct)

_MODES: Final = {
    tpb.LOCK_MODE_UNSPECIFIED: "exclusive",
    tpb.LOCK_MODE_EXCLUSIVE: "exclusive",
    tpb.LOCK_MODE_SHARED: "shared",
    tpb.LOCK_MODE_PERMITS: "permits",
}
MODES_BACK: Final = {
    "exclusive": tpb.LOCK_MODE_EXCLUSIVE,
    "shared": tpb.LOCK_MODE_SHARED,
    "permits": tpb.LOCK_MODE_PERMITS,
}
REASONS: Final = {reason.name.lower(): tpb.EndReason.Name(int(reason)) for reason in Reason}


def checked(kind: type[T], **fields: object) -> T:
    """Raises :class:`InvalidArgument` for what is out of its range. A field that is None is left out."""
    try:
        return msgspec.convert({name: value for name, value in fields.items() if value is not None}, kind)
    except msgspec.ValidationError as error:
        raise InvalidArgument(_in_these_words(op.complaint(error))) from None


def _in_these_words(complaint: str) -> str:
    """Durations have other names here, and no unit, which the range that is told has."""
    return re.sub(r"`\$\.(\w+?)(_ms)?`", lambda found: f"`{found[1]}`{', in ms' if found[2] else ''}", complaint)


def milliseconds(duration: Duration, *, given: bool) -> int | None:
    """Whole milliseconds, rounded down; None when it was left out."""
    return duration.seconds * 1000 + duration.nanos // 1_000_000 if given else None


def _or_none(number: int) -> int | None:
    """proto3 cannot tell 0 from left out."""
    return number or None


Fields = dict[str, object]


def _acquire(message: pb.AcquireRequest) -> Fields:
    mode = _MODES.get(message.mode)
    if mode is None:
        raise InvalidArgument(f"mode is one of LockMode, not {message.mode}")
    return {
        "name": message.name,
        "ttl_ms": milliseconds(message.ttl, given=message.HasField("ttl")),
        "wait_ms": milliseconds(message.wait, given=message.HasField("wait")),
        "mode": mode,
        "permits": _or_none(message.permits),
        "capacity": _or_none(message.capacity),
        "metadata": message.metadata,
        "lock_delay_ms": milliseconds(message.lock_delay, given=message.HasField("lock_delay")),
        "session": message.session,
        "steal": message.steal,
        "now": message.now,
        "reason": message.reason,
    }


def _named(message: pb.GetRequest) -> Fields:
    return {"name": message.name}


def _granted(message: pb.ReleaseRequest | pb.RenewRequest | pb.CheckRequest) -> Fields:
    grant = message.grant
    return {"name": grant.name, "token": grant.token, "lock_id": grant.lock_id}


def _renew(message: pb.RenewRequest) -> Fields:
    return {**_granted(message), "ttl_ms": milliseconds(message.ttl, given=message.HasField("ttl"))}


def _break(message: pb.ForceReleaseRequest) -> Fields:
    return {"name": message.name, "token": message.token, "reason": message.reason, "now": message.now}


def acquire(message: pb.AcquireRequest) -> op.Acquire:
    return checked(op.Acquire, **_acquire(message))


def release(message: pb.ReleaseRequest) -> op.Release:
    return checked(op.Release, **_granted(message))


def renew(message: pb.RenewRequest) -> op.Renew:
    return checked(op.Renew, **_renew(message))


def check(message: pb.CheckRequest) -> op.Check:
    return checked(op.Check, **_granted(message))


def get(message: pb.GetRequest) -> op.Get:
    return checked(op.Get, **_named(message))


def force_release(message: pb.ForceReleaseRequest) -> op.Break:
    return checked(op.Break, **_break(message))


def list_locks(message: pb.ListRequest) -> op.ListLocks:
    return checked(op.ListLocks, prefix=message.prefix, limit=_or_none(message.page_size), cursor=message.page_token)


def watch(message: pb.WatchRequest) -> op.Watch:
    which = message.WhichOneof("target")
    if which is None:
        raise InvalidArgument("a watch is of a name or of a prefix")
    return checked(op.Watch, **{which: getattr(message, which)})


_BATCHED: Final[dict[str, tuple[type[op.Operation], Callable[..., Fields]]]] = {
    "acquire": (op.AcquireOne, _acquire),
    "release": (op.ReleaseOne, _granted),
    "renew": (op.RenewOne, _renew),
    "get": (op.GetOne, _named),
    "check": (op.CheckOne, _granted),
    "force_release": (op.BreakOne, _break),
}


def batch(message: pb.BatchRequest) -> op.Batch:
    if not 1 <= len(message.operations) <= op.BATCH_OPERATIONS_MAX:
        raise InvalidArgument(f"a batch has 1 to {op.BATCH_OPERATIONS_MAX} operations, not {len(message.operations)}")
    return op.Batch(operations=[_batched(operation) for operation in message.operations])


def _batched(message: pb.BatchOperation) -> op.Operation:
    which = message.WhichOneof("operation")
    if which is None:
        raise InvalidArgument("an operation of a batch says which it is")
    kind, fields_of = _BATCHED[which]
    return checked(kind, **fields_of(getattr(message, which)))


def create_session(message: spb.CreateRequest | spb.AttachRequest) -> op.CreateSession:
    ttl_ms = milliseconds(message.ttl, given=message.HasField("ttl"))
    return checked(op.CreateSession, ttl_ms=ttl_ms, metadata=message.metadata)


def keep_session(session: str, seen: str = "") -> op.KeepSession:
    return checked(op.KeepSession, session=session, seen=seen)


def end_session(session: str) -> op.EndSession:
    return checked(op.EndSession, session=session)


def list_sessions(message: spb.ListSessionsRequest) -> op.ListSessions:
    return checked(op.ListSessions, limit=_or_none(message.page_size), cursor=message.page_token)


# Results.


def grant_of(grant: op.Grant) -> tpb.Grant:
    return tpb.Grant(
        name=grant.name,
        token=grant.token,
        lock_id=grant.lock_id,
        expires_in=duration_of(grant.expires_in_ms),
        session=grant.session,
    )


def lock_of(state: op.LockState) -> tpb.Lock:
    return tpb.Lock(
        name=state.name,
        capacity=state.capacity,
        waiters=state.waiters,
        holders=[_holder_of(holder) for holder in state.holders],
        holder_count=state.holder_count,
        closed_for=duration_of(state.closed_ms),
    )


def _holder_of(holder: op.Holder) -> tpb.Holder:
    return tpb.Holder(
        token=holder.token,
        mode=MODES_BACK[holder.mode],
        permits=holder.permits,
        session_id=holder.session_id,
        metadata=_bytes_of(holder.metadata, holder.metadata_base64),
        held_for=duration_of(holder.held_ms),
        remaining=duration_of(holder.remaining_ms),
        why=holder.why,
        leaving=REASONS.get(holder.leaving),
        count=holder.count,
    )


def _bytes_of(text: str, encoded: str) -> bytes:
    return base64.b64decode(encoded) if encoded else text.encode()


def held_of(kept: op.SessionKept) -> tpb.HeldLocks | None:
    if isinstance(kept.locks, msgspec.UnsetType):
        return None
    return tpb.HeldLocks(locks=[tpb.HeldLock(name=lock.name, token=lock.token) for lock in kept.locks])


def part_of(state: op.SessionState) -> spb.SessionPart:
    return spb.SessionPart(
        id=state.id,
        group=state.group,
        ttl=duration_of(state.ttl_ms),
        remaining=duration_of(state.remaining_ms),
        held=state.held,
        waiting=state.waiting,
        metadata=_bytes_of(state.metadata, state.metadata_base64),
    )
