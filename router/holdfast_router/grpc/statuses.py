"""Errors as gRPC tells them: a status, and in its details why, when to come again and which quota (google.rpc)."""

from __future__ import annotations

from typing import Final

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, QuotaFailure, RetryInfo
from google.rpc.status_pb2 import Status

from holdfast.errors import HoldfastError, QuotaExceeded
from holdfast.wire.errors import Throttled

from ..operations import problem_of

DOMAIN: Final = "holdfast"
DETAILS: Final = "grpc-status-details-bin"
"""Metadata in which google.rpc.Status travels beside the status itself."""
MESSAGE_CHARS_MAX: Final = 1024
"""Of a status: it travels as a header."""


def status_of(error: HoldfastError) -> grpc.StatusCode:
    return grpc.StatusCode[problem_of(error).grpc]


def reason_of(error: HoldfastError) -> str:
    """The stable code as ErrorInfo spells it."""
    return problem_of(error).slug.upper().replace("-", "_")


def retry_after_ms(error: HoldfastError) -> int:
    found: int = getattr(error, "retry_after_ms", 0)
    return found


def duration_of(milliseconds: int) -> Duration:
    return Duration(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)


def details_of(error: HoldfastError, *, definite: bool = True) -> bytes:
    """The encoded google.rpc.Status. ``definite``: False when something may have been done all the same."""
    metadata = {"definite": "true" if definite and problem_of(error).definite else "false"}
    details: list[Message] = [ErrorInfo(reason=reason_of(error), domain=DOMAIN, metadata=metadata)]
    if retry_after_ms(error):
        details.append(RetryInfo(retry_delay=duration_of(retry_after_ms(error))))
    quota = _quota_of(error)
    if quota is not None:
        subject, limit = quota
        violation = QuotaFailure.Violation(subject=f"quota:{subject}", description=f"limit {limit}")
        details.append(QuotaFailure(violations=[violation]))
    packed = [Any() for _ in details]
    for box, detail in zip(packed, details, strict=True):
        box.Pack(detail)
    code: int = status_of(error).value[0]
    encoded: bytes = Status(code=code, message=message_of(error), details=packed).SerializeToString()
    return encoded


def message_of(error: HoldfastError) -> str:
    return str(error)[:MESSAGE_CHARS_MAX]


def _quota_of(error: HoldfastError) -> tuple[str, int] | None:
    if isinstance(error, Throttled):
        return error.quota, error.limit
    if isinstance(error, QuotaExceeded):
        return error.which, error.limit
    return None
