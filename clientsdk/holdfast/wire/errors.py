"""Errors and the codes they travel under.

Two kinds, never confused: a *rejection* certainly changed nothing; :class:`OutcomeUnknown` is the only error after
which the operation may or may not have happened.
"""

from __future__ import annotations

import enum
from typing import ClassVar


class Code(enum.IntEnum):
    """Why a whole request was refused (``REFUSED`` messages). All but ``OUTCOME_UNKNOWN`` are rejections."""

    BAD_MESSAGE = 1
    TOO_LARGE = 2
    VERSION = 3
    UNAUTHENTICATED = 4
    WRONG_CLUSTER = 5
    NOT_LEADER = 6
    MOVED = 7
    OVERLOADED = 8
    UNAVAILABLE = 9
    REJECTED = 10
    OUTCOME_UNKNOWN = 11
    INVALID = 12
    NO_SUCH_GROUP = 13
    THROTTLED = 14
    FORBIDDEN = 15
    NOT_FOUND = 16
    CONFLICT = 17


class HoldfastError(Exception):
    """Root of every error that Holdfast raises."""

    code: ClassVar[Code | None] = None


class Rejected(HoldfastError):
    """The operation certainly changed nothing; it may be sent again as a new one."""

    code = Code.REJECTED


class OutcomeUnknown(HoldfastError):
    """The deadline passed without an answer: the operation may or may not have happened."""

    code = Code.OUTCOME_UNKNOWN


class BadMessage(Rejected):
    """The peer sent bytes that are no message of this protocol."""

    code = Code.BAD_MESSAGE


class TooLarge(Rejected):
    """A message, a section or a field is over its limit (``holdfast.wire.limits``)."""

    code = Code.TOO_LARGE


class VersionMismatch(Rejected):
    """The peers speak different versions of the protocol."""

    code = Code.VERSION


class Unauthenticated(Rejected):
    """The API key is missing or unknown."""

    code = Code.UNAUTHENTICATED


class WrongCluster(Rejected):
    """The peer belongs to another cluster, or is not the node it says."""

    code = Code.WRONG_CLUSTER


class NotLeader(Rejected):
    """This node does not lead the group."""

    code = Code.NOT_LEADER


class Moved(Rejected):
    """The name's slot belongs to another group: fetch the slot table again."""

    code = Code.MOVED


class Overloaded(Rejected):
    """A bounded queue is full; ``retry_after_ms`` says when to come again."""

    code = Code.OVERLOADED

    def __init__(self, message: str, retry_after_ms: int = 0) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class Throttled(Rejected):
    """A quota of the tenant is used up for now; ``retry_after_ms`` says when it frees, ``quota`` which one it is."""

    code = Code.THROTTLED

    def __init__(self, message: str, retry_after_ms: int = 0, quota: str = "", limit: int = 0) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms
        self.quota = quota
        self.limit = limit


class Forbidden(Rejected):
    """The API key is known and may not do this: its role, its name prefix, or its tenant is suspended."""

    code = Code.FORBIDDEN


class NotFound(Rejected):
    """There is no tenant, key, lock or session of this name."""

    code = Code.NOT_FOUND


class Conflict(Rejected):
    """It exists already, has changed since it was looked at, or is in a state that does not allow this."""

    code = Code.CONFLICT


class Unavailable(Rejected):
    """No quorum, no leader or no router could be reached within the deadline."""

    code = Code.UNAVAILABLE


class InvalidArgument(Rejected, ValueError):
    """An argument is outside its documented range."""

    code = Code.INVALID


class InvalidName(InvalidArgument):
    """The lock name is outside the rules of ``holdfast.wire.names``."""


class InvalidLockID(InvalidArgument):
    """The text is no LockID, is damaged, or belongs to another tenant."""


class NoSuchGroup(Rejected):
    """The group is not hosted here."""

    code = Code.NO_SUCH_GROUP


_BY_CODE: dict[int, type[HoldfastError]] = {
    kind.code: kind
    for kind in (
        Rejected, OutcomeUnknown, BadMessage, TooLarge, VersionMismatch, Unauthenticated, WrongCluster, NotLeader,
        Moved, Overloaded, Throttled, Forbidden, NotFound, Conflict, Unavailable, InvalidArgument, NoSuchGroup,
    )
    if kind.code is not None
}  # fmt: skip


def error_of(code: int, message: str, retry_after_ms: int = 0, quota: str = "", limit: int = 0) -> HoldfastError:
    """The exception for a refusal; an unknown code of a newer peer is an :class:`OutcomeUnknown`, the safe reading."""
    kind = _BY_CODE.get(code, OutcomeUnknown)
    if kind is Throttled:
        return Throttled(message, retry_after_ms, quota, limit)
    if kind is Overloaded:
        return Overloaded(message, retry_after_ms)
    return kind(message)
