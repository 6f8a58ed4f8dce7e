"""First answers of requests that come again: whose they are, how old they are, how many there may be."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import Struct

from holdfast.wire.errors import Overloaded, Unavailable
from holdfast.wire.tenants import KeyRole, Principal
from holdfast_router.http import idempotency
from holdfast_router.http.batches import BatchAnswer, BatchResult
from holdfast_router.http.idempotency import FirstAnswers
from holdfast_router.http.replays import aged
from holdfast_router.operations import Caller
from holdfast_router.operations.problems import IdempotencyConflict
from holdfast_router.operations.requests import Done, Renewed

ASKED = Done()


def caller(tenant: int, key: str, arrived_ms: float = 0.0) -> Caller:
    return Caller(Principal(tenant, "key", KeyRole.LOCKS), arrived_ms, request=key.encode())


class Work:
    """Counts how often it is carried out."""

    def __init__(self, answer: Struct | Exception = ASKED) -> None:
        self.answer = answer
        self.times = 0

    async def __call__(self) -> Struct:
        self.times += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_what_a_batch_was_granted_expires_for_who_asks_again_as_for_who_asked_first() -> None:
    results = [BatchResult(status=200, result={"token": 7, "expires_in_ms": 30_000}), BatchResult(status=409)]
    again = aged(BatchAnswer(results=results), 20_000.5)
    assert isinstance(again, BatchAnswer)
    assert [one.result for one in again.results] == [{"token": 7, "expires_in_ms": 9_999}, results[1].result]
    late = aged(BatchAnswer(results=results), 40_000)
    assert isinstance(late, BatchAnswer)
    assert late.results[0].result == {"token": 7, "expires_in_ms": 0}


async def test_an_answers_age_is_the_time_between_the_arrivals_that_its_times_count_from() -> None:
    first_answers, work = FirstAnswers(), Work(Renewed(expires_in_ms=30_000))
    assert await first_answers.once(caller(1, "a", 1000.0), "renew", ASKED, work) == (work.answer, 0.0)
    answer, age_ms = await first_answers.once(caller(1, "a", 9500.0), "renew", ASKED, work)
    assert (aged(answer, age_ms), work.times) == (Renewed(expires_in_ms=21_500), 1)


async def test_answers_are_kept_for_ten_minutes_and_refusals_of_the_moment_not_at_all() -> None:
    first_answers, work, busy = FirstAnswers(), Work(), Work(Unavailable("later"))
    for arrived_ms, times in ((0.0, 1), (599_999.0, 1), (600_000.0, 2)):
        await first_answers.once(caller(1, "a", arrived_ms), "renew", ASKED, work)
        assert work.times == times
    for times in (1, 2):
        with pytest.raises(Unavailable):
            await first_answers.once(caller(1, "b", 600_000.0), "renew", ASKED, busy)
        await asyncio.sleep(0)
        assert busy.times == times


async def test_one_tenants_answers_make_room_for_its_own_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "KEPT_PER_TENANT_MAX", 3)
    monkeypatch.setattr(idempotency, "KEPT_MAX", 4)
    first_answers, quiet, loud = FirstAnswers(), Work(), Work()
    await first_answers.once(caller(1, "a"), "renew", ASKED, quiet)
    for number in range(10):
        await first_answers.once(caller(2, str(number)), "renew", ASKED, loud)
    await first_answers.once(caller(1, "a"), "renew", ASKED, quiet)
    assert quiet.times == 1, "another's flood made it be forgotten"
    await first_answers.once(caller(2, "9"), "renew", ASKED, loud)
    assert loud.times == 10
    await first_answers.once(caller(2, "0"), "renew", ASKED, loud)
    assert loud.times == 11, "its own oldest has made room"


async def test_what_goes_on_without_its_caller_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "UNDER_WAY_PER_TENANT_MAX", 2)
    first_answers, ends = FirstAnswers(), asyncio.Event()

    async def work() -> Struct:
        await ends.wait()
        return ASKED

    gone = [asyncio.create_task(first_answers.once(caller(1, key), "acquire", ASKED, work)) for key in "ab"]
    await asyncio.sleep(0)
    for task in gone:
        task.cancel()
    with pytest.raises(Overloaded):
        await first_answers.once(caller(1, "c"), "acquire", ASKED, work)
    other = asyncio.create_task(first_answers.once(caller(2, "c"), "acquire", ASKED, work))
    await asyncio.sleep(0)
    ends.set()
    assert (await other)[0] == ASKED
    assert (await first_answers.once(caller(1, "c"), "acquire", ASKED, work))[0] == ASKED


async def test_another_request_under_the_same_key_is_refused_and_not_carried_out() -> None:
    first_answers, work = FirstAnswers(), Work()
    await first_answers.once(caller(1, "a"), "renew", Renewed(expires_in_ms=1), work)
    for operation, asked in (("renew", Renewed(expires_in_ms=2)), ("release", Renewed(expires_in_ms=1))):
        with pytest.raises(IdempotencyConflict):
            await first_answers.once(caller(1, "a"), operation, asked, work)
    assert work.times == 1


def test_nobody_elses_key_makes_the_same_request() -> None:
    ids = {
        idempotency.request_id(Principal(tenant, api_key, KeyRole.LOCKS), key)
        for tenant in (1, 2)
        for api_key in ("one", "two")
        for key in ("a", "b")
    }
    assert len(ids) == 8
    assert idempotency.request_id(Principal(1, "one", KeyRole.ADMIN), "a") in ids, "whatever else is known of who asks"
