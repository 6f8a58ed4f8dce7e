"""Answers that many operations share, and checks of what operations carry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from holdfast.wire.errors import InvalidName
from holdfast.wire.frames import Options, Reason, Status
from holdfast.wire.limits import METADATA_BYTES_MAX, REASON_BYTES_MAX, TTL_MS_MAX, TTL_MS_MIN
from holdfast.wire.names import check_name

from .rows import Answer, Client, Lease, Tenant

Handler = Callable[[Client, int, int, str, int, int, int, int, Options], Answer]
"""(client, seq, slot, name, lease, token, ttl, wait, options) -> (status, token, deadline, detail). The deadline counts
from this entry's reading. A refusal changes nothing."""

PLAIN_OPTIONS: Final = Options()
OK, QUEUED, BUSY, CHANGED = int(Status.OK), int(Status.QUEUED), int(Status.BUSY), int(Status.CHANGED)
DONE: Final[Answer] = (OK, 0, 0, None)
NOT_HELD: Final[Answer] = (int(Status.NOT_HELD), 0, 0, None)
CANCELLED: Final[Answer] = (int(Status.CANCELLED), 0, 0, None)


def refused(status: Status, detail: object = None) -> Answer:
    return (int(status), 0, 0, detail)


def invalid(what: str) -> Answer:
    return (int(Status.INVALID), 0, 0, what)


def wrong_name(name: str) -> Answer | None:
    """Asked only where no row has the name: rows have good names alone."""
    try:
        check_name(name)
    except InvalidName as error:
        return invalid(str(error))
    return None


def wrong_ttl(ttl: int, tenant: Tenant) -> Answer | None:
    if TTL_MS_MIN <= ttl <= tenant.ttl_max:
        return None
    if TTL_MS_MIN <= ttl <= TTL_MS_MAX:
        return refused(Status.QUOTA_TTL, tenant.ttl_max)
    return invalid(f"ttl is {TTL_MS_MIN} to {TTL_MS_MAX} ms")


def wrong_texts(options: Options, tenant: Tenant) -> Answer | None:
    if len(options.metadata) > METADATA_BYTES_MAX:
        return invalid(f"metadata has at most {METADATA_BYTES_MAX} bytes")
    if len(options.reason) * 4 > REASON_BYTES_MAX and len(options.reason.encode()) > REASON_BYTES_MAX:
        return invalid(f"a reason has at most {REASON_BYTES_MAX} bytes")
    if len(options.metadata) > tenant.metadata_max:
        return refused(Status.QUOTA_METADATA, tenant.metadata_max)
    return None


def lease_ended(client: Client, number: int, lease: Lease | None) -> Answer:
    """``LEASE_ENDED`` with [reason, text]; the reason is NONE when it is not known, or not any more."""
    if lease is not None:
        return refused(Status.LEASE_ENDED, [lease.dead or lease.doomed, lease.text])
    _, reason, text = client.ended.get(number, (0, int(Reason.NONE), ""))
    return refused(Status.LEASE_ENDED, [reason, text])
