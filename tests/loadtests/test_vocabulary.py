"""What counts as refused, as busy and as failed; and releases that are asked for again."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.rpc import error_details_pb2, status_pb2

from holdfast.errors import LockTimeout, OutcomeUnknown, Overloaded, QuotaExceeded, Throttled
from loadtests.locust import grpc_calls, sdk_calls
from loadtests.locust.vocabulary import Grant, NotDone, Outcome, Vocabulary
from loadtests.locust.witness import Witness

GRANT = Grant("a", 7, "hf1_x", 130.0)


class Scripted(Vocabulary):
    """Answers as it was told to."""

    def __init__(self, *answers: object) -> None:
        self.witness = Witness()
        self.answers = list(answers)
        self.asked: list[str] = []
        self.faults: list[str] = []

    def ask(self, verb: str, **arguments: Any) -> Any:
        self.asked.append(verb)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def accuse(self, fault: str) -> None:
        self.faults.append(fault)

    def pause(self, why: NotDone) -> None:
        self.asked.append("pause")


@pytest.mark.parametrize(
    ("error", "code", "outcome"),
    [
        (LockTimeout("a", 1.0), "lock-timeout", Outcome.BUSY),
        (Throttled("slowly", 70), "throttled", Outcome.TOO_MUCH),
        (QuotaExceeded("waiters", 5), "quota-exceeded", Outcome.TOO_MUCH),
        (Overloaded("full", 70), "overloaded", Outcome.NOT_NOW),
        (OutcomeUnknown("late"), "outcome-unknown", Outcome.FAILED),
    ],
)
def test_errors_of_the_sdk_have_the_codes_of_the_fronts(error: Any, code: str, outcome: Outcome) -> None:
    why = sdk_calls.explained(error)
    assert (why.code, why.outcome) == (code, outcome)
    assert why.retry_after_ms == getattr(error, "retry_after_ms", 0)


def call_error(code: grpc.StatusCode, *details: Any) -> grpc.aio.AioRpcError:
    status = status_pb2.Status()
    for detail in details:
        packed = Packed()
        packed.Pack(detail)
        status.details.append(packed)
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString()))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, "why")


def test_errors_of_grpc_have_them_too() -> None:
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(70)
    error = call_error(grpc.StatusCode.RESOURCE_EXHAUSTED, error_details_pb2.ErrorInfo(reason="QUOTA_EXCEEDED"), retry)
    why = grpc_calls.explained(error)
    assert (why.code, why.outcome, why.retry_after_ms) == ("quota-exceeded", Outcome.TOO_MUCH, 70)
    assert grpc_calls.explained(call_error(grpc.StatusCode.UNAVAILABLE)).outcome is Outcome.NOT_NOW
    assert grpc_calls.explained(call_error(grpc.StatusCode.DEADLINE_EXCEEDED)).outcome is Outcome.FAILED


def test_a_release_that_is_refused_is_asked_for_again() -> None:
    user = Scripted(GRANT, NotDone("overloaded"), NotDone("unavailable"), None)
    user.release(user.acquire("a"))
    assert user.asked == ["acquire", "release", "pause", "release", "pause", "release"]


def test_a_release_that_fails_is_not() -> None:
    user = Scripted(GRANT, NotDone("lock-lost"))
    grant = user.acquire("a")
    with pytest.raises(NotDone, match="lock-lost"):
        user.release(grant)
    assert user.asked == ["acquire", "release"]


def test_what_cannot_be_granted_is_a_failure() -> None:
    user = Scripted(GRANT, GRANT)
    user.acquire("a")
    user.acquire("a")
    assert len(user.faults) == 1
